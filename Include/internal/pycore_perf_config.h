/* PyConfig.perf_profiling. */

#ifndef Py_INTERNAL_PERF_CONFIG_H
#define Py_INTERNAL_PERF_CONFIG_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* If config->perf_profiling is negative, set it to what the command line and the
   environment say.  Returns an error status if one of them has an invalid value.
   No GIL needed: there is no interpreter yet. */
extern PyStatus _PyPerf_ReadConfig(PyConfig *config);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_CONFIG_H */
