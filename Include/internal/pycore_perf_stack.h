/* How much C stack is left. */

#ifndef Py_INTERNAL_PERF_STACK_H
#define Py_INTERNAL_PERF_STACK_H
#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A part of the address space: once the end of the thread's stack is known, the
   last part of that, which calls should not enter; before, what has to be looked at
   more closely. */
struct _PyPerfStackReserve {
    uintptr_t low;
    size_t size;                /* bytes */
    enum {_PyPerfStack_NEW, _PyPerfStack_NEAR, _PyPerfStack_KNOWN} state;
};

extern _Thread_local struct _PyPerfStackReserve _PyPerfStack_Reserve;

/* Whether `here`, which lies in it, is in the last part of the stack. */
extern bool _PyPerfStack_Confirm(uintptr_t here);

/* Whether the caller's frame lies there. */
static inline bool
_PyPerfStack_IsSuspect(void)
{
    const uintptr_t here = (uintptr_t)__builtin_dwarf_cfa();
    return here - _PyPerfStack_Reserve.low < _PyPerfStack_Reserve.size;
}

/* Whether the caller's frame lies in the last part of the stack of its thread.  On
   a stack that is not the thread's own (coroutine libraries) it does not.  No GIL
   needed. */
static inline bool
_PyPerfStack_IsShort(void)
{
    return _PyPerfStack_IsSuspect() && _PyPerfStack_Confirm(
        (uintptr_t)__builtin_dwarf_cfa());
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_STACK_H */
