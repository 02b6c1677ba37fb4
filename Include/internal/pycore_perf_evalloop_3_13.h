/* The hooks of the eval loop that differ between CPython releases: CPython 3.13.
   pycore_perf_evalloop.h includes this file and explains the hooks.

   The instructions of the second loop are those of generated_cases.c.h, with hooks.
   perf_cases_3_13.sed adds them when the interpreter is built:

       PERF_MUST_CALL()        instead of a test for a frame evaluator
       PERF_LINK_FRAME()       after a frame was pushed; PERF_RESUME_INLINED() if it is
                               that of a generator
       PERF_LINK_PUSHED()      the same where the loop does not compare with the limit
                               on recursion; PERF_LINK_RESUMED() for a generator
       PERF_UNLINK()           before a function's frame is left
       PERF_LEAVE_INIT()       at the end of EXIT_INIT_CHECK
       PERF_LEAVE_LOOP()       before the loop ends

   Python 3.13 inlines more calls than 3.11.  A class that is called and has a Python
   __init__() gets two frames: that of __init__(), and below it one that belongs to no
   function.  It has two instructions, EXIT_INIT_CHECK and RETURN_VALUE.  This frame has
   no record.  So the second loop must not unlink one when it leaves this frame.
   RETURN_VALUE does not ask which frame it leaves.  Therefore EXIT_INIT_CHECK does the
   work of both.  */

#ifndef Py_INTERNAL_PERF_EVALLOOP_3_13_H
#define Py_INTERNAL_PERF_EVALLOOP_3_13_H

#ifndef PERF_EVAL_LOOP

#define PERF_GENERATED_CASES "generated_cases.c.h"
#define PERF_LEAVE_FRAME()
#define PERF_LEAVE_LOOP()
#define PERF_IS_THROWN() true
#define PERF_START_TRACING()
#define PERF_RUN_NESTED

// `make compare-loop` compiles the loop without this hook, too.
#if defined(PY_HAVE_PERF_TRAMPOLINE) && !defined(PERF_WITHOUT_HAND_OVER)
extern int _PyPerfEvalLoop_HandlePending(PyThreadState *tstate,
                                         PyObject **stack_pointer);
#undef PERF_HANDLE_PENDING
#define PERF_HANDLE_PENDING() \
    _PyPerfEvalLoop_HandlePending(tstate, stack_pointer)
#endif

#else   /* PERF_EVAL_LOOP */

#define PERF_GENERATED_CASES "Python/perf_cases.h"

/* What perf_handover_3_13.h has for the loop. */
static int handle_pending(PyThreadState *tstate, PyObject **stack_pointer,
                          struct _PyPerfRecord *head, struct _PyPerfLoop *loop);
static PyObject *run_nested(PyThreadState *tstate, _PyInterpreterFrame *frame);
static PyObject *run_unchecked(PyThreadState *tstate, _PyInterpreterFrame *frame);

#define PERF_LINK_PUSHED() PERF_LINK(false, perf_run_unchecked)
#define PERF_LINK_RESUMED() PERF_LINK(true, perf_run_unchecked)

#undef PERF_HANDLE_PENDING
#define PERF_HANDLE_PENDING() \
    handle_pending(tstate, stack_pointer, PERF_OWN_RECORD(), &perf_loop)

#define PERF_UNLINK() \
    _PyPerfRecord_Unlink(PERF_OWN_RECORD(), &perf_loop, PERF_LINES)

/* The loop leaves `frame`, perhaps one without a record. */
#define PERF_LEAVE_FRAME() \
    do { \
        if (!_PyPerfBase_IsInitCleanup(frame)) { \
            PERF_UNLINK(); \
        } \
    } while (0)

#define PERF_LEAVE_LOOP() \
    _PyPerfRecord_LeaveLoop(tstate, &perf_loop)

/* Leave the frame that checks what __init__() has returned, as RETURN_VALUE does.  Its
   caller may be the loop's own frame, which has no code object: debug builds do not
   allow PUSH() there. */
#define PERF_LEAVE_INIT() \
    do { \
        PyObject *instance = POP(); \
        _PyInterpreterFrame *done = frame; \
        _PyFrame_SetStackPointer(frame, stack_pointer); \
        _Py_LeaveRecursiveCallPy(tstate); \
        frame = tstate->current_frame = done->previous; \
        _PyEval_FrameClearAndPop(tstate, done); \
        stack_pointer = _PyFrame_GetStackPointer(frame); \
        BASIC_PUSH(instance); \
        next_instr = frame->instr_ptr + frame->return_offset; \
        LLTRACE_RESUME_FRAME(); \
        DISPATCH(); \
    } while (0)

#undef DISPATCH_INLINED
#define DISPATCH_INLINED(NEW_FRAME) \
    do { \
        _PyFrame_SetStackPointer(frame, stack_pointer); \
        (NEW_FRAME)->previous = frame; \
        frame = tstate->current_frame = (NEW_FRAME); \
        CALL_STAT_INC(inlined_py_calls); \
        PERF_LINK_FRAME(); \
        goto start_frame; \
    } while (0)

/* The same for a generator. */
#define PERF_RESUME_INLINED(NEW_FRAME) \
    do { \
        _PyFrame_SetStackPointer(frame, stack_pointer); \
        (NEW_FRAME)->previous = frame; \
        frame = tstate->current_frame = (NEW_FRAME); \
        CALL_STAT_INC(inlined_py_calls); \
        PERF_LINK(true, perf_run_nested); \
        goto start_frame; \
    } while (0)

/* Whether the loop was entered by the throw() of a generator, and not because a frame
   was handed over with an exception. */
#define PERF_IS_THROWN() (!_PyPerfEvaluator_TakeIsHandingOver())

/* An instruction for tools is dispatched again when they have seen it. */
#define PERF_START_TRACING() PERF_STORE_LINE()

#undef TARGET
#if USE_COMPUTED_GOTOS
#define TARGET(op) TARGET_##op: PERF_BEGIN_INSTRUCTION(op);
#else
#define TARGET(op) case op: TARGET_##op: PERF_BEGIN_INSTRUCTION(op);
#endif

/* A few instructions ask for the opcode that they were reached with.  Here it is a
   constant again, so no instruction has to keep it in a register for them.  Two
   instructions run in frames without a record. */
#define PERF_BEGIN_INSTRUCTION(op) \
    do { \
        opcode = (op); \
        if ((op) != EXIT_INIT_CHECK && (op) != INTERPRETER_EXIT) { \
            PERF_STORE_LINE(); \
        } \
    } while (0)

/* The labels where there is no room for the frame's record.  Run the frame in a nested
   eval loop.  Then continue with its caller as if the frame had returned, or yielded,
   in this loop. */
#define PERF_RUN_NESTED \
perf_run_nested: \
    PERF_RUN_IN_NESTED(run_nested) \
perf_run_unchecked: \
    PERF_RUN_IN_NESTED(run_unchecked)

#define PERF_RUN_IN_NESTED(RUN) \
    { \
        _PyInterpreterFrame *caller = frame->previous; \
        PyObject *retval = RUN(tstate, frame); \
        frame = caller; \
        if (retval == NULL) { \
            goto resume_with_error; \
        } \
        next_instr = frame->instr_ptr; \
        stack_pointer = _PyFrame_GetStackPointer(frame); \
        DISPATCH(); \
    }

#endif  /* PERF_EVAL_LOOP */
#endif  /* !Py_INTERNAL_PERF_EVALLOOP_3_13_H */
