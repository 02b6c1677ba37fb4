/* How the second eval loop takes over the frames of the first one: CPython 3.11.
   perf_evalloop.c includes this file after the loop.  perf_evaluator.c explains when
   that happens. */

#if !PERF_LINES      // once in the interpreter

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
_PyPerfEvalLoop_RunToEntry(PyThreadState *tstate, _PyInterpreterFrame *frame,
                           PyObject **stack_pointer, _Py_CODEUNIT *next_instr)
{
    _PyFrame_SetStackPointer(frame, stack_pointer);
    frame->prev_instr = next_instr - 1;
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
_PyPerfEvalLoop_LowerBreaker(PyThreadState *tstate)
{
    PyInterpreterState *interp = tstate->interp;
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

#endif  /* !PERF_LINES */
