/* Slots of code objects that have died, by the names of the functions.
   Everything here needs the GIL. */

#ifndef Py_INTERNAL_PERF_RETIRED_H
#define Py_INTERNAL_PERF_RETIRED_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_arena.h"      // struct _PyPerfSlot

/* Keep the slot of `code`, which is about to die, for a function with the same entry.
   Returns false if that is not possible, or if the slot may get a different name and no
   function with this entry has died before.  Raises nothing and keeps an exception that
   is set. */
extern bool _PyPerfRetired_Keep(struct _PyPerfSlot *slot, const PyCodeObject *code);

/* Return a slot that was kept and has the entry of `code` in outputs with timestamps or
   without, and forget it.  Return NULL if there is none.  A slot in inherited memory is
   not returned. */
extern struct _PyPerfSlot *_PyPerfRetired_Take(const PyCodeObject *code, bool has_time);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_RETIRED_H */
