/* The profiler of native profiling: all that hooks in the rest of the
   interpreter may call.  Everything here needs the GIL unless it says
   otherwise.  Platforms without trampolines link Python/perf_stub.c instead
   of Python/perf_profiler.c and meet the same functions. */

#ifndef Py_INTERNAL_PERF_PROFILER_H
#define Py_INTERNAL_PERF_PROFILER_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdbool.h>

/* See to it that `code` has a trampoline and its name stands in the file that is
   being written: then code->_co_perf_slot is not 0.  Returns false if there is no
   profiling any longer.  An exception that is set, as it is when one is thrown
   into a generator, stays set. */
extern bool _PyPerfSlots_EnsureAnnounced(PyThreadState *tstate, PyCodeObject *code);

/* Stop profiling: the recursion has become so deep that the C stack does not
   suffice for calls by way of the evaluator. */
extern void _PyPerfProfiler_StopOnLowStack(void);

/* `evaluator` becomes what runs the frames of `interp`. */
extern void _PyPerfProfiler_EvaluatorChanges(PyInterpreterState *interp,
                                               _PyFrameEvalFunction evaluator);

/* What runs the frames of an interpreter that is profiled (PEP 523). */
extern PyObject *_PyPerfProfiler_EvalFrame(PyThreadState *tstate,
                                             struct _PyInterpreterFrame *frame,
                                             int throwflag);

/* Whether the first eval loop shall hand the frame that it runs over to the second.
   Called on the slow path of the eval breaker. */
extern bool _PyPerfProfiler_MustHandOver(PyThreadState *tstate);

/* Values of PyConfig.perf_profiling. */
enum {
    _PyPerf_OFF = 0,
    _PyPerf_MAP = 1,
    _PyPerf_JITDUMP = 2
};

/* The value of PyConfig.perf_profiling that a backend's name stands for, or
   -1 if there is no such backend. */
extern int _PyPerfProfiler_ModeFromName(const char *name);

/* Start profiling in `tstate`'s interpreter.  `mode` is a value of
   PyConfig.perf_profiling other than 0.  Returns 0 when it is on afterwards,
   and also when the surroundings (files, memory) refused: then it is off and
   one line on stderr has told why.  Returns -1 with an exception set when the
   request cannot be right: no trampolines on this platform (ValueError),
   another frame evaluator installed (RuntimeError). */
extern int _PyPerfProfiler_Activate(PyThreadState *tstate, int mode);

/* Stop it in `tstate`'s interpreter.  Trampolines that frames still return
   into stay where they are.  Cannot fail. */
extern void _PyPerfProfiler_Deactivate(PyThreadState *tstate);

/* Whether our evaluator runs the frames of `tstate`'s interpreter. */
extern int _PyPerfProfiler_IsActive(PyThreadState *tstate);

/* Life cycle: start what the interpreter's PyConfig asks for.  Never fails:
   what cannot be had is told on stderr.  */
extern void _PyPerfProfiler_InitInterpreter(PyThreadState *tstate);

/* Life cycle: what an interpreter needs has been started, the program begins. */
extern void _PyPerfProfiler_InterpreterIsReady(void);

/* There is code in the process, of an extension module, that may unwind the
   stack. */
extern void _PyPerfProfiler_ExtensionIsLoaded(void);

/* Life cycle: the interpreter of `tstate` ends. */
extern void _PyPerfProfiler_FiniInterpreter(PyThreadState *tstate);

/* Around fork(): before it and after it in the parent, and in the child.  The
   child's hook runs when the runtime is whole again, before Python code does. */
extern void _PyPerfFork_Before(void);
extern void _PyPerfFork_AfterInParent(void);
extern void _PyPerfFork_AfterInChild(PyThreadState *tstate);

/* Decide whether children keep what their parent has announced. */
extern void _PyPerfFork_SetPersist(bool persist);

/* Make and announce a trampoline for `code` without running it.  Returns 0 when
   done, when there was one already or when profiling is not active; -1 if there is
   none now (no exception is set). */
extern int _PyPerfProfiler_CompileCode(PyThreadState *tstate, PyCodeObject *code);

/* Set config->perf_profiling, if it is negative, to what the command line and the
   environment say, Python/perf_config.c.  No GIL needed: there is no interpreter
   yet. */
extern PyStatus _PyPerf_ReadConfig(PyConfig *config);

/* The functions of the sys module, Python/perf_sys.c. */
extern PyMethodDef _PyPerf_SysMethods[];

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_PROFILER_H */
