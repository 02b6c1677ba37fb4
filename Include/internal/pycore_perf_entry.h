/* What an entry in the output says of a function.
   All but _PyPerfEntry_InitEarly() needs the GIL. */

#ifndef Py_INTERNAL_PERF_ENTRY_H
#define Py_INTERNAL_PERF_ENTRY_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_arena.h"      // struct _PyPerfSlot
#include "pycore_perf_output.h"     // struct _PyPerfRegion

struct _PyPerfEntry {
    struct _PyPerfRegion region;
    PyObject *qualname;             // owners of the names in `region`, or NULL
    PyObject *filename;
};

/* Fill in *entry for the function of `slot`: with the address of its trampoline if
   `name` is true, and with the addresses of its instructions if `lines` is true and it
   can have them.  The first time, `slot` gets them.  The caller clears *entry.
   Returns 0, or -1 with *error filled in and nothing to clear. */
extern int _PyPerfEntry_Init(struct _PyPerfEntry *entry, struct _PyPerfSlot *slot,
                             bool name, bool lines, struct _PyPerfError *error);

/* Free what _PyPerfEntry_Init() has allocated. */
extern void _PyPerfEntry_Clear(struct _PyPerfEntry *entry);

/* The same with name and lines in a child that C code has just forked.  It has lines
   only if `slot` has addresses for them and all fit into a static buffer.  *region is
   valid until the next call.  Needs no GIL, waits for no lock and allocates no memory.
   Returns false if the names are too long for that. */
extern bool _PyPerfEntry_InitEarly(struct _PyPerfRegion *region,
                                   const struct _PyPerfSlot *slot);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_ENTRY_H */
