/* Frame records: calls that profilers see.

   A call from one Python function to another does not go through C: the eval
   loop pushes a Python frame and goes on.  A real call through the trampoline
   would cost half as much again as everything that fib() does.  But a profiler
   does not ask for a call.  What it walks is a list of frame records, {caller's
   record, return address}, and the head of that list is the word of the eval
   loop's frame where it saved the frame pointer of its caller.  So when the eval
   loop goes on with `bar`, called by `foo`, it writes a record that returns to
   behind the call in bar's trampoline, and hangs it in:

       before                             while bar runs

       eval loop's frame                  eval loop's frame
         [ saved fp | in base ]             [ saved fp | in base ]
              |                                  |
       base's |frame                      base's |frame
         room |                             room |
         room |                             [ fp | in bar ] <-- bar's record
         [ fp | in foo ] <-- foo's          [ fp | in foo ] <-- foo's
         [ fp | in the C caller ]           [ fp | in the C caller ]

   (each fp points to the pair below it that is next in the list).

   A profiler sees: the eval loop, the base, bar, foo.  When bar is left its record
   is unhung.  The rules:

   - The records lie in the frame of the base (asm_trampoline_*.S) and are used
     from its high end downwards.  So the addresses of the list rise from callee
     to caller, as many unwinders demand.
   - A record is written whole before it is hung in: a signal handler may walk
     the list at any instruction.
   - No return address that the processor uses is ever changed.
   - All is reached from the eval loop's own frame; nothing is kept for a thread.
     Who switches or copies C stacks takes the records along.
   - A Python frame knows whether it has a record (has_record).  However
     profiling has been switched meanwhile, exactly what was hung in for it is
     unhung, on every way out: return, creation of a generator, exception.
   - The record of the function that an eval loop was entered for is written by
     the base, and stays as long as the base's frame: it is never unhung.  Its
     Python frame has no mark.  A real call through the trampoline there would have
     the processor guess two more jumps, and made generators 15 % slower, not 4 %.
   - When the records are used up the next function goes through C, to a new
     base; if there is no C stack for that, it goes without a record.

   DWARF unwinders read the same list.  The eval loop is always compiled with a
   frame pointer, so what describes its frame says that the caller's registers
   are where it saved the frame pointer; and what describes the base and the
   trampoline, behind a call, says the same.  */

#include "Python.h"
#include "pycore_ceval.h"           // _PyEval_EvalFrameDefault()
#include "pycore_perf_record.h"
#include "pycore_perf_slots.h"
#include "pycore_perf_stack.h"

unsigned int
_PyPerfRecord_EnsureSlot(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    if (tstate->interp->eval_frame == NULL) {
        // If it has a slot, it is visible as soon as profiling is on again.
        return _PyPerfSlots_Find(frame->f_code);
    }
    _PyPerfProfiler_EnsureAnnounced(tstate, frame->f_code);
    return frame->f_code->_co_perf_slot;
}

bool
_PyPerfRecord_NoRoom(PyThreadState *tstate, _PyInterpreterFrame *frame, int *unlinked)
{
    switch (_PyPerfStack_Look()) {
    case _PyPerfStack_ENOUGH:
        return true;
    case _PyPerfStack_SHORT:
        // The first eval loop needs C stack once, and none for further calls.
        if (tstate->interp->eval_frame != NULL) {
            _PyPerfProfiler_StopOnLowStack();
        }
        return true;
    case _PyPerfStack_FOREIGN:
        break;
    }
    frame->is_entry = true;
    ++*unlinked;
    return false;
}

PyObject *
_PyPerfRecord_RunNested(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    return tstate->interp->eval_frame == _PyPerfEvaluator_EvalFrame
           ? _PyPerfEvaluator_EvalFrame(tstate, frame, 0)
           : _PyEval_EvalFrameDefault(tstate, frame, 0);
}


// --- Profiling is switched on late -----------------------------------------

/* A flag in `unlinked`, beside the number of frames: when this loop ends, raise the
   eval breaker for the loops further out. */
#define RAISE_BREAKER (1 << 30)

bool
_PyPerfRecord_LeaveRarely(PyThreadState *tstate, int *unlinked)
{
    if ((*unlinked & ~RAISE_BREAKER) != 0) {
        --*unlinked;
        return true;
    }
    _PyPerfEvaluator_RaiseBreaker(tstate->interp);
    return false;
}

void
_PyPerfRecord_CatchUp(PyThreadState *tstate, _PyInterpreterFrame *frame,
                      struct _PyPerfRecord *head, int *unlinked)
{
    if (!_PyPerfEvaluator_MustCatchUp(tstate)) {
        return;
    }
    for (int count = *unlinked & ~RAISE_BREAKER; count > 0; count--) {
        frame = frame->previous;    // has no record
    }
    for (volatile struct _PyPerfRecord *record =
             head->caller - _PyPerfArch_RECORDS_BELOW; ; record++) {
        if (record->return_address == _PyPerf_Pool.return_addresses[0]) {
            const unsigned int slot = _PyPerfRecord_EnsureSlot(tstate, frame);
            record->return_address = _PyPerf_Pool.return_addresses[slot];
        }
        if (frame->is_entry) {
            break;
        }
        frame = frame->previous;
    }
    if (!_PyPerfEvaluator_IsOutermostLoop(tstate)) {
        *unlinked |= RAISE_BREAKER;
    }
}

/* At most so many records for a frame that is handed over: perf's stack dump has 8 KiB
   by default, and they take 24 bytes of C stack each.  Frames further out get their records when control returns to them. */
#define MOST_CALLERS 127

PyObject *
_PyPerfRecord_RunHandedOver(PyThreadState *tstate, _PyInterpreterFrame *frame,
                            int throwflag)
{
    const void *addresses[MOST_CALLERS];
    // At most half of the C stack that is left, and one.
    const size_t most = Py_MIN(
        MOST_CALLERS, _PyPerfStack_Left() / 2 / sizeof(struct _PyPerfRecord) + 1);
    size_t count = 0;
    for (_PyInterpreterFrame *next = frame; count < most; next = next->previous) {
        const unsigned int slot = _PyPerfRecord_EnsureSlot(tstate, next);
        addresses[MOST_CALLERS - ++count] = _PyPerf_Pool.return_addresses[slot];
        if (next->is_entry) {
            break;
        }
    }
    _PyPerfEvaluator_IsHandingOver = throwflag != 0;
    PyObject *result = _PyPerf_EnterEvalLoopWithCallers(
        tstate, frame, throwflag, addresses + MOST_CALLERS - count, count);
    _PyPerfEvaluator_RaiseBreaker(tstate->interp);   // for frames beyond C functions
    return result;
}
