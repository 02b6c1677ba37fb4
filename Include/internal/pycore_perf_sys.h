/* The functions of native profiling in the sys module. */

#ifndef Py_INTERNAL_PERF_SYS_H
#define Py_INTERNAL_PERF_SYS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* For PyModule_AddFunctions(), with the terminating entry. */
extern PyMethodDef _PyPerf_SysMethods[];

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_SYS_H */
