/* fork(): what the profiler does before it and after it.  Everything here needs the
   GIL. */

#ifndef Py_INTERNAL_PERF_FORK_H
#define Py_INTERNAL_PERF_FORK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_error.h"      // struct _PyPerfError
#include <stdbool.h>

/* Decide whether children keep what their parent has announced.  Returns whether there
   are trampolines, which this is about. */
extern bool _PyPerfFork_SetPersist(bool persist);

/* With `on`, the caller is about to fork, and nothing is to be done in the child when
   the C library calls us there. */
extern void _PyPerfFork_TakeCare(bool on);

/* Before fork(): lock the perf map.  Nothing may be buffered. */
extern void _PyPerfFork_Before(void);

/* After fork(), in the parent: unlock the perf map. */
extern void _PyPerfFork_AfterInParent(void);

/* After fork(), in the child: let later slots come from memory of the child, and
   open the child's file if the parent's is open.  `tstate` is the caller's.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfFork_AfterInChild(PyThreadState *tstate,
                                    struct _PyPerfError *error);

/* Let the C library call us in children that C code forks.  Done once in a process.  If
   it fails, _PyPerfFork_Detect() finds such children later. */
extern void _PyPerfFork_Watch(void);

/* Do what _PyPerfFork_AfterInChild() does if this process is a child that C code has
   forked.  Does nothing in any other process.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfFork_Detect(PyThreadState *tstate, struct _PyPerfError *error);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_FORK_H */
