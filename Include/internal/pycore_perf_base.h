/* What differs from one CPython release to another, for native profiling.

   The files of native profiling are the same for each release.  Where releases name or
   store something differently, they use functions of the header for the release, which
   this header selects.  Nothing else asks for the version.  What all releases store in
   the same way follows here.

       pycore_perf_base_3_11.h         the functions that differ
       pycore_perf_evalloop_3_11.h     the hooks of the eval loop
       perf_handover_3_11.h            how the second eval loop takes frames over

   Functions here need the GIL unless they say otherwise. */

#ifndef Py_INTERNAL_PERF_BASE_H
#define Py_INTERNAL_PERF_BASE_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "patchlevel.h"             // PY_VERSION_HEX
#include "pycore_code.h"            // _PyCode_CODE()
#include "pycore_interp.h"          // PyInterpreterState.co_extra_user_count
#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030d0000
#  include "pycore_perf_base_3_13.h"
#  define _PyPerfBase_EVALLOOP_HOOKS "pycore_perf_evalloop_3_13.h"
#  define _PyPerfBase_HANDOVER "perf_handover_3_13.h"
#else
#  include "pycore_perf_base_3_11.h"
#  define _PyPerfBase_EVALLOOP_HOOKS "pycore_perf_evalloop_3_11.h"
#  define _PyPerfBase_HANDOVER "perf_handover_3_11.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif


// --- Code objects ----------------------------------------------------------

/* Return the slot number that is stored in a code object; 0: none. */
static inline uint32_t
_PyPerfBase_SlotNumber(const PyCodeObject *code)
{
#ifdef Py_GIL_DISABLED
    return _Py_atomic_load_uint32_acquire(&code->_co_perf_slot);
#else
    return code->_co_perf_slot;
#endif
}

static inline void
_PyPerfBase_SetSlotNumber(PyCodeObject *code, uint32_t number)
{
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_uint32_release(&code->_co_perf_slot, number);
#else
    code->_co_perf_slot = number;
#endif
}

/* Called when `code` dies, while its slot is released: do not free its memory, so that
   no other code object will have its address. */
static inline void
_PyPerfBase_KeepMemory(PyCodeObject *code)
{
    code->_co_perf_slot = UINT32_MAX;
}

/* Return whether _PyPerfBase_KeepMemory() was called for a code object that is being
   deallocated. */
static inline bool
_PyPerfBase_KeepsMemory(const PyCodeObject *code)
{
    return code->_co_perf_slot == UINT32_MAX;
}

/* Return the bytecode of a code object, and store its size in bytes in *size. */
static inline const char *
_PyPerfBase_Bytecode(const PyCodeObject *code, size_t *size)
{
    *size = (size_t)_PyCode_NBYTES(code);
    return (const char *)_PyCode_CODE(code);
}

/* Return whether the line table of a code object begins as a line table does.  Programs
   can give a code object any bytes, and debug builds end at an assertion when they read
   others. */
static inline bool
_PyPerfBase_HasLines(const PyCodeObject *code)
{
    return PyBytes_GET_SIZE(code->co_linetable) != 0
           && (PyBytes_AS_STRING(code->co_linetable)[0] & 0x80) != 0;
}

/* Return the co_extra index that `interp` will assign next. */
static inline Py_ssize_t
_PyPerfBase_NextExtraIndex(const PyInterpreterState *interp)
{
    return interp->co_extra_user_count;
}

/* Return whether the co_extra index `index` of `interp` was requested with
   `release`. */
static inline bool
_PyPerfBase_OwnsExtraIndex(const PyInterpreterState *interp, Py_ssize_t index,
                           freefunc release)
{
    return index >= 0 && index < interp->co_extra_user_count
           && interp->co_extra_freefuncs[index] == release;
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_BASE_H */
