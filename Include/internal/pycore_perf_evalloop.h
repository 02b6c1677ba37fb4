/* The hooks of the eval loop.  Python/ceval.c includes this file before
   _PyEval_EvalFrameDefault().  ceval.c is compiled twice:

   - as ceval.c.  That is the first loop, CPython's own.  The hooks do what the
     unpatched code does in their place.  One is added: on the slow path of the eval
     breaker a frame can be handed over to the second loop.

   - as perf_evalloop.c, which defines PERF_EVAL_LOOP.  That is the second loop.
     It links a frame record for each call between Python functions.

   Python/perf_record.c explains the records. */

#ifndef Py_INTERNAL_PERF_EVALLOOP_H
#define Py_INTERNAL_PERF_EVALLOOP_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_evaluator.h"
#include "pycore_perf_record.h"

/* Called when the loop leaves FRAME.  True if this loop pushed FRAME.  Then its record,
   if it has one, is unlinked.  Otherwise the loop itself ends. */
#ifndef PERF_EVAL_LOOP
#  define PERF_LEAVE_INLINED(FRAME) (!(FRAME)->is_entry)
#else
#  define PERF_LEAVE_INLINED(FRAME) \
    (__builtin_expect(!(FRAME)->is_entry, 1) \
     ? (_PyPerfRecord_Unlink(PERF_OWN_RECORD()), true) \
     : _PyPerfRecord_LeaveUnlinked(tstate, &perf_loop))
#endif

/* Called when the loop ends because a generator yields. */
#ifndef PERF_EVAL_LOOP
#  define PERF_LEAVE_YIELDING()
#else
#  define PERF_LEAVE_YIELDING() \
    (void)_PyPerfRecord_LeaveUnlinked(tstate, &perf_loop)
#endif

#ifndef PERF_EVAL_LOOP

#define PERF_OPCODE_TARGETS "opcode_targets.h"
#define PERF_DECLARATIONS
#define PERF_START_TRACING()
#define PERF_LINK_FRAME()
#define PERF_MUST_CALL() (tstate->interp->eval_frame != NULL)

#ifdef PY_HAVE_PERF_TRAMPOLINE

int
_PyPerfEvalLoop_HandlePending(PyThreadState *tstate)
{
    return eval_frame_handle_pending(tstate);
}

/* This call does not return if it hands the frame over.  There is no branch after it.
   One more edge in the loop's flow graph makes compilers allocate the registers of the
   whole loop differently. */
#define PERF_CHECK_HAND_OVER() \
    _PyPerfEvaluator_HandOver(tstate, frame, stack_pointer, next_instr)

#else
#define PERF_CHECK_HAND_OVER()
#endif
#define PERF_RUN_NESTED

#else   /* PERF_EVAL_LOOP */

#define PERF_OPCODE_TARGETS "Python/perf_opcode_targets.h"
#define PERF_ADDRESSES &_PyPerf_Pool.return_addresses
#define PERF_LINE_ADDRESSES &_PyPerf_Pool.line_addresses

/* The eval loop's own frame record.  The builtin makes the compiler keep a frame
   pointer. */
#define PERF_OWN_RECORD() \
    ((struct _PyPerfRecord *)__builtin_frame_address(0) - _PyPerfArch_RECORDS_BELOW)

#define PERF_DECLARATIONS \
    PERF_TABLES_OF_SWITCH \
    struct _PyPerfLoop perf_loop; \
    _PyPerfLoop_Init(&perf_loop, opcode_targets)

/* A frame begins.  If this loop pushed it, link its record. */
#define PERF_LINK_FRAME() \
    if (!frame->is_entry \
            && !_PyPerfRecord_Link(tstate, frame, PERF_OWN_RECORD(), \
                                   _PyPerfArch_END_OF_FRAME(), &perf_loop)) { \
        goto perf_run_nested; \
    }

/* Whether a call between Python functions must go through the frame evaluator: only if
   there is one and it is not EvalFrame.  After profiling was switched off there is
   none.  Then this loop still inlines calls. */
#define PERF_MUST_CALL() \
    (__builtin_expect(tstate->interp->eval_frame != _PyPerfEvaluator_EvalFrame, 0) \
     && tstate->interp->eval_frame != NULL)

#define PERF_CHECK_HAND_OVER() \
    _PyPerfRecord_CatchUp(tstate, frame, PERF_OWN_RECORD(), &perf_loop)


/* Lines.  In a loop that stores them, each instruction writes its own address, the low
   half of it, to the topmost record (perf_record.c).  An instruction has two labels:
   one in front of the store, and one behind it.  So there are two tables for dispatch,
   one behind the other: 256 labels for loops without lines, and 256 for loops with
   lines. Behind each one is the address of the table of addresses to link records with.
   The loop has the address of its table in a variable.  The first loop has the address
   of its only table in one, too, because compilers put it there.  So without lines the
   two loops execute the same instructions. */

#define PERF_STORE_LINE() \
    _PyPerfRecord_StoreLine(PERF_OWN_RECORD(), next_instr)

/* A traced instruction is dispatched to the tracing code first. */
#define PERF_START_TRACING() \
    if (_PyPerfLoop_HasLines(&perf_loop)) { \
        PERF_STORE_LINE(); \
    }

#if USE_COMPUTED_GOTOS

#define PERF_TABLES_OF_SWITCH

#undef DISPATCH_GOTO
#define DISPATCH_GOTO() goto *perf_loop.targets[opcode]

#undef TARGET
#define TARGET(op) \
    LINE_TARGET_##op: PERF_STORE_LINE(); \
    TARGET_##op: INSTRUCTION_START(op);

#else   /* !USE_COMPUTED_GOTOS */

/* The tables without labels. */
#define PERF_TABLES_OF_SWITCH \
    static void *opcode_targets[] = { \
        [_PyPerfLoop_LABELS] = PERF_ADDRESSES, \
        [2 * _PyPerfLoop_LABELS + 1] = PERF_LINE_ADDRESSES, \
    };

#undef INSTRUCTION_START
#define INSTRUCTION_START(op) \
    do { \
        if (_PyPerfLoop_HasLines(&perf_loop)) { \
            PERF_STORE_LINE(); \
        } \
        frame->prev_instr = next_instr++; \
    } while (0)

#endif  /* !USE_COMPUTED_GOTOS */

/* The label perf_run_nested: there is no room for the frame's record.  Run the frame in
   a nested eval loop.  Then continue with its caller as if the frame had returned in
   this loop. */
#define PERF_RUN_NESTED \
perf_run_nested: \
    { \
        _PyInterpreterFrame *done = frame; \
        cframe.current_frame = done->previous; \
        PyObject *retval = _PyPerfRecord_RunNested(tstate, done); \
        frame = cframe.current_frame = done->previous; \
        _PyEvalFrameClearAndPop(tstate, done); \
        if (retval == NULL) { \
            goto resume_with_error; \
        } \
        _PyFrame_StackPush(frame, retval); \
        goto resume_frame; \
    }

/* A frame that is handed over with an exception is not being called.  So tracers get no
   call event. */
#undef TRACE_FUNCTION_THROW_ENTRY
#define TRACE_FUNCTION_THROW_ENTRY() \
    if (cframe.use_tracing && !_PyPerfEvaluator_IsHandingOver \
            && trace_function_entry(tstate, frame)) { \
        goto exit_unwind; \
    } \
    _PyPerfEvaluator_IsHandingOver = false

#endif  /* PERF_EVAL_LOOP */
#endif  /* !Py_INTERNAL_PERF_EVALLOOP_H */
