/* Native profiling: what the rest of the interpreter calls.

   Everything here needs the GIL.  Platforms without trampolines link
   Python/perf_stub.c, which has the same functions, instead of
   Python/perf_profiler.c. */

#ifndef Py_INTERNAL_PERF_PROFILER_H
#define Py_INTERNAL_PERF_PROFILER_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_output.h"     // _PyPerf_OFF
#include <stdbool.h>


// --- On and off ------------------------------------------------------------

/* Return the mode that
   sys.activate_stack_trampoline() calls `name`, or -1 if there is none. */
extern int _PyPerfProfiler_ModeFromName(const char *name);

/* Start profiling in the interpreter of `tstate`.  `profiling` is a value of
   PyConfig.perf_profiling, not 0: a mode, which may be combined with _PyPerf_CALLS.
   If the interpreter is profiled in a different mode, switch to this one.
   Returns 0 when profiling is on.  Also returns 0 when files or memory are refused:
   profiling is off then, and one line on stderr says why.
   Returns -1 with an exception set if profiling is not possible: ValueError if this
   platform has no trampolines, RuntimeError if another interpreter is profiled in a
   different mode or if other extensions use our co_extra index. */
extern int _PyPerfProfiler_Activate(PyThreadState *tstate, int profiling);

/* Stop profiling in the interpreter of `tstate`.  Trampolines that frames still
   return into stay where they are.  Cannot fail. */
extern void _PyPerfProfiler_Deactivate(PyThreadState *tstate);

/* Return 1 if profiling is on in the interpreter of `tstate`, otherwise 0. */
extern int _PyPerfProfiler_IsActive(PyThreadState *tstate);


// --- Functions -------------------------------------------------------------

/* Give `code` a trampoline and write its name to the current file, unless both are
   done.  Sets code->_co_perf_slot.  If that fails, profiling is switched off.  An
   exception that is set stays set: one is set when it is thrown into a generator.
   `code` is borrowed.
   Returns whether profiling is on afterwards. */
extern bool _PyPerfProfiler_EnsureAnnounced(PyThreadState *tstate,
                                            PyCodeObject *code);

/* If C code has forked this process, make it independent of its parent.  If that fails,
   profiling is switched off. */
extern void _PyPerfProfiler_DetectFork(PyThreadState *tstate);

/* Stop profiling in all interpreters and print one line on stderr.  Called when calls
   that go through C have nearly used up the C stack. */
extern void _PyPerfProfiler_StopOnLowStack(void);

/* Give `code` a trampoline and write its name, if profiling is on, without running
   it.  Returns 0 when done or when profiling is off, or -1, without an exception,
   if that failed. */
extern int _PyPerfProfiler_CompileCode(PyThreadState *tstate, PyCodeObject *code);


// --- The life of an interpreter and of a process ---------------------------

/* Called when an interpreter starts.  Starts profiling if its PyConfig requests it.  If
   other interpreters are profiled, their mode is used.  Cannot fail: if profiling does
   not start, one line on stderr says why. */
extern void _PyPerfProfiler_InitInterpreter(PyThreadState *tstate);

/* Called when the main interpreter is about to run the program. */
extern void _PyPerfProfiler_InterpreterIsReady(void);

/* Called after an extension module was loaded: its code may unwind the stack. */
extern void _PyPerfProfiler_ExtensionIsLoaded(void);

/* Called when the interpreter of `tstate` ends. */
extern void _PyPerfProfiler_FiniInterpreter(PyThreadState *tstate);

/* Called before fork(): first, and when no other thread of a build without the GIL is
   running.  Then called after it, in the parent and in the child.  In the child
   the runtime is usable again, and no Python code has run. */
extern void _PyPerfProfiler_BeforeFork(void);
extern void _PyPerfProfiler_ForkBegins(void);
extern void _PyPerfProfiler_AfterForkInParent(void);
extern void _PyPerfProfiler_AfterForkInChild(PyThreadState *tstate);

/* Called in the child after the handlers of os.register_at_fork(). */
extern void _PyPerfProfiler_ForkHandlersHaveRun(void);

/* Called with `true` before _posixsubprocess forks, or calls vfork(), and with `false`
   after it in the parent.  The child needs no file if it runs no Python code. */
PyAPI_FUNC(void) _PyPerfProfiler_ForksToExec(bool on);

/* Called before exec*(), but never in a child of vfork().  Removes the file of a forked
   child that has nothing new.  `path` is the program, or NULL if it is not known.  If
   there is no such program, nothing is removed. */
PyAPI_FUNC(void) _PyPerfProfiler_BeforeExec(const char *path);

/* Called after exec*() has returned.  Puts the file back.  Keeps errno. */
extern void _PyPerfProfiler_ExecHasFailed(void);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_PROFILER_H */
