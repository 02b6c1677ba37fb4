/* How the second eval loop takes over the frames of the first one, and how loops nest:
   CPython 3.13.  perf_evalloop.c includes this file after the loop.  perf_evaluator.c
   explains when frames are taken over.

   A loop leaves a frame, and clears it, before it ends.  What runs a frame in another
   loop gets only the value.  The frame of the caller says where to continue, and that
   depends on whether the frame has returned or yielded. */

/* Return the generator that owns a frame, or NULL. */
static PyGenObject *
frame_generator(_PyInterpreterFrame *frame)
{
    return frame->owner == FRAME_OWNED_BY_GENERATOR ? _PyFrame_GetGenerator(frame)
                                                    : NULL;
}

/* Prepare `caller` to continue after a call of the function, or of the generator if it
   is not NULL, which another loop has run with this result. */
static void
frame_take_result(_PyInterpreterFrame *caller, const PyGenObject *generator,
                  PyObject *result)
{
    if (result == NULL) {
        caller->return_offset = 0;
        return;
    }
    const bool has_yielded = generator != NULL
                             && FRAME_STATE_SUSPENDED(generator->gi_frame_state);
    caller->instr_ptr += has_yielded ? 1 + INLINE_CACHE_ENTRIES_SEND
                                     : caller->return_offset;
    _PyFrame_StackPush(caller, result);
}

/* Run `frame`, which a second loop has pushed and not begun, in a nested loop.
   Prepares its caller to continue.  Returns what the frame has returned. */
static PyObject *
run_nested(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    // The caller keeps its generator alive.
    const PyGenObject *generator = frame_generator(frame);
    _PyInterpreterFrame *caller = tstate->current_frame = frame->previous;
    // Without profiling the frame would run in the same loop.
    tstate->c_recursion_remaining += PY_EVAL_C_STACK_UNITS;
    PyObject *result = _PyPerfRecord_RunNested(tstate, frame);
    tstate->c_recursion_remaining -= PY_EVAL_C_STACK_UNITS;
    frame_take_result(caller, generator, result);
    return result;
}

/* Return how many more Python frames a thread must be able to push, so that an eval
   loop runs one frame without a RecursionError. */
static int
missing_recursion(const PyThreadState *tstate)
{
    return Py_MAX(1 - _PyPerfBase_RecursionRemaining(tstate), 0);
}

/* The same for a frame that the loop has pushed without comparing with the limit on
   recursion.  Some specialized calls do so, for example those with default values.  The
   nested loop would compare. */
static PyObject *
run_unchecked(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    const int missing = missing_recursion(tstate);
    _PyPerfBase_AddRecursionRemaining(tstate, missing);
    PyObject *result = run_nested(tstate, frame);
    _PyPerfBase_AddRecursionRemaining(tstate, -missing);
    return result;
}

/* Return the argument of the instruction of `frame`, with those of the EXTENDED_ARG in
   front of it. */
static int
frame_argument(_PyInterpreterFrame *frame)
{
    PyCodeObject *code = _PyFrame_GetCode(frame);
    const int last = _PyInterpreterFrame_LASTI(frame);
    int argument = 0;
    for (int i = 0; i < last; i++) {
        const int opcode = _Py_GetBaseOpcode(code, i);
        argument = opcode == EXTENDED_ARG
                   ? argument << 8 | _PyCode_CODE(code)[i].op.arg << 8 : 0;
        i += _PyOpcode_Caches[opcode];
    }
    return argument | _PyCode_CODE(code)[last].op.arg;
}

/* Return the instruction that follows the one that `frame` has ended. */
static _Py_CODEUNIT *
frame_next_instruction(_PyInterpreterFrame *frame)
{
    const int opcode = _Py_GetBaseOpcode(_PyFrame_GetCode(frame),
                                         _PyInterpreterFrame_LASTI(frame));
    _Py_CODEUNIT *next_instr = frame->instr_ptr + 1 + _PyOpcode_Caches[opcode];
    return opcode == JUMP_BACKWARD ? next_instr - frame_argument(frame) : next_instr;
}

/* The slow path of the second loop's eval breaker, which tests it at the end of an
   instruction, or before it jumps backward.  Returns what _Py_HandlePending() does, if
   it returns (_PyPerfRecord_CatchUp()). */
static int
handle_pending(PyThreadState *tstate, PyObject **stack_pointer,
               struct _PyPerfRecord *head, struct _PyPerfLoop *loop)
{
    if (_Py_HandlePending(tstate) != 0) {
        return -1;
    }
    _PyInterpreterFrame *frame = tstate->current_frame;
    _PyPerfRecord_CatchUp(tstate, frame, stack_pointer, frame_next_instruction(frame),
                          head, loop, PERF_LINES);
    return 0;
}

#if !PERF_LINES      // once in the interpreter

/* The same for the first loop.  Does not return if it hands the frame over.  Each
   further argument would make compilers allocate the registers of the whole loop
   differently. */
int
_PyPerfEvalLoop_HandlePending(PyThreadState *tstate, PyObject **stack_pointer)
{
    if (_Py_HandlePending(tstate) != 0) {
        return -1;
    }
    _PyInterpreterFrame *frame = tstate->current_frame;
    _PyPerfEvaluator_HandOver(tstate, frame, stack_pointer,
                              frame_next_instruction(frame));
    return 0;
}

/* Run a frame in the second loop, which counts the frame again and compares with the
   recursion limits.  A thread may have lowered the limit below the present depth.  The
   frame is running already, so it gets no RecursionError.  It gets one if it calls a
   function. */
static PyObject *
run_handed_over(PyThreadState *tstate, _PyInterpreterFrame *frame, int throwflag)
{
    _Py_LeaveRecursiveCallPy(tstate);
    const int missing = missing_recursion(tstate);
    _PyPerfBase_AddRecursionRemaining(tstate, missing);
    tstate->c_recursion_remaining += PY_EVAL_C_STACK_UNITS;     // of the first loop
    PyObject *result = _PyPerfRecord_RunHandedOver(tstate, frame, throwflag);
    tstate->c_recursion_remaining -= PY_EVAL_C_STACK_UNITS;
    _PyPerfBase_AddRecursionRemaining(tstate, -missing);
    return result;
}

PyObject *
_PyPerfEvalLoop_RunToEntry(PyThreadState *tstate, _PyInterpreterFrame *frame,
                           PyObject **stack_pointer, _Py_CODEUNIT *next_instr)
{
    _PyInterpreterFrame *loop_frame = _PyPerfBase_LoopFrame(frame);
    _PyFrame_SetStackPointer(frame, stack_pointer);
    frame->instr_ptr = next_instr;
    PyObject *result = NULL;
    bool is_thrown = false;
    while (frame != loop_frame) {
        _PyInterpreterFrame *caller = frame->previous;
        const PyGenObject *generator = frame_generator(frame);
        // The base never has two loop frames in a row.
        tstate->current_frame = caller != loop_frame ? caller : loop_frame->previous;
        result = run_handed_over(tstate, frame, is_thrown);
        if (caller != loop_frame) {
            frame_take_result(caller, generator, result);
        }
        is_thrown = result == NULL;
        frame = caller;
    }
    tstate->current_frame = loop_frame->previous;
    tstate->c_recursion_remaining += PY_EVAL_C_STACK_UNITS;
    return result;
}

void
_PyPerfEvalLoop_LowerBreaker(PyThreadState *tstate)
{
    _Py_unset_eval_breaker_bit(tstate, _PyPerfBase_BREAKER_BIT);
}

#endif  /* !PERF_LINES */
