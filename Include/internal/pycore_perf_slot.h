/* What the front desk keeps with each trampoline, and how a code object finds
   its own.  Guarded by the GIL. */

#ifndef Py_INTERNAL_PERF_SLOT_H
#define Py_INTERNAL_PERF_SLOT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_output.h"     // _PyPerfEdition

/* Slots live as long as the process: frames on some stack may return into their
   trampolines. */
struct _PyPerfSlot {
    const void *address;            /* of the trampoline */
    const void *return_address;     /* where a call through it returns */
    _PyPerfEdition edition;         /* the last one in which it was announced */
    _PyPerfEdition announced_in[_PyPerf_OUTPUTS];   /* 0: never */
    PyCodeObject *code;             /* borrowed; NULL once it has died */
    struct _PyPerfSlot *next_free;  /* in the pool's list of free slots */
    bool is_final;                  /* announced where there is no time: the
                                       address must never get another name */
};

/* Where the names are. */
struct _PyPerfNaming {
    Py_ssize_t extra_index;         /* of the slots in co_extra, in all
                                       interpreters, for they share the code
                                       objects of frozen modules; -1: none */
    _PyPerfEdition edition;         /* the one that is being written */
};
extern struct _PyPerfNaming _PyPerf_Naming;

/* The slot of `code`, or NULL if it has none. */
static inline struct _PyPerfSlot *
_PyPerfSlot_OfCode(const PyCodeObject *code)
{
    // As Objects/codeobject.c lays out what stands in co_extra.
    const struct {
        Py_ssize_t size;
        void *extras[1];
    } *extra = code->co_extra;
    return extra == NULL || extra->size <= _PyPerf_Naming.extra_index
           ? NULL : extra->extras[_PyPerf_Naming.extra_index];
}

/* Whether `slot`, which may be NULL, has a trampoline whose name stands in the
   file that is being written. */
static inline bool
_PyPerfSlot_IsAnnounced(const struct _PyPerfSlot *slot)
{
    return slot != NULL && slot->edition == _PyPerf_Naming.edition;
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_SLOT_H */
