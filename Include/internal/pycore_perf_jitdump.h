/* The jitdump, /tmp/jit-PID.dump, as an output of the front profiler. */

#ifndef Py_INTERNAL_PERF_JITDUMP_H
#define Py_INTERNAL_PERF_JITDUMP_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_output.h"

extern const struct _PyPerfOutput _PyPerfJitdump_Output;

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_JITDUMP_H */
