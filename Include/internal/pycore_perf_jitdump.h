/* The jitdump, /tmp/jit-PID.dump: an output of the profiler. */

#ifndef Py_INTERNAL_PERF_JITDUMP_H
#define Py_INTERNAL_PERF_JITDUMP_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_output.h"

/* Its functions need the GIL. */
extern const struct _PyPerfOutput _PyPerfJitdump_Output;

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_JITDUMP_H */
