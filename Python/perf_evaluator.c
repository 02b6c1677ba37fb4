/* The frame evaluators (PEP 523) of a profiled interpreter.

   An interpreter has one evaluator, a function that runs a Python frame.  Debuggers and
   compilers set evaluators too.  Most of them keep the one that was there before and
   call it: evaluators form a chain, and the last one calls an eval loop.

       how it is installed                 what runs a frame

       nobody else has an evaluator        EvalFrame > second eval loop
       F was there before                  CallFrame > trampoline > F > first loop
       F came later and calls ours         F > EvalFrame > second eval loop
       F came later and does not           F > first loop: profiling is inactive

   In the first case calls between Python functions stay inlined in the eval loop.  In
   all others the eval loops see that the evaluator is not EvalFrame, and send each
   call through it, as the unpatched interpreter does.

   Nobody says whether F calls the evaluator that was there before.  What we know:
   whether somebody has read the evaluator since ours was set (_WasRead), and whether
   ours has been called since F was set.  If a frame is running that began after that
   and ours has not been called, F does not call it.

   Others may keep the address of our evaluator for as long as they like.  So when
   profiling is switched off and ours is not the topmost, it stays in the chain and
   passes the frames on.

   Frames that run already.  When profiling is switched on, the frames that are running
   are in the first eval loop.  It tests the eval breaker at each call and each jump
   backward.  We raise the breaker, and on its slow path the loop calls
   _PyPerfEvaluator_HandOver().  That function runs the rest of the frame in the second
   loop, then the rest of its caller, and so on, up to the frame that the first loop was
   entered for.  It has the value then that the first loop has to return.  It does not
   go back to the first loop: it returns to the first loop's caller, with the registers
   that the unwinder of the C library finds for that.  So the first loop needs no code
   for it but the call.  Frames beyond a C function follow when control comes back to
   them.  Generators and coroutines follow when they are resumed.
   A thread that is in a C function without the GIL comes back by taking the GIL, and
   the breaker is raised then.  A frame that is being traced (sys.settrace()) is handed
   over when that ends: what the tracer knows of the last instruction would be lost.

   A second loop can be in between: the first loop calls C, and C calls Python.  The
   slow path lowers the breaker, so the second loop raises it again when it ends, until
   the outermost loop of the thread has been there.  A second loop may also run
   functions that were first called while profiling was off.  On the slow path they get
   their names.  */

#include "Python.h"
#include "pycore_ceval.h"           // _PyEval_EvalFrameDefault()
#include "pycore_perf_arena.h"
#include "pycore_perf_arch.h"
#include "pycore_perf_asm.h"
#include "pycore_perf_base.h"
#include "pycore_perf_evaluator.h"
#include "pycore_perf_profiler.h"   // _PyPerfProfiler_EnsureAnnounced()
#include "pycore_perf_slots.h"
#include "pycore_perf_stack.h"
#include "pycore_perf_unwind.h"     // _PyPerfUnwind_FindCaller()
#include "pycore_pystate.h"         // _PyThreadState_GET()

/* From perf_evalloop.c: set the eval breaker to what signals, other threads and pending
   calls ask for. */
extern void _PyPerfEvalLoop_RecomputeBreaker(PyInterpreterState *interp);

/* From there too: run frames of the first eval loop to their end. */
extern PyObject *_PyPerfEvalLoop_RunToEntry(PyThreadState *tstate,
                                            struct _PyInterpreterFrame *frame);

struct evaluator {
    PyInterpreterState *interp;
    bool is_active;                 // profiling is on in it
    _PyFrameEvalFunction installed; // which of ours
    _PyFrameEvalFunction below;     // what CallFrame runs a frame by
    bool was_read;                  // since an evaluator was set last
    bool is_chained;                // others may call ours; it is not the topmost
    bool was_called;                //   and it has been called since
    PyThreadState *set_by;          //   the thread that set the topmost one
    int remaining_at_set;           //   and its recursion at that time
    struct evaluator *next;
};

static struct evaluator *evaluators;
static bool is_own_change;          // we are setting an evaluator
unsigned int _PyPerfEvaluator_LateStarts;
bool _PyPerfEvaluator_IsHandingOver;

/* All Python frames of this thread state are in second eval loops, and were when
   profiling had been switched on late so many times. */
static _Thread_local struct {
    const PyThreadState *tstate;
    unsigned int late_starts;
} caught_up;

/* Return what is known of the evaluators of `interp`, or NULL. */
static struct evaluator *
evaluator_find(const PyInterpreterState *interp)
{
    struct evaluator *evaluator = evaluators;
    while (evaluator != NULL && evaluator->interp != interp) {
        evaluator = evaluator->next;
    }
    return evaluator;
}

static bool
is_ours(_PyFrameEvalFunction function)
{
    return function == _PyPerfEvaluator_EvalFrame
           || function == _PyPerfEvaluator_CallFrame;
}

static void
evaluator_set(PyInterpreterState *interp, _PyFrameEvalFunction function)
{
    is_own_change = true;
    _PyInterpreterState_SetEvalFrameFunc(interp, function);
    is_own_change = false;
}


// --- Running frames --------------------------------------------------------

/* Note that an evaluator of others has called ours.  Returns whether profiling is
   on. */
static bool
evaluator_called(PyThreadState *tstate, _PyFrameEvalFunction *below)
{
    struct evaluator *evaluator = evaluator_find(tstate->interp);
    *below = _PyEval_EvalFrameDefault;
    if (evaluator == NULL) {
        return false;
    }
    evaluator->was_called = true;
    if (evaluator->below != NULL) {
        *below = evaluator->below;
    }
    return evaluator->is_active;
}

/* Run a frame as if the trampoline of its function had called the eval loop.  The
   function has been announced. */
static inline PyObject *
eval_announced_frame(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                     int throwflag)
{
    const PyCodeObject *code = _PyPerfBase_FrameCode(frame);
    return _PyPerf_EnterEvalLoop(
        tstate, frame, throwflag,
        _PyPerf_Pool.return_addresses[_PyPerfBase_SlotNumber(code)]);
}

static Py_NO_INLINE PyObject *
eval_unannounced_frame(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                       int throwflag)
{
    _PyFrameEvalFunction below;
    if (!evaluator_called(tstate, &below)) {
        return below(tstate, frame, throwflag);
    }
    return _PyPerfProfiler_EnsureAnnounced(tstate, _PyPerfBase_FrameCode(frame))
           ? eval_announced_frame(tstate, frame, throwflag)
           : _PyEval_EvalFrameDefault(tstate, frame, throwflag);
}

/* The rare case is in a separate function.  So this one ends with a jump in both
   cases: it uses no C stack, and profilers do not see it between the frames. */
PyObject *
_PyPerfEvaluator_EvalFrame(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                           int throwflag)
{
    return _PyPerfSlots_IsAnnounced(_PyPerfBase_FrameCode(frame))
           ? eval_announced_frame(tstate, frame, throwflag)
           : eval_unannounced_frame(tstate, frame, throwflag);
}

PyObject *
_PyPerfEvaluator_CallFrame(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                           int throwflag)
{
    typedef PyObject *(*trampoline_function)(PyThreadState *,
                                             struct _PyInterpreterFrame *, int,
                                             _PyFrameEvalFunction);
    PyCodeObject *code = _PyPerfBase_FrameCode(frame);
    _PyFrameEvalFunction below;
    if (!evaluator_called(tstate, &below)
            || (!_PyPerfSlots_IsAnnounced(code)
                && !_PyPerfProfiler_EnsureAnnounced(tstate, code))) {
        return below(tstate, frame, throwflag);
    }
    const void *trampoline =
        (const char *)_PyPerf_Pool.return_addresses[_PyPerfBase_SlotNumber(code)]
        - _PyPerfTrampoline_ReturnOffset;
    return ((trampoline_function)(uintptr_t)trampoline)(tstate, frame, throwflag,
                                                        below);
}


// --- Installing and removing -----------------------------------------------

/* Return whether a thread of `interp` is running Python code. */
static bool
interpreter_runs_frames(PyInterpreterState *interp)
{
    bool result = false;
    _PyPerfBase_LockThreads();
    for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interp);
            tstate != NULL && !result; tstate = PyThreadState_Next(tstate)) {
        result = _PyPerfBase_TopFrame(tstate) != NULL;
    }
    _PyPerfBase_UnlockThreads();
    return result;
}

int
_PyPerfEvaluator_Install(PyInterpreterState *interp)
{
    struct evaluator *evaluator = evaluator_find(interp);
    if (evaluator == NULL) {
        evaluator = PyMem_RawCalloc(1, sizeof(*evaluator));
        if (evaluator == NULL) {
            return -1;
        }
        evaluator->interp = interp;
        evaluator->next = evaluators;
        evaluators = evaluator;
    }
    evaluator->is_active = true;
    const _PyFrameEvalFunction current = interp->eval_frame;
    if (current != NULL && !is_ours(current) && evaluator->is_chained) {
        return 0;                   // it is in the chain, further down
    }
    if (current == NULL || (is_ours(current) && evaluator->below == NULL)) {
        evaluator->installed = _PyPerfEvaluator_EvalFrame;
        evaluator->below = NULL;
    }
    else if (!is_ours(current)) {
        evaluator->installed = _PyPerfEvaluator_CallFrame;
        evaluator->below = current;
    }
    evaluator->was_read = evaluator->is_chained = false;
    evaluator_set(interp, evaluator->installed);
    if (interpreter_runs_frames(interp)) {
        _PyPerfEvaluator_LateStarts++;
        _PyPerfEvaluator_RaiseBreaker(interp);
    }
    return 0;
}

void
_PyPerfEvaluator_Remove(PyInterpreterState *interp)
{
    struct evaluator *evaluator = evaluator_find(interp);
    if (evaluator == NULL || !evaluator->is_active) {
        return;
    }
    evaluator->is_active = false;
    if (is_ours(interp->eval_frame)) {
        evaluator_set(interp, evaluator->below != NULL ? evaluator->below
                                                       : _PyEval_EvalFrameDefault);
        evaluator->below = NULL;
    }
    else {
        _PyPerfSlots_ForgetAll();   // so that ours is not passed by the slow path
    }
}

/* Return whether no frame can have begun since the topmost evaluator was set, as far as
   the calling thread can tell. */
static bool
evaluator_is_new(const struct evaluator *evaluator)
{
    const PyThreadState *tstate = _PyThreadState_GET();
    return tstate == evaluator->set_by
           && _PyPerfBase_RecursionRemaining(tstate) >= evaluator->remaining_at_set;
}

bool
_PyPerfEvaluator_IsActive(PyInterpreterState *interp)
{
    if (is_ours(interp->eval_frame)) {
        return true;
    }
    const struct evaluator *evaluator = evaluator_find(interp);
    return evaluator != NULL && evaluator->is_active && evaluator->is_chained
           && (evaluator->was_called || evaluator_is_new(evaluator));
}

void
_PyPerfEvaluator_Fini(PyInterpreterState *interp)
{
    for (struct evaluator **link = &evaluators; *link != NULL; link = &(*link)->next) {
        struct evaluator *evaluator = *link;
        if (evaluator->interp == interp) {
            *link = evaluator->next;
            PyMem_RawFree(evaluator);
            return;
        }
    }
}


// --- Evaluators of others --------------------------------------------------

void
_PyPerfEvaluator_WasRead(PyInterpreterState *interp)
{
    struct evaluator *evaluator = evaluator_find(interp);
    if (evaluator != NULL) {
        evaluator->was_read = true;
    }
}

_PyFrameEvalFunction
_PyPerfEvaluator_IsSet(PyInterpreterState *interp, _PyFrameEvalFunction function)
{
    struct evaluator *evaluator = evaluator_find(interp);
    if (evaluator == NULL || is_own_change) {
        return function;
    }
    // Slot numbers lead past the slow path of ours, which notes that it is called.
    _PyPerfSlots_ForgetAll();
    if (is_ours(function)) {
        evaluator->is_chained = false;
        if (!evaluator->is_active) {
            function = evaluator->below != NULL ? evaluator->below
                                                : _PyEval_EvalFrameDefault;
        }
    }
    else if (function == _PyEval_EvalFrameDefault) {
        evaluator->is_active = evaluator->is_chained = false;
        evaluator->below = NULL;
    }
    else {
        evaluator->is_chained |= evaluator->was_read && is_ours(interp->eval_frame);
        evaluator->was_called = false;
        evaluator->set_by = _PyThreadState_GET();
        evaluator->remaining_at_set = _PyPerfBase_RecursionRemaining(evaluator->set_by);
    }
    evaluator->was_read = false;
    return function;
}


// --- Frames that run already -----------------------------------------------

void
_PyPerfEvaluator_RaiseBreaker(PyInterpreterState *interp)
{
    _PyPerfBase_SetBreaker(interp);
}

static bool
thread_has_caught_up(const PyThreadState *tstate)
{
    return caught_up.tstate == tstate
           && caught_up.late_starts == _PyPerfEvaluator_LateStarts;
}

void
_PyPerfEvaluator_GilTakenLate(PyThreadState *tstate)
{
    if (!thread_has_caught_up(tstate)) {
        _PyPerfEvaluator_RaiseBreaker(tstate->interp);
    }
}

/* Return whether the first eval loop has to hand its frames over.  Lower the breaker. */
static bool
must_hand_over(PyThreadState *tstate)
{
    if (_PyPerfEvaluator_LateStarts == 0) {
        return false;
    }
    if (_PyPerfBase_IsTraced(tstate)) {
        return false;               // the breaker stays as it is
    }
    _PyPerfEvalLoop_RecomputeBreaker(tstate->interp);
    // The recursion limit may have been lowered below the depth that is reached.
    return tstate->interp->eval_frame == _PyPerfEvaluator_EvalFrame
           && _PyPerfBase_RecursionRemaining(tstate) >= 0
           && _PyPerfStack_Look() == _PyPerfStack_ENOUGH;
}

void
_PyPerfEvaluator_HandOver(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                          PyObject **stack_pointer, _Py_CODEUNIT *next_instr)
{
    if (!must_hand_over(tstate)) {
        return;
    }
#if _PyPerfArch_CAN_RETURN_TO
    struct _PyPerfArch_Registers registers;
    // The _PyCFrame lies in the frame of the eval loop.
    if (_PyPerfArch_HasShadowStack()
            || !_PyPerfUnwind_FindCaller(tstate->cframe, &registers)) {
        return;
    }
    _PyFrame_SetStackPointer(frame, stack_pointer);
    frame->prev_instr = next_instr - 1;
    _PyPerf_ReturnTo(_PyPerfEvalLoop_RunToEntry(tstate, frame), &registers);
#endif
}

bool
_PyPerfEvaluator_MustCatchUp(PyThreadState *tstate)
{
    if (_PyPerfEvaluator_LateStarts == 0) {
        return false;
    }
    _PyPerfEvalLoop_RecomputeBreaker(tstate->interp);
    return is_ours(tstate->interp->eval_frame) && !thread_has_caught_up(tstate);
}

bool
_PyPerfEvaluator_IsOutermostLoop(PyThreadState *tstate)
{
    if (!_PyPerfBase_IsOutermostLoop(tstate)) {
        return false;
    }
    caught_up.tstate = tstate;
    caught_up.late_starts = _PyPerfEvaluator_LateStarts;
    return true;
}
