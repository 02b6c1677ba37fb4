/* Frame records: calls that profilers see.

   A call from one Python function to another does not go through C.  The eval loop
   pushes a Python frame and continues.  A real call through the trampoline would make
   fib() take half as long again.  But profilers do not need a call.  They walk a list
   of frame records, {frame pointer of the caller, return address}.  The head of the
   list is in the eval loop's C frame: the place where the loop saved its caller's frame
   pointer.  Before the second eval loop (perf_evalloop.c) runs `bar`, which `foo` has
   called, it writes a record for `bar` and links it.  The return address in that record
   is the one after the call in bar's trampoline:

       before                             while bar runs

       eval loop's frame                  eval loop's frame
         [ saved fp | in Enter ]            [ saved fp | in Enter ]
              |                                  |
      Enter's |frame                     Enter's |frame
         room |                             room |
         room |                             [ fp | in bar ] <-- bar's record
         [ fp | in foo ] <-- foo's          [ fp | in foo ] <-- foo's
         [ fp | in the C caller ]           [ fp | in the C caller ]

   (Enter is _PyPerf_EnterEvalLoop().  Each fp points to the next pair below it in the
   picture.  On riscv64 it points to the end of that pair.)

   A profiler sees: the eval loop, _PyPerf_EnterEvalLoop(), bar, foo.  When the loop
   leaves bar, it unlinks bar's record.  The rules:

   - The records are in the C frame of _PyPerf_EnterEvalLoop() (asm_trampoline_*.S),
     from its high end downwards.  So the addresses in the list rise from callee to
     caller, as many unwinders require.
   - A record is complete before it is linked, because a signal handler may walk the
     list at any instruction.
   - No return address that the processor uses is ever changed.
   - All records can be reached from the eval loop's own C frame.  No list is kept for
     the thread.  So code that switches or copies C stacks takes the records along.
   - The second loop links a record for each frame that it pushes, also after profiling
     has been switched off.  The record of a function without a name returns into
     _PyPerf_EnterEvalLoop().  So the loop unlinks one record for each frame that it
     pushed, on every way out: return, yield, creation of a generator, exception.
   - _PyPerf_EnterEvalLoop() writes the record of the function that the loop is entered
     for.  A real call through the trampoline would have two more jumps that the
     processor must predict.  With such a call generators were 15 % slower, with the
     record 4 %.  On 3.11 this record is never unlinked.  On 3.13 the loop leaves that
     function as it leaves any other, and then ends.
   - When there is no room for a record, the frame runs in a nested eval loop, which has
     room for more.  If little of the C stack is left, profiling is switched off first.
     On a stack whose end is unknown (perf_stack.c) the nested loop is a bare one: it
     links no records, so it nests no further.

   DWARF unwinders follow the same list.  The second loop is always compiled with a
   frame pointer.  So its unwind information says that its caller's registers are where
   the loop saved the frame pointer.  The unwind information of _PyPerf_EnterEvalLoop()
   and of the trampolines, after the call, says the same.

   A frame of the first loop has no record.  It gets one when it is handed over
   (perf_evaluator.c).  */

#include "Python.h"
#include "pycore_ceval.h"           // _PyEval_EvalFrameDefault()
#include "pycore_perf_asm.h"        // _PyPerf_EnterEvalLoop()
#include "pycore_perf_evaluator.h"  // _PyPerfEvaluator_EvalFrame()
#include "pycore_perf_profiler.h"   // _PyPerfProfiler_EnsureAnnounced()
#include "pycore_perf_record.h"
#include "pycore_perf_slots.h"
#include "pycore_perf_stack.h"

/* Return the number of the slot of `frame`'s function, or 0 if it has none.  If
   profiling is on, gives it a slot and a name, if need be.  Sets no exception.  An
   exception that is set stays set. */
static uint32_t
ensure_slot(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    PyCodeObject *code = _PyPerfBase_FrameCode(frame);
    const uint32_t slot = _PyPerfBase_SlotNumber(code);
    if (slot != 0) {
        return slot;
    }
    if (tstate->interp->eval_frame == NULL) {
        // If it has a slot, its name appears as soon as profiling is on again.
        return _PyPerfSlots_Find(code);
    }
    _PyPerfProfiler_EnsureAnnounced(tstate, code);
    return _PyPerfBase_SlotNumber(code);
}

/* Return the return address for the record of `frame`, in a loop with these `lines`.
   Names its function, if need be. */
static const void *
frame_address(PyThreadState *tstate, _PyInterpreterFrame *frame, bool lines)
{
    const uint32_t slot = ensure_slot(tstate, frame);
    return _PyPerfRecord_FrameAddress(frame, slot, lines);
}

bool
_PyPerfRecord_LinkSlowly(PyThreadState *tstate, _PyInterpreterFrame *frame,
                         struct _PyPerfRecord *head, const void *limit,
                         struct _PyPerfLoop *loop, bool lines)
{
    const uint32_t slot = ensure_slot(tstate, frame);
    if (_PyPerfRecord_HasRoom(head, limit)) {
        _PyPerfRecord_Write(head, loop, lines,
                            _PyPerfRecord_FrameAddress(frame, slot, lines));
        return true;
    }
    if (lines && loop->step == 0) {
        return true;                // a bare loop
    }
    // The first eval loop is entered once.  Calls within it use no C stack.
    if (tstate->interp->eval_frame != NULL
            && _PyPerfStack_Look() == _PyPerfStack_SHORT) {
        _PyPerfProfiler_StopOnLowStack();
    }
    return false;
}

PyObject *
_PyPerfRecord_RunNested(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    if (tstate->interp->eval_frame != _PyPerfEvaluator_EvalFrame) {
        return _PyEval_EvalFrameDefault(tstate, frame, 0);
    }
    if (_PyPerfStack_Look() != _PyPerfStack_FOREIGN) {
        return _PyPerfEvaluator_EvalFrame(tstate, frame, 0);
    }
    const void *address = frame_address(tstate, frame, false);
    return _PyPerf_EnterBareEvalLoop(tstate, frame, 0, 0, &address);
}



// --- Profiling is switched on late -----------------------------------------

void
_PyPerfRecord_CatchUp(PyThreadState *tstate, _PyInterpreterFrame *frame,
                      PyObject **stack_pointer, _Py_CODEUNIT *next_instr,
                      struct _PyPerfRecord *head, struct _PyPerfLoop *loop, bool lines)
{
    if (!_PyPerfEvaluator_MustCatchUp(tstate)) {
        return;
    }
    const bool is_bare = lines && loop->step == 0;
    struct _PyPerfRecord *record = head->caller - _PyPerfArch_RECORDS_BELOW;
    for (_PyInterpreterFrame *next = frame;; next = _PyPerfBase_OuterFrame(next)) {
        const bool is_entry = _PyPerfBase_IsEntryFrame(next);
        if (!is_bare || is_entry) {
            *(const void *volatile *)&record->return_address =
                frame_address(tstate, next, lines && !is_bare);
            record++;
        }
        if (is_entry) {
            break;
        }
    }
    if (_PyPerf_Pool.lines != lines && !is_bare) {
        // Now the loop has no records.
        struct _PyPerfRecord *volatile *first = &head->caller;
        struct _PyPerfRecord *const unlinked = *first;
        *first = record + _PyPerfArch_RECORDS_BELOW;
        _PyPerfEvaluator_HandOverRecorded(tstate, frame, stack_pointer, next_instr);
        *first = unlinked;
    }
    loop->raises_breaker |= !_PyPerfEvaluator_IsOutermostLoop(tstate);
}

/* The largest number of records for frames that are handed over together.  Each one
   takes 24 bytes of C stack, and perf dumps 8 KiB of it by default.  Frames further out
   get their records when control returns to them. */
#define MOST_CALLERS 127

PyObject *
_PyPerfRecord_RunHandedOver(PyThreadState *tstate, _PyInterpreterFrame *frame,
                            int throwflag)
{
    const bool lines = _PyPerf_Pool.lines;
    const void *addresses[MOST_CALLERS];
    // One record, and as many more as fit into half of the C stack that is left.
    const size_t most = Py_MIN(
        MOST_CALLERS, _PyPerfStack_Left() / 2 / sizeof(struct _PyPerfRecord) + 1);
    size_t count = 0;
    for (_PyInterpreterFrame *next = _PyPerfBase_FunctionFrame(frame); count < most;
            next = _PyPerfBase_OuterFrame(next)) {
        addresses[MOST_CALLERS - ++count] = frame_address(tstate, next, lines);
        if (_PyPerfBase_IsEntryFrame(next)) {
            break;
        }
    }
    _PyPerfEvaluator_IsHandingOver = throwflag != 0;
    PyObject *result = (lines ? _PyPerf_EnterEvalLoopWithLinesAndCallers
                              : _PyPerf_EnterEvalLoopWithCallers)(
        tstate, frame, throwflag, addresses + MOST_CALLERS - count, count);
    _PyPerfEvaluator_IsHandingOver = false;
    // Frames beyond C functions must be handed over too.
    _PyPerfEvaluator_RaiseBreaker(tstate);
    return result;
}
