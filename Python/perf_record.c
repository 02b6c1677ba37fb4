/* Frame records: inlined calls that profilers see.

   A call from one Python function to another does not go through C: the eval
   loop pushes a Python frame and goes on.  A real call through the trampoline
   would cost half as much again as everything that fib() does.  But a profiler
   does not ask for a call.  What it walks is a list of frame records, {caller's
   record, return address}, and the head of that list is the word of the eval
   loop's frame where it saved the frame pointer of its caller.  So when the eval
   loop goes on with `bar`, called by `foo`, it writes a record that returns to
   behind the call in bar's trampoline, and hangs it in:

       before                                  while bar runs

       eval loop's frame                       eval loop's frame
         saved fp --------+                      saved fp ---------+
         returns to base  |                      returns to base   |
       base's frame       |                    base's frame        |
         (room)           |                      (room)            |
         (room)           |                      (room)            |
         (room)           |                      saved fp ----+  <-+
         (room)           |                      returns to bar
         saved fp -----+ <+                      saved fp ----|+ <-+
         returns to foo|                         returns to foo|
       foo's trampoline|                       foo's trampoline|
         saved fp <----+                         saved fp <----+

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
   - The frame that an eval loop was entered for has no record: the trampoline
     through which it was entered stands there.
   - When the records are used up the next function goes through C, to a new
     base.  So does a function that has no name yet, once.

   DWARF unwinders read the same list.  The eval loop is always compiled with a
   frame pointer, so what describes its frame says that the caller's registers
   are where it saved the frame pointer; and what describes the base and the
   trampoline, behind a call, says the same.  */

#include "Python.h"
#include "pycore_interp.h"          // PyInterpreterState.eval_frame
#include "pycore_perf_record.h"
#include "pycore_perf_slot.h"       // _PyPerfSlot_OfCode()
#include "pycore_perf_trampoline.h" // _PyPerfTrampoline_EvalFrame()

bool
_PyPerfRecord_Link(PyThreadState *tstate, _PyInterpreterFrame *frame,
                   struct _PyPerfRecord *head, const void *limit)
{
    if (tstate->interp->eval_frame != _PyPerfTrampoline_EvalFrame
            || head->return_address != _PyPerfRecord_BaseReturn) {
        return false;
    }
    // volatile: in this order, and as they stand here, not two in a vector.
    volatile struct _PyPerfRecord *record = head->caller - 1;
    const struct _PyPerfSlot *slot = _PyPerfSlot_OfCode(frame->f_code);
    if (!_PyPerfSlot_IsAnnounced(slot)) {
        return false;
    }
    if ((const volatile void *)record < limit) {
        return false;
    }
    // Four neighbours in one store, as _PyFrame_IsInlined() reads them.
    frame->is_entry = false;
    frame->owner = FRAME_OWNED_BY_THREAD;
    frame->has_record = true;
    frame->unused = 0;
    record->return_address = slot->return_address;
    record->caller = head->caller;
    __asm__ volatile ("" ::: "memory");
    *(struct _PyPerfRecord *volatile *)&head->caller = (struct _PyPerfRecord *)record;
    return true;
}
