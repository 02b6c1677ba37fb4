/* The frame evaluators (PEP 523) of a profiled interpreter.

   An interpreter has one evaluator, a function that runs a Python frame.  Debuggers and
   compilers set evaluators too.  Most of them keep the evaluator that was set before
   and call it.  So evaluators form a chain, and the last one calls an eval loop.  In
   this table F is an evaluator of others:

       how it is installed                 what runs a frame

       there is no other evaluator         EvalFrame > second eval loop
       the same, with -X perf=calls        CallFrame > trampoline > first loop
       F was there before                  CallFrame > trampoline > F > first loop
       F came later and calls ours         F > EvalFrame > second eval loop
       F came later and does not           F > first loop: profiling is inactive

   In the first case calls between Python functions stay inlined in the eval loop.  In
   all others the eval loops see that the evaluator is not EvalFrame, and send each
   call through it, as the unpatched interpreter does.

   No interface says whether F calls the evaluator that was set before.  We know whether
   an evaluator was read since ours was set (_PyPerfEvaluator_WasRead()), and whether
   ours was called since F was set.  If a frame is running that began after F was set,
   and ours was not called, F does not call it.

   Others may keep the address of our evaluator and call it at any later time.  So when
   profiling is switched off while F is the topmost, our evaluator stays in the chain
   and passes the frames on.


   Frames that are running when profiling is switched on

   These frames are in the first eval loop.  It tests the eval breaker at each call and
   each jump backward.  We raise the breaker, and on its slow path the loop calls
   _PyPerfEvaluator_HandOver().  That function runs the rest of the frame in the
   second loop, then the rest of its caller, and so on, up to the frame that the first
   loop was entered for.  Now it has the value that the first loop must return.  It
   returns this value directly to the first loop's caller, with the registers that
   libgcc's unwinder has found for that caller.  So the call is the only code that the
   first loop needs for this.

   Frames beyond a C function follow when control returns to them.  Generators and
   coroutines follow when they are resumed.  A thread that is in a C function without
   the GIL must take the GIL to continue, and the breaker is raised then.  A frame that
   is being traced (sys.settrace(), or lines by sys.monitoring) is handed over when
   tracing ends.  Otherwise the tracer's knowledge of the last instruction would be
   lost.

   The first loop may have called C, and C may have called Python in a second loop.
   There the slow path lowers the breaker.  So the second loop raises it again when it
   ends, until the outermost loop of the thread has taken the slow path.  A second loop
   may also run functions that were first called while profiling was off.  They get
   their names on the slow path.

   When lines are switched on or off, the second loops that are running are of the wrong
   kind.  They take the slow path too, and hand their frames over to the other kind.

   A child that C code has forked does the same.  There the slow path makes the profiler
   notice that this is a child (perf_fork.c).

   On macOS (_PyPerfArch_CAN_RETURN_TO is 0), and on threads with a shadow stack, frames
   cannot be handed over.  There running frames have no names until they are called
   again.  */

#include "Python.h"
#include "pycore_ceval.h"           // _PyEval_EvalFrameDefault()
#include "pycore_perf_arena.h"
#include "pycore_perf_arch.h"
#include "pycore_perf_asm.h"
#include "pycore_perf_base.h"
#include "pycore_perf_evaluator.h"
#include "pycore_perf_lock.h"
#include "pycore_perf_profiler.h"   // _PyPerfProfiler_EnsureAnnounced()
#include "pycore_perf_record.h"     // _PyPerfRecord_FrameAddress()
#include "pycore_perf_slots.h"
#include "pycore_perf_stack.h"
#include "pycore_perf_unwind.h"     // _PyPerfUnwind_FindCaller()
#include "pycore_pystate.h"         // _PyThreadState_GET()

struct evaluator {
    PyInterpreterState *interp;
    bool is_active;                 // profiling is on in it
    _PyFrameEvalFunction installed; // which of ours
    _PyFrameEvalFunction below;     // the one that CallFrame calls; NULL: none
    bool was_read;                  // since an evaluator was last set
    bool is_chained;                // F is the topmost, and may call ours
    // These three are about the last time that F was set:
    bool was_called;                // ours, since then
    PyThreadState *set_by;          // the thread that set F
    int remaining_at_set;           // recursion that this thread had left
    struct evaluator *next;
};

static struct evaluator *evaluators;
static bool is_own_change;          // we are setting an evaluator
unsigned int _PyPerfEvaluator_LateStarts;
_PyPerfLock_PER_THREAD bool _PyPerfEvaluator_IsHandingOver;

/* All Python frames of this thread state are in second eval loops.  This was so when
   _PyPerfEvaluator_LateStarts had this value. */
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

/* Note that our evaluator was called.  Stores the evaluator that runs frames without us
   in *below.  Returns whether profiling is on. */
static bool
evaluator_called(PyThreadState *tstate, _PyFrameEvalFunction *below)
{
    bool is_active = false;
    *below = _PyEval_EvalFrameDefault;
    _PyPerfLock_Take();
    struct evaluator *evaluator = evaluator_find(tstate->interp);
    if (evaluator != NULL) {
        evaluator->was_called = true;
        if (evaluator->below != NULL) {
            *below = evaluator->below;
        }
        is_active = evaluator->is_active;
    }
    _PyPerfLock_Release();
    return is_active;
}

/* Run a frame as if the trampoline of its function had called the eval loop.  The
   function has been announced. */
static inline PyObject *
eval_announced_frame(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                     int throwflag)
{
    return _PyPerf_Pool.enter(tstate, frame, throwflag,
                              _PyPerfBase_SlotNumber(_PyPerfBase_FrameCode(frame)),
                              _PyPerf_Pool.entry_addresses);
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

/* The rare case is in a separate function, so this one ends with a jump in both cases.
   It uses no C stack, and profilers do not see it between the frames. */
PyObject *
_PyPerfEvaluator_EvalFrame(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                           int throwflag)
{
    return _PyPerfSlots_IsAnnounced(_PyPerfBase_FrameCode(frame))
           ? eval_announced_frame(tstate, frame, throwflag)
           : eval_unannounced_frame(tstate, frame, throwflag);
}

/* Return the slot number of `code`, which is announced if it was not.  Returns 0 if
   profiling was switched off, or if the output began a new file meanwhile. */
static uint32_t
ensure_slot(PyThreadState *tstate, PyCodeObject *code)
{
    return _PyPerfSlots_IsAnnounced(code)
           || _PyPerfProfiler_EnsureAnnounced(tstate, code)
           ? _PyPerfBase_SlotNumber(code) : 0;
}

PyObject *
_PyPerfEvaluator_CallFrame(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                           int throwflag)
{
    typedef PyObject *(*trampoline_function)(PyThreadState *,
                                             struct _PyInterpreterFrame *, int,
                                             _PyFrameEvalFunction);
    _PyFrameEvalFunction below;
    const uint32_t slot = evaluator_called(tstate, &below)
        ? ensure_slot(tstate, _PyPerfBase_FrameCode(frame)) : 0;
    if (slot == 0) {
        return below(tstate, frame, throwflag);
    }
    // Without profiling these calls need no C stack, and do not count as calls by C.
    if (below == _PyEval_EvalFrameDefault
            && (_PyPerfStack_Look() == _PyPerfStack_SHORT
                || _PyPerfBase_CCallsAreShort(tstate))) {
        _PyPerfProfiler_StopOnLowStack();
        return below(tstate, frame, throwflag);
    }
    const void *trampoline = (const char *)_PyPerf_Pool.return_addresses[slot]
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
_PyPerfEvaluator_Install(PyInterpreterState *interp, bool calls)
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
        evaluator->installed = calls ? _PyPerfEvaluator_CallFrame
                                     : _PyPerfEvaluator_EvalFrame;
        evaluator->below = NULL;
    }
    else if (!is_ours(current)) {
        evaluator->installed = _PyPerfEvaluator_CallFrame;
        evaluator->below = current;
    }
    evaluator->was_read = evaluator->is_chained = false;
    evaluator_set(interp, evaluator->installed);
    if (interpreter_runs_frames(interp)) {
        _PyPerfEvaluator_StartLate(_PyThreadState_GET());
        _PyPerfBase_RaiseBreakersWithoutGil(interp);
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
        // Every call must take the slow path, which checks is_active.
        _PyPerfSlots_ForgetAll();
    }
}

void
_PyPerfEvaluator_RemoveAll(void)
{
    // Interpreters without an entry never had our evaluator.  The runtime's list has
    // them too, but other threads may change it: it has a lock of its own.
    for (struct evaluator *each = evaluators; each != NULL; each = each->next) {
        _PyPerfEvaluator_Remove(each->interp);
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

bool
_PyPerfEvaluator_AnyIsActive(const PyInterpreterState *except)
{
    for (struct evaluator *each = evaluators; each != NULL; each = each->next) {
        if (each->interp != except && _PyPerfEvaluator_IsActive(each->interp)) {
            return true;
        }
    }
    return false;
}

bool
_PyPerfEvaluator_CallsEachFunction(const PyInterpreterState *interp)
{
    if (interp->eval_frame != _PyPerfEvaluator_CallFrame) {
        return false;               // an evaluator that came later sees the usual calls
    }
    const struct evaluator *evaluator = evaluator_find(interp);
    return evaluator != NULL && evaluator->is_active && evaluator->below == NULL;
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
    if (!_PyPerfBase_SharesGil(interp)) {
        return;
    }
    _PyPerfLock_Take();
    struct evaluator *evaluator = evaluator_find(interp);
    if (evaluator != NULL) {
        evaluator->was_read = true;
    }
    _PyPerfLock_Release();
}

/* An evaluator of others is about to be set; return the one to set. */
static _PyFrameEvalFunction
evaluator_is_set(PyInterpreterState *interp, _PyFrameEvalFunction function)
{
    struct evaluator *evaluator = evaluator_find(interp);
    if (evaluator == NULL || is_own_change) {
        return function;
    }
    // Every call must take the slow path, which sets was_called.
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

_PyFrameEvalFunction
_PyPerfEvaluator_IsSet(PyInterpreterState *interp, _PyFrameEvalFunction function)
{
    if (!_PyPerfBase_SharesGil(interp)) {
        return function;
    }
    _PyPerfLock_Take();
    function = evaluator_is_set(interp, function);
    _PyPerfLock_Release();
    return function;
}


// --- Frames that are running -----------------------------------------------

void
_PyPerfEvaluator_RaiseBreaker(PyThreadState *tstate)
{
    _PyPerfBase_RaiseBreaker(tstate);
}

void
_PyPerfEvaluator_StartLate(PyThreadState *tstate)
{
    _PyPerfEvaluator_LateStarts++;
    if (tstate != NULL) {
        _PyPerfEvaluator_RaiseBreaker(tstate);
    }
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
        _PyPerfEvaluator_RaiseBreaker(tstate);
    }
}

/* Return whether the first eval loop must hand its frames over, of which `frame` is the
   innermost.  Lowers the breaker, but not while tracing prevents it: it is tried again
   when tracing ends.  Before a traced function begins, the breaker must be lowered in
   any case, because the loop tests it until it is. */
static bool
must_hand_over(PyThreadState *tstate, const struct _PyInterpreterFrame *frame,
               const _Py_CODEUNIT *next_instr)
{
    if (_PyPerfEvaluator_LateStarts == 0) {
        return false;
    }
    _PyPerfProfiler_DetectFork(tstate);
    const bool is_on = tstate->interp->eval_frame == _PyPerfEvaluator_EvalFrame;
    const bool is_traced = _PyPerfBase_IsTraced(tstate, frame);
    if (is_on && is_traced && !_PyPerfBase_BeginsFunction(next_instr)) {
        return false;
    }
    _PyPerfEvalLoop_LowerBreaker(tstate);
    return is_on && !is_traced && _PyPerfStack_Look() == _PyPerfStack_ENOUGH;
}

/* Run the frames of an eval loop, of which `frame` is the innermost, to their end in
   another loop.  Then return to the caller of the former.  Returns to its own caller
   only if that is impossible. */
static void
hand_over(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
          PyObject **stack_pointer, _Py_CODEUNIT *next_instr)
{
#if _PyPerfArch_CAN_RETURN_TO
    struct _PyPerfArch_Registers registers;
    _PyPerfLock_Take();
    const bool is_possible = !_PyPerfArch_HasShadowStack()
        && _PyPerfUnwind_FindCaller(_PyPerfBase_LoopVariable(tstate), &registers);
    _PyPerfLock_Release();
    if (!is_possible) {
        return;
    }
    PyObject *result = _PyPerfEvalLoop_RunToEntry(tstate, frame, stack_pointer,
                                                  next_instr);
    _PyPerf_ReturnTo(result, &registers);
#endif
}

void
_PyPerfEvaluator_HandOver(PyThreadState *tstate, struct _PyInterpreterFrame *frame,
                          PyObject **stack_pointer, _Py_CODEUNIT *next_instr)
{
    if (must_hand_over(tstate, frame, next_instr)) {
        hand_over(tstate, frame, stack_pointer, next_instr);
    }
}

void
_PyPerfEvaluator_HandOverRecorded(PyThreadState *tstate,
                                  struct _PyInterpreterFrame *frame,
                                  PyObject **stack_pointer, _Py_CODEUNIT *next_instr)
{
    // Each time takes some kilobytes of C stack, until the frames end.  Somebody may
    // switch lines again and again.
    if (tstate->interp->eval_frame == _PyPerfEvaluator_EvalFrame
            && !_PyPerfBase_IsTraced(tstate, frame) && _PyPerfStack_IsHalfFree()) {
        hand_over(tstate, frame, stack_pointer, next_instr);
    }
}

bool
_PyPerfEvaluator_MustCatchUp(PyThreadState *tstate)
{
    if (_PyPerfEvaluator_LateStarts == 0) {
        return false;
    }
    _PyPerfProfiler_DetectFork(tstate);
    _PyPerfEvalLoop_LowerBreaker(tstate);
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
