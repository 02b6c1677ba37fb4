/* How much C stack is left. */

#ifndef Py_INTERNAL_PERF_STACK_H
#define Py_INTERNAL_PERF_STACK_H
#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>
#include <stddef.h>

/* The last part of a thread's stack, which calls should not enter. */
struct _PyPerfStackReserve {
    const char *low;            /* the end of the stack; NULL: not known yet */
    size_t size;                /* bytes */
};

extern _Thread_local struct _PyPerfStackReserve _PyPerfStack_Reserve;

/* Find out where the reserve of this thread is.  No GIL needed. */
extern void _PyPerfStack_Measure(void);

/* Whether the caller's frame lies in the reserve of its thread.  On a stack
   that is not the thread's own (coroutine libraries) it does not. */
static inline bool
_PyPerfStack_IsShort(void)
{
    const char *here = __builtin_frame_address(0);
    if (_PyPerfStack_Reserve.low == NULL) {
        _PyPerfStack_Measure();
    }
    return (size_t)(here - _PyPerfStack_Reserve.low) < _PyPerfStack_Reserve.size;
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_STACK_H */
