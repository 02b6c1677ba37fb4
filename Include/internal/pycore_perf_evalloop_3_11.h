/* The hooks of the eval loop that differ between CPython releases: CPython 3.11.
   pycore_perf_evalloop.h includes this file and explains the hooks. */

#ifndef Py_INTERNAL_PERF_EVALLOOP_3_11_H
#define Py_INTERNAL_PERF_EVALLOOP_3_11_H

#ifndef PERF_EVAL_LOOP

#define PERF_BEGIN_FRAME()
#define PERF_LEAVE_INLINED(FRAME) (!(FRAME)->is_entry)
#define PERF_LEAVE_YIELDING()
#define PERF_START_TRACING()

#ifdef PY_HAVE_PERF_TRAMPOLINE

extern int _PyPerfEvalLoop_HandlePending(PyThreadState *tstate);

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

/* The first loop's copy of this helper.  Functions that it calls have static variables,
   which must exist only once. */
extern int _PyPerfEvalLoop_HandlePending(PyThreadState *tstate);
#define eval_frame_handle_pending _PyPerfEvalLoop_HandlePending

/* A frame begins.  If this loop pushed it, link its record. */
#define PERF_BEGIN_FRAME() \
    do { \
        if (!frame->is_entry) { \
            PERF_LINK_FRAME(); \
        } \
    } while (0)

/* Called when the loop leaves FRAME.  True if this loop pushed FRAME.  Then its record,
   if it has one, is unlinked.  Otherwise the loop itself ends. */
#define PERF_LEAVE_INLINED(FRAME) \
    (__builtin_expect(!(FRAME)->is_entry, 1) \
     ? (_PyPerfRecord_Unlink(PERF_OWN_RECORD(), &perf_loop, PERF_LINES), true) \
     : (_PyPerfRecord_LeaveLoop(tstate, &perf_loop), false))

/* Called when the loop ends because a generator yields. */
#define PERF_LEAVE_YIELDING() \
    _PyPerfRecord_LeaveLoop(tstate, &perf_loop)

#define PERF_CHECK_HAND_OVER() \
    _PyPerfRecord_CatchUp(tstate, frame, stack_pointer, next_instr, \
                          PERF_OWN_RECORD(), &perf_loop, PERF_LINES)

/* A traced instruction is dispatched to the tracing code first. */
#define PERF_START_TRACING() PERF_STORE_LINE()

#if PERF_LINES
#if USE_COMPUTED_GOTOS
#undef TARGET
#define TARGET(op) TARGET_##op: PERF_STORE_LINE(); INSTRUCTION_START(op);
#else
#undef INSTRUCTION_START
#define INSTRUCTION_START(op) (PERF_STORE_LINE(), frame->prev_instr = next_instr++)
#endif
#endif

/* In builds with probes (--with-dtrace, as Debian's are) each instruction asks whether
   the probe for lines has a listener.  ceval.c makes the answer a part of the opcode,
   in an assignment that ends with this macro.  That takes four machine instructions,
   and a jump that is not taken takes two. */
#if USE_COMPUTED_GOTOS && defined(WITH_DTRACE)
#undef OR_DTRACE_LINE
#define OR_DTRACE_LINE \
    ; \
    if (PyDTrace_LINE_ENABLED()) { \
        goto TARGET_DO_TRACING; \
    }
#endif

/* Sums, differences and products of ints.  The base has functions for them that only
   the first loop calls.  Therefore link-time optimization moves them into that loop.
   This loop is compiled without link-time optimization.  If it called them, too, they
   would have to stay functions.  So it has its own.  3.13 exports its functions, so
   they stay functions in any case. */
#define PERF_IS_COMPACT(INT) ((size_t)Py_SIZE(INT) + 1 < 3)
#define PERF_COMPACT_VALUE(INT) (Py_SIZE(INT) * (long long)(INT)->ob_digit[0])

/* Return `value` as an int, or NULL with an exception set. */
static inline PyObject *
perf_new_int(long long value)
{
    if (value >= -_PY_NSMALLNEGINTS && value < _PY_NSMALLPOSINTS) {
        return Py_NewRef(&_PyLong_SMALL_INTS[_PY_NSMALLNEGINTS + value]);
    }
    const long long magnitude = value < 0 ? -value : value;
    if (magnitude > PyLong_MASK) {
        return PyLong_FromLongLong(value);
    }
    PyLongObject *result = PyObject_Malloc(sizeof(*result));
    if (result == NULL) {
        return PyErr_NoMemory();
    }
    _PyObject_InitVar((PyVarObject *)result, &PyLong_Type, value < 0 ? -1 : 1);
    result->ob_digit[0] = (digit)magnitude;
    return (PyObject *)result;
}

#define PERF_INT_OPERATION(NAME, OPERATOR, SLOT) \
    static inline PyObject * \
    NAME(PyLongObject *left, PyLongObject *right) \
    { \
        if (PERF_IS_COMPACT(left) && PERF_IS_COMPACT(right)) { \
            return perf_new_int(PERF_COMPACT_VALUE(left) \
                                OPERATOR PERF_COMPACT_VALUE(right)); \
        } \
        return PyLong_Type.tp_as_number->SLOT((PyObject *)left, (PyObject *)right); \
    }

PERF_INT_OPERATION(perf_add_ints, +, nb_add)
PERF_INT_OPERATION(perf_subtract_ints, -, nb_subtract)
PERF_INT_OPERATION(perf_multiply_ints, *, nb_multiply)

#define _PyLong_Add perf_add_ints
#define _PyLong_Subtract perf_subtract_ints
#define _PyLong_Multiply perf_multiply_ints

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
    if (!_PyPerfEvaluator_TakeIsHandingOver() && cframe.use_tracing \
            && trace_function_entry(tstate, frame)) { \
        goto exit_unwind; \
    }

#endif  /* PERF_EVAL_LOOP */
#endif  /* !Py_INTERNAL_PERF_EVALLOOP_3_11_H */
