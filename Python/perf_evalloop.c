/* The second eval loop: Python/ceval.c, compiled again with other hooks.

   The hooks are macros, pycore_perf_evalloop.h.  PERF_EVAL_LOOP selects those of the
   second loop.  It also leaves out what ceval.c has besides the loop and its static
   helpers: everything else must exist once.

   The loop is a static function here, with the name of the first loop: debuggers and
   other tools know the eval loop by that name.
   Its second name, _PyEval_EvalFrameDefault_perf, is for asm_trampoline_*.S.  */

#define PERF_EVAL_LOOP

/* The headers declare the first loop, under a name that is not used here. */
#define _PyEval_EvalFrameDefault first_eval_loop
#include "Python.h"
#include "pycore_ceval.h"
#include "pycore_perf_record.h"
#undef _PyEval_EvalFrameDefault

static PyObject *_PyEval_EvalFrameDefault(PyThreadState *tstate,
                                          struct _PyInterpreterFrame *frame,
                                          int throwflag);

extern PyObject * _Py_HOT_FUNCTION
_PyEval_EvalFrameDefault_perf(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                              int throwflag)
    __attribute__((visibility("hidden"), alias("_PyEval_EvalFrameDefault")));

/* The helper of the first loop: it has state of its own. */
extern int _PyPerfEvalLoop_HandlePending(PyThreadState *tstate);
#define eval_frame_handle_pending _PyPerfEvalLoop_HandlePending

#pragma GCC diagnostic ignored "-Wunused-function"
#include "ceval.c"

void
_PyPerfEvalLoop_RecomputeBreaker(PyInterpreterState *interp)
{
    struct _ceval_runtime_state *ceval = &interp->runtime->ceval;
    struct _ceval_state *ceval2 = &interp->ceval;
    // A signal handler may set the breaker at any time.  Unlike COMPUTE_EVAL_BREAKER(),
    // this never writes 0 after it has looked for what the handler left.
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
