/* The perf map, /tmp/perf-PID.map, as an output of the front profiler.  Its public
   functions are in cpython/perfmaps.h. */

#ifndef Py_INTERNAL_PERF_MAP_H
#define Py_INTERNAL_PERF_MAP_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_output.h"

extern const struct _PyPerfOutput _PyPerfMap_Output;

/* Around fork(): no other thread writes while the process is copied, so that
   the child knows how long the parent's file was.  No GIL needed. */
extern void _PyPerfMap_BeforeFork(void);
extern void _PyPerfMap_AfterForkParent(void);
extern void _PyPerfMap_AfterForkChild(void);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_MAP_H */
