/* The second eval loop: Python/ceval.c, compiled again with other hooks.

   The hooks are macros, pycore_perf_evalloop.h.  PERF_EVAL_LOOP selects those of the
   second loop.  It also leaves out what ceval.c has besides the loop and its static
   helpers: everything else must exist once.

   The loop is a static function here, with the name of the first loop: debuggers and
   other tools know the eval loop by that name.  asm_trampoline_*.S calls it by a second
   name, __PyPerf_EvalLoop.  Of two names for one address perf shows the one with fewer
   leading underscores.  So perf shows the first loop's name.  */

#define PERF_EVAL_LOOP

/* The headers declare the first loop, under a name that is not used here. */
#define _PyEval_EvalFrameDefault first_eval_loop
#include "Python.h"
#include "pycore_ceval.h"
#include "pycore_perf_base.h"
#include "pycore_perf_evaluator.h"
#include "pycore_perf_record.h"
#undef _PyEval_EvalFrameDefault

static PyObject *_PyEval_EvalFrameDefault(PyThreadState *tstate,
                                          struct _PyInterpreterFrame *frame,
                                          int throwflag);

extern PyObject * _Py_HOT_FUNCTION
__PyPerf_EvalLoop(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                              int throwflag)
    __attribute__((visibility("hidden"), alias("_PyEval_EvalFrameDefault")));

/* Call the first loop's copy of this helper. */
#define eval_frame_handle_pending _PyPerfEvalLoop_HandlePending

#pragma GCC diagnostic ignored "-Wunused-function"
#include "ceval.c"

/* Run a frame in the second loop, which counts the frame again and compares with the
   recursion limit.  A thread may have lowered the limit below the present depth.  The
   frame is running already, so it gets no RecursionError.  It gets one if it calls a
   function. */
static PyObject *
run_handed_over(PyThreadState *tstate, _PyInterpreterFrame *frame, int throwflag)
{
    _Py_LeaveRecursiveCallTstate(tstate);
    const int missing = Py_MAX(1 - _PyPerfBase_RecursionRemaining(tstate), 0);
    _PyPerfBase_AddRecursionRemaining(tstate, missing);
    PyObject *result = _PyPerfRecord_RunHandedOver(tstate, frame, throwflag);
    _PyPerfBase_AddRecursionRemaining(tstate, -missing);
    return result;
}

PyObject *
_PyPerfEvalLoop_RunToEntry(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    _PyCFrame *cframe = tstate->cframe;
    PyObject *result = NULL;
    bool is_entry = false;
    for (bool is_first = true; !is_entry; is_first = false) {
        if (!is_first) {
            _PyInterpreterFrame *done = frame;
            frame = cframe->current_frame = done->previous;
            _PyEvalFrameClearAndPop(tstate, done);
            if (result != NULL) {
                _PyFrame_StackPush(frame, result);
            }
        }
        is_entry = frame->is_entry;
        cframe->current_frame = frame->previous;
        result = run_handed_over(tstate, frame, !is_first && result == NULL);
    }
    tstate->cframe = cframe->previous;
    tstate->cframe->use_tracing = cframe->use_tracing;
    return result;
}

void
_PyPerfEvalLoop_RecomputeBreaker(PyInterpreterState *interp)
{
    struct _ceval_runtime_state *ceval = &interp->runtime->ceval;
    struct _ceval_state *ceval2 = &interp->ceval;
    // A signal handler may set the breaker at any time.  So write 0 first and check
    // afterwards.  COMPUTE_EVAL_BREAKER() checks first, and could lose a signal.
    _Py_atomic_store(&ceval2->eval_breaker, 0);
    if (_Py_atomic_load_relaxed_int32(&ceval2->gil_drop_request)
            || (_Py_atomic_load_relaxed_int32(&ceval->signals_pending)
                && _Py_ThreadCanHandleSignals(interp))
            || (_Py_atomic_load_relaxed_int32(&ceval2->pending.calls_to_do)
                && _Py_ThreadCanHandlePendingCalls())
            || ceval2->pending.async_exc) {
        _Py_atomic_store_relaxed(&ceval2->eval_breaker, 1);
    }
}
