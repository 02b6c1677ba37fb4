/* The profiler: each Python function gets a different address.

   Native profilers see machine code.  One C function runs all Python functions, so
   to a profiler they are all the same:

       before                              with the trampolines

       _PyEval_EvalFrameDefault            _PyEval_EvalFrameDefault
       _PyEval_Vector                      _PyPerf_EnterEvalLoop
       ...                                 py::bar:/src/script.py
                                           py::foo:/src/script.py
                                           _PyEval_Vector
                                           ...

   A trampoline is a small piece of machine code that only calls the eval loop.
   There is one copy for each code object, at a different address, so that a return
   address on the stack identifies the function.  When a code object is run for the
   first time, it gets a copy, and a file that profilers read gets the address and
   the name of the function.

   The parts:

       the rest of CPython (Misc/patches), perf_capi.c, perf_sys.c
             |
             v
       perf_profiler.c         on, off, life cycle, failure
         |         |
         |         v
         |     perf_evaluator.c    frame evaluators
         |     perf_evalloop.c     the second eval loop
         |     perf_record.c       frame records
         |     perf_fork.c         the forked child
         v         v
       perf_slots.c, perf_entry.c    from code object to trampoline and entry
         |         |
         v         v
       perf_arena.c       perf_map.c, perf_jitdump.c
       executable memory  the outputs

   This file switches profiling on and off.  When it is on, our evaluator runs the
   interpreter's frames in a second eval loop (perf_evaluator.c).  That loop makes the
   stack look as if the trampolines had been called (perf_record.c).

   All interpreters of a process write to the same output, so they can be profiled
   only in one mode at a time.  A subinterpreter of 3.13 may have a GIL of its own.  It
   is not profiled, and what it calls here returns at once: the GIL that protects the
   state of the profiler is that of the main interpreter.

   If something fails, this file removes the evaluator in all interpreters and prints
   one line on stderr that says what failed.  The program continues.  The parts that
   run frames report failures by calling back: _PyPerfProfiler_EnsureAnnounced() and
   _PyPerfProfiler_StopOnLowStack().  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_base.h"       // _PyPerfBase_SharesGil()
#include "pycore_perf_evaluator.h"
#include "pycore_perf_fork.h"
#include "pycore_perf_jitdump.h"
#include "pycore_perf_lock.h"
#include "pycore_perf_map.h"
#include "pycore_perf_profiler.h"
#include "pycore_perf_slots.h"
#include "pycore_pyerrors.h"        // _PyErr_Fetch()
#include "pycore_pystate.h"         // _Py_IsMainInterpreter()
#include <unistd.h>                 // access()

static const struct _PyPerfOutput *const outputs[_PyPerf_OUTPUTS] = {
    [_PyPerf_OFF] = NULL,
    [_PyPerf_MAP] = &_PyPerfMap_Output,
    [_PyPerf_JITDUMP] = &_PyPerfJitdump_Output,
};


// --- Switching off ---------------------------------------------------------

/* Switch profiling off in all interpreters and report *error. */
static void
profiler_fail(const struct _PyPerfError *error)
{
    _PyPerfEvaluator_RemoveAll();
    _PyPerfSlots_CloseOutput();
    _PyPerfError_Warn(error);
}

void
_PyPerfProfiler_Deactivate(PyThreadState *tstate)
{
    if (!_PyPerfBase_SharesGil(tstate->interp)) {
        return;
    }
    _PyPerfLock_Take();
    _PyPerfEvaluator_Remove(tstate->interp);
    if (!_PyPerfEvaluator_AnyIsActive(NULL)) {
        _PyPerfSlots_CloseOutput();
    }
    _PyPerfLock_Release();
}

void
_PyPerfProfiler_StopOnLowStack(void)
{
    struct _PyPerfError error;
    _PyPerfError_Set(&error, "go on", "", "the recursion is so deep that the C "
                     "stack is nearly used up", 0);
    _PyPerfLock_Take();
    profiler_fail(&error);
    _PyPerfLock_Release();
}


// --- Functions -------------------------------------------------------------

void
_PyPerfProfiler_DetectFork(PyThreadState *tstate)
{
    if (!_PyPerfBase_SharesGil(tstate->interp)) {
        return;
    }
    struct _PyPerfError error;
    _PyPerfLock_Take();
    if (_PyPerfFork_Detect(tstate, &error) < 0) {
        profiler_fail(&error);
    }
    _PyPerfLock_Release();
}

bool
_PyPerfProfiler_EnsureAnnounced(PyThreadState *tstate, PyCodeObject *code)
{
    struct _PyPerfError error;
    PyObject *type, *value, *traceback;
    _PyErr_Fetch(tstate, &type, &value, &traceback);
    _PyPerfLock_Take();
    _PyPerfProfiler_DetectFork(tstate);
    if (_PyPerfSlots_OpenMode() != _PyPerf_OFF
            && _PyPerfSlots_Announce(tstate, code, &error) < 0) {
        profiler_fail(&error);
    }
    const bool is_on = _PyPerfSlots_OpenMode() != _PyPerf_OFF;
    _PyPerfLock_Release();
    _PyErr_Restore(tstate, type, value, traceback);
    return is_on;
}

int
_PyPerfProfiler_CompileCode(PyThreadState *tstate, PyCodeObject *code)
{
    if (!_PyPerfProfiler_IsActive(tstate) || _PyPerfSlots_IsAnnounced(code)) {
        return 0;
    }
    return _PyPerfProfiler_EnsureAnnounced(tstate, code) ? 0 : -1;
}


// --- Switching on ----------------------------------------------------------

/* What interpreter_activate() does while the other threads are stopped. */
static const char *
activate_alone(PyInterpreterState *interp, int mode, int flags, PyObject **exception)
{
    if (!_PyPerfArena_CodeIsPlausible()) {
        *exception = PyExc_ValueError;
        return "perf trampoline not available";
    }
    if (!_PyPerfSlots_RequestExtraIndex(interp)) {
        *exception = PyExc_RuntimeError;
        return "cannot activate the perf trampoline: other extensions use its "
               "place in code objects";
    }
    struct _PyPerfError error;
    if (_PyPerfSlots_OpenMode() != mode
            && _PyPerfSlots_OpenOutput(outputs[mode], &error) < 0) {
        profiler_fail(&error);
    }
    else if (((flags & _PyPerf_LINES) != 0 || !_PyPerfEvaluator_AnyIsActive(interp))
             && _PyPerfSlots_SetLines((flags & _PyPerf_LINES) != 0, &error) < 0) {
        profiler_fail(&error);
    }
    else if (_PyPerfEvaluator_Install(interp, (flags & _PyPerf_CALLS) != 0) < 0) {
        _PyPerfError_Set(&error, "install the frame evaluator", "", NULL, ENOMEM);
        profiler_fail(&error);
    }
    else {
        _PyPerfFork_Watch();
    }
    return NULL;
}

/* Start profiling in `interp`, the caller's.  `flags` is _PyPerf_CALLS, _PyPerf_LINES
   or 0.  If another interpreter is profiled with lines, this one is too.  Returns NULL
   when profiling is on.  Also returns NULL when a file or memory was refused, after one
   line on stderr.  Otherwise returns the reason, and stores the exception's type in
   *exception. */
static const char *
interpreter_activate(PyInterpreterState *interp, int mode, int flags,
                     PyObject **exception)
{
    _PyPerfLock_StopThreads();
    const char *obstacle = activate_alone(interp, mode, flags, exception);
    _PyPerfLock_StartThreads();
    return obstacle;
}

static int
profiler_activate(PyThreadState *tstate, int profiling)
{
    if (!_PyPerfBase_SharesGil(tstate->interp)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot activate the perf trampoline: this "
                        "interpreter does not share the GIL of the main interpreter");
        return -1;
    }
    const int mode = profiling & ~_PyPerf_FLAGS;
    const int open_mode = _PyPerfSlots_OpenMode();
    if (open_mode != _PyPerf_OFF && open_mode != mode
            && _PyPerfEvaluator_AnyIsActive(tstate->interp)) {
        PyErr_Format(PyExc_RuntimeError,
                     "cannot activate the perf trampoline for '%s': another "
                     "interpreter is profiled with '%s'",
                     outputs[mode]->name, outputs[open_mode]->name);
        return -1;
    }
    PyObject *exception = NULL;
    const char *obstacle = interpreter_activate(
        tstate->interp, mode, profiling & _PyPerf_FLAGS, &exception);
    if (obstacle != NULL) {
        PyErr_SetString(exception, obstacle);
        return -1;
    }
    _PyPerfArena_Register();
    return 0;
}

int
_PyPerfProfiler_Activate(PyThreadState *tstate, int profiling)
{
    _PyPerfLock_Take();
    const int result = profiler_activate(tstate, profiling);
    _PyPerfLock_Release();
    return result;
}

int
_PyPerfProfiler_IsActive(PyThreadState *tstate)
{
    if (!_PyPerfBase_SharesGil(tstate->interp)) {
        return 0;
    }
    _PyPerfLock_Take();
    const int result = _PyPerfEvaluator_IsActive(tstate->interp);
    _PyPerfLock_Release();
    return result;
}

int
_PyPerfProfiler_ModeFromName(const char *name)
{
    for (int mode = 1; mode < _PyPerf_OUTPUTS; mode++) {
        if (strcmp(outputs[mode]->name, name) == 0) {
            return mode;
        }
    }
    return -1;
}


// --- The life of an interpreter --------------------------------------------

static void
interpreter_init(PyThreadState *tstate)
{
    const int profiling = tstate->interp->config.perf_profiling;
    int mode = profiling & ~_PyPerf_FLAGS;
    if (mode == _PyPerf_OFF) {
        return;
    }
    if (_PyPerfSlots_OpenMode() != _PyPerf_OFF) {
        mode = _PyPerfSlots_OpenMode();     // that of the other interpreters
    }
    struct _PyPerfError error;
    PyObject *exception = NULL;
    const char *obstacle = interpreter_activate(
        tstate->interp, mode, profiling & _PyPerf_FLAGS, &exception);
    if (obstacle != NULL) {
        _PyPerfError_Set(&error, "start", "", obstacle, 0);
        _PyPerfError_Warn(&error);
    }
    else if (_Py_IsMainInterpreter(tstate->interp)
             && _PyPerfSlots_StartBuffering(&error) < 0) {
        profiler_fail(&error);
    }
}

void
_PyPerfProfiler_InitInterpreter(PyThreadState *tstate)
{
    if (!_PyPerfBase_SharesGil(tstate->interp)) {
        return;
    }
    _PyPerfLock_Take();
    interpreter_init(tstate);
    _PyPerfLock_Release();
}

/* Write the entries that the output has buffered. */
static void
profiler_stop_buffering(void)
{
    struct _PyPerfError error;
    _PyPerfLock_Take();
    if (_PyPerfSlots_StopBuffering(&error) < 0) {
        profiler_fail(&error);
    }
    _PyPerfLock_Release();
}

void
_PyPerfProfiler_InterpreterIsReady(void)
{
    if (!_PyPerfBase_SharesGil(_PyInterpreterState_GET())) {
        return;
    }
    profiler_stop_buffering();
}

void
_PyPerfProfiler_ExtensionIsLoaded(void)
{
    if (!_PyPerfBase_SharesGil(_PyInterpreterState_GET())) {
        return;
    }
    _PyPerfLock_Take();
    _PyPerfArena_Register();
    _PyPerfLock_Release();
}

void
_PyPerfProfiler_FiniInterpreter(PyThreadState *tstate)
{
    if (!_PyPerfBase_SharesGil(tstate->interp)) {
        return;
    }
    _PyPerfLock_Take();
    _PyPerfProfiler_Deactivate(tstate);
    _PyPerfEvaluator_Fini(tstate->interp);
    if (_Py_IsMainInterpreter(tstate->interp)) {
        _PyPerfSlots_Fini(tstate->interp);
        _PyPerfMap_Close();
    }
    _PyPerfLock_Release();
}


// --- fork and exec ---------------------------------------------------------

void
_PyPerfProfiler_BeforeFork(void)
{
    if (!_PyPerfBase_SharesGil(_PyInterpreterState_GET())) {
        return;
    }
    _PyPerfLock_Take();                 // until the fork is over
    _PyPerfProfiler_DetectFork(_PyThreadState_GET());
    profiler_stop_buffering();
}

void
_PyPerfProfiler_ForkBegins(void)
{
    if (_PyPerfBase_SharesGil(_PyInterpreterState_GET())) {
        _PyPerfFork_Before();
    }
}

void
_PyPerfProfiler_AfterForkInParent(void)
{
    if (!_PyPerfBase_SharesGil(_PyInterpreterState_GET())) {
        return;
    }
    _PyPerfFork_AfterInParent();
    _PyPerfLock_Release();
}

void
_PyPerfProfiler_AfterForkInChild(PyThreadState *tstate)
{
    if (!_PyPerfBase_SharesGil(tstate->interp)) {
        return;
    }
    struct _PyPerfError error;
    if (_PyPerfFork_AfterInChild(tstate, &error) < 0) {
        profiler_fail(&error);
    }
    _PyPerfLock_Release();
}

void
_PyPerfProfiler_ForkHandlersHaveRun(void)
{
    _PyPerfSlots_SetStarting(false);
}

void
_PyPerfProfiler_ForksToExec(bool on)
{
    _PyPerfFork_TakeCare(on);
}

void
_PyPerfProfiler_BeforeExec(const char *path)
{
    if (!_PyPerfBase_SharesGil(_PyInterpreterState_GET())) {
        return;
    }
    _PyPerfLock_Take();
    _PyPerfProfiler_DetectFork(_PyThreadState_GET());
    // os.execvp() tries one directory after the other.
    if (path == NULL || access(path, X_OK) == 0) {
        _PyPerfSlots_WithdrawOutput();
    }
    _PyPerfLock_Release();
}

void
_PyPerfProfiler_ExecHasFailed(void)
{
    if (!_PyPerfBase_SharesGil(_PyInterpreterState_GET())) {
        return;
    }
    struct _PyPerfError error;
    const int saved_errno = errno;
    _PyPerfLock_Take();
    if (_PyPerfSlots_PutBackOutput(&error) < 0) {
        profiler_fail(&error);
    }
    _PyPerfLock_Release();
    errno = saved_errno;
}
