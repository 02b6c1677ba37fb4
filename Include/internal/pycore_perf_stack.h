/* How much C stack is left. */

#ifndef Py_INTERNAL_PERF_STACK_H
#define Py_INTERNAL_PERF_STACK_H
#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the thread's stack is. */
struct _PyPerfStackBounds {
    uintptr_t suspect_low;      /* addresses that have to be looked at: the last */
    size_t suspect_size;        /*   part of the stack, and what is not known yet */
    uintptr_t low;              /* the stack, or what is known of it */
    size_t size;                /* bytes */
    enum {_PyPerfStack_NEW, _PyPerfStack_NEAR, _PyPerfStack_KNOWN} state;
};

extern _Thread_local struct _PyPerfStackBounds _PyPerfStack_Bounds;

/* Whether the caller should look closely. */
static inline bool
_PyPerfStack_IsSuspect(void)
{
    const uintptr_t here = (uintptr_t)__builtin_dwarf_cfa();
    return here - _PyPerfStack_Bounds.suspect_low
           < _PyPerfStack_Bounds.suspect_size;
}

/* Where the caller runs: on the stack of its thread, in the last part of that, or
   on a stack that is not the thread's own.  No GIL needed. */
enum {_PyPerfStack_ENOUGH, _PyPerfStack_SHORT, _PyPerfStack_FOREIGN};
extern int _PyPerfStack_Look(void);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_STACK_H */
