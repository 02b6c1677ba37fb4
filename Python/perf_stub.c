/* The profiler on platforms that have no trampoline, and in builds that cannot use it.

   There this file is linked in place of perf_profiler.c and its neighbours.  If the
   reason is the build, configure says so in PY_PERF_OBSTACLE.  The interpreter calls
   the same functions.  sys.activate_stack_trampoline() raises ValueError.  -X perf
   prints one line on stderr and runs the program.  The public functions of the perf map
   need no trampolines, so they work.  */

#include "Python.h"
#include "pycore_interp.h"          // PyInterpreterState.config
#include "pycore_perf_fork.h"       // _PyPerfFork_SetPersist()
#include "pycore_perf_evaluator.h"
#include "pycore_perf_map.h"
#include "pycore_perf_profiler.h"
#include "pycore_pystate.h"         // _Py_IsMainInterpreter()

#ifndef PY_PERF_OBSTACLE
#  define PY_PERF_OBSTACLE ""
#endif
#define NOT_AVAILABLE "perf trampoline not available" PY_PERF_OBSTACLE

int
_PyPerfProfiler_ModeFromName(const char *name)
{
    if (strcmp(name, "perf") == 0) {
        return _PyPerf_MAP;
    }
    return strcmp(name, "perf_jit") == 0 ? _PyPerf_JITDUMP : -1;
}

int
_PyPerfProfiler_Activate(PyThreadState *Py_UNUSED(tstate), int Py_UNUSED(profiling))
{
    PyErr_SetString(PyExc_ValueError, NOT_AVAILABLE);
    return -1;
}

void
_PyPerfProfiler_Deactivate(PyThreadState *Py_UNUSED(tstate))
{
}

int
_PyPerfProfiler_IsActive(PyThreadState *Py_UNUSED(tstate))
{
    return 0;
}

bool
_PyPerfEvaluator_CallsEachFunction(const PyInterpreterState *Py_UNUSED(interp))
{
    return false;
}

void
_PyPerfProfiler_InitInterpreter(PyThreadState *tstate)
{
    if (_Py_IsMainInterpreter(tstate->interp)
            && tstate->interp->config.perf_profiling != _PyPerf_OFF) {
        struct _PyPerfError error;
        _PyPerfError_Set(&error, "start", "", NOT_AVAILABLE, 0);
        _PyPerfError_Warn(&error);
    }
}

void
_PyPerfProfiler_InterpreterIsReady(void)
{
}

void
_PyPerfProfiler_ExtensionIsLoaded(void)
{
}

unsigned int _PyPerfEvaluator_LateStarts;

void
_PyPerfEvaluator_GilTakenLate(PyThreadState *Py_UNUSED(tstate))
{
}

void
_PyPerfEvaluator_WasRead(PyInterpreterState *Py_UNUSED(interp))
{
}

_PyFrameEvalFunction
_PyPerfEvaluator_IsSet(PyInterpreterState *Py_UNUSED(interp),
                       _PyFrameEvalFunction evaluator)
{
    return evaluator;
}

void
_PyPerfProfiler_FiniInterpreter(PyThreadState *tstate)
{
    if (_Py_IsMainInterpreter(tstate->interp)) {
        _PyPerfMap_Close();
    }
}

void
_PyPerfProfiler_BeforeFork(void)
{
}

void
_PyPerfProfiler_ForkBegins(void)
{
    _PyPerfMap_BeforeFork();
}

void
_PyPerfProfiler_AfterForkInParent(void)
{
    _PyPerfMap_AfterForkParent();
}

void
_PyPerfProfiler_AfterForkInChild(PyThreadState *Py_UNUSED(tstate))
{
    _PyPerfMap_AfterForkChild();
}

void
_PyPerfProfiler_ForkHandlersHaveRun(void)
{
}

void
_PyPerfProfiler_ForksToExec(bool Py_UNUSED(on))
{
}

void
_PyPerfProfiler_BeforeExec(const char *Py_UNUSED(path))
{
}

void
_PyPerfProfiler_ExecHasFailed(void)
{
}

bool
_PyPerfFork_SetPersist(bool Py_UNUSED(persist))
{
    return false;
}

int
_PyPerfProfiler_CompileCode(PyThreadState *Py_UNUSED(tstate),
                            PyCodeObject *Py_UNUSED(code))
{
    return 0;
}
