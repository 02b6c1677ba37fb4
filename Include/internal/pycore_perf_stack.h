/* Is the end of the C stack near? */

#ifndef Py_INTERNAL_PERF_STACK_H
#define Py_INTERNAL_PERF_STACK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdbool.h>

enum _PyPerfStack_Place {
    _PyPerfStack_ENOUGH,        /* on the thread's stack, far from its end */
    _PyPerfStack_SHORT,         /* on the thread's stack, near its end */
    _PyPerfStack_FOREIGN,       /* on a different stack, whose end is unknown */
};

/* Return where the caller runs.  Any thread, no GIL needed. */
extern enum _PyPerfStack_Place _PyPerfStack_Look(void);

/* Return whether at least half of the thread's stack is left.  Any thread, no GIL
   needed. */
extern bool _PyPerfStack_IsHalfFree(void);

/* Return a lower limit of the bytes that are left of the thread's stack, or 0 on a
   different stack.  Any thread, no GIL needed. */
extern size_t _PyPerfStack_Left(void);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_STACK_H */
