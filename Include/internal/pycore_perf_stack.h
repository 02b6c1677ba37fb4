/* How much C stack is left. */

#ifndef Py_INTERNAL_PERF_STACK_H
#define Py_INTERNAL_PERF_STACK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

enum _PyPerfStack_Place {
    _PyPerfStack_ENOUGH,        /* on the thread's stack, with enough of it left */
    _PyPerfStack_SHORT,         /* in the last part of the thread's stack */
    _PyPerfStack_FOREIGN,       /* on a stack that is not the thread's own */
};

/* Where the caller runs.  No GIL needed. */
extern enum _PyPerfStack_Place _PyPerfStack_Look(void);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_STACK_H */
