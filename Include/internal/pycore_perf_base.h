/* What differs from one CPython release to another, for native profiling.

   The files of native profiling are the same for each release.  They use the functions
   of this header where releases name or store something differently.  Here the header
   for the release is selected.  Nothing else asks for the version.

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

#if PY_VERSION_HEX >= 0x030d0000
#  include "pycore_perf_base_3_13.h"
#  define _PyPerfBase_EVALLOOP_HOOKS "pycore_perf_evalloop_3_13.h"
#  define _PyPerfBase_HANDOVER "perf_handover_3_13.h"
#else
#  include "pycore_perf_base_3_11.h"
#  define _PyPerfBase_EVALLOOP_HOOKS "pycore_perf_evalloop_3_11.h"
#  define _PyPerfBase_HANDOVER "perf_handover_3_11.h"
#endif

#endif  /* !Py_INTERNAL_PERF_BASE_H */
