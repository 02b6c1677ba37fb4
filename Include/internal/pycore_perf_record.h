/* Frame records: calls that profilers see.  Used by the second eval loop
   (pycore_perf_evalloop.h); Python/perf_record.c explains them.  Everything here
   needs the GIL. */

#ifndef Py_INTERNAL_PERF_RECORD_H
#define Py_INTERNAL_PERF_RECORD_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#ifdef PY_HAVE_PERF_TRAMPOLINE

#include "pycore_frame.h"           // _PyInterpreterFrame
#include "pycore_perf_arch.h"
#include "pycore_perf_arena.h"      // _PyPerf_Pool
#include "pycore_perf_base.h"       // _PyPerfBase_FrameCode()
#include "pycore_perf_evaluator.h"  // _PyPerfEvaluator_RaiseBreaker()
#include "pycore_perf_window.h"     // _PyPerfWindow_Translate()

/* Two words of a C stack, in the order that the platform's frame pointer convention
   requires (pycore_perf_arch.h). */
struct _PyPerfRecord {
    struct _PyPerfRecord *caller;   // frame pointer of the next record
    const void *return_address;
};

/* The state of one run of the second eval loop, in its C frame.  A bare loop is one
   that links no records: it has no room even for the first.  It knows that as soon as
   it finds none. */
struct _PyPerfLoop {
    void *const *targets;           // one of the two tables for dispatch
    size_t step;                    // the size of a record; 0: a bare loop
    bool raises_breaker;            // when it ends
};

/* How many labels a table for dispatch has.  Then comes the address of the field of
   _PyPerf_Pool to link records with. */
#define _PyPerfLoop_LABELS 256

/* Return the return address for the record of `frame`, whose function has the slot with
   this number; 0: none. */
static inline const void *
_PyPerfRecord_FrameAddress(const _PyInterpreterFrame *frame, unsigned int slot)
{
    return _PyPerf_Pool.lines
           ? _PyPerfWindow_Translate(_PyPerf_Pool.line_addresses[slot],
                                     _PyPerfBase_LastInstruction(frame))
           : _PyPerf_Pool.return_addresses[slot];
}

/* If profiling is on, give the function of `frame` a slot and a name, unless it has
   them.  Returns the number of its slot, or 0 if it has none.  Sets no exception.  An
   exception that is set stays set. */
extern uint32_t _PyPerfRecord_EnsureSlot(PyThreadState *tstate,
                                         _PyInterpreterFrame *frame);

/* Called if there is no room for the record of `frame`.  Returns true if the frame must
   run in a nested eval loop, and false if it runs without a record: the loop is a bare
   one.  Switches profiling off if little of the C stack is left. */
extern bool _PyPerfRecord_NoRoom(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                 struct _PyPerfLoop *loop);

/* Run `frame`, which an eval loop has pushed, in a nested eval loop: a bare one if the
   end of the C stack is unknown.  Returns what that loop returns. */
extern PyObject *_PyPerfRecord_RunNested(PyThreadState *tstate,
                                         _PyInterpreterFrame *frame);

/* Run the rest of `frame`, which the first eval loop has begun, in the second one.
   With `throwflag` an exception is set: `frame` has called a function that raised it.
   The callers of `frame` in the same first loop get records too.  Returns what the
   second loop returns. */
extern PyObject *_PyPerfRecord_RunHandedOver(PyThreadState *tstate,
                                             _PyInterpreterFrame *frame,
                                             int throwflag);

/* Called by the second loop on the slow path of the eval breaker.  `frame` is the frame
   that it runs.  If the loop has functions that were called while profiling was off, or
   with lines while it is without, or the other way round, writes their records again.
   Makes the loops further out take their slow paths too, when this one ends.  For
   `head` and `loop` see _PyPerfRecord_Link(). */
extern void _PyPerfRecord_CatchUp(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                  struct _PyPerfRecord *head, struct _PyPerfLoop *loop);

/* Return whether there is room for another record below the one that `head` refers to.
   `head` is the eval loop's own frame record.  `limit` is where the loop's C frame ends
   and its caller's begins.  The room begins 16 bytes above that (asm_trampoline_*.S).
   (`limit` would be wrong if the loop used alloca() and the compiler realigned its
   frame.  Then tests would fail.) */
static inline bool
_PyPerfRecord_HasRoom(const struct _PyPerfRecord *head, const void *limit)
{
    return (const void *)(head->caller - 2 - _PyPerfArch_RECORDS_BELOW) >= limit;
}

/* Return whether the loop stores lines. */
static inline bool
_PyPerfLoop_HasLines(const struct _PyPerfLoop *loop)
{
    return loop->targets[_PyPerfLoop_LABELS] == &_PyPerf_Pool.line_addresses;
}

/* Link a record for `frame`, which this eval loop has pushed and is about to run.  With
   `resumes` it continues behind its last instruction, otherwise it begins.  `loop` is
   the loop's state.  Returns false if the frame must run in a nested eval loop.  For
   `head` and `limit` see _PyPerfRecord_HasRoom(). */
static inline bool
_PyPerfRecord_Link(PyThreadState *tstate, _PyInterpreterFrame *frame,
                   struct _PyPerfRecord *head, const void *limit,
                   struct _PyPerfLoop *loop, bool resumes)
{
    uint32_t slot = _PyPerfBase_SlotNumber(_PyPerfBase_FrameCode(frame));
    if (__builtin_expect(slot == 0, 0)) {
        slot = _PyPerfRecord_EnsureSlot(tstate, frame);
    }
    if (__builtin_expect(!_PyPerfRecord_HasRoom(head, limit), 0)) {
        return !_PyPerfRecord_NoRoom(tstate, frame, loop);
    }
    // The stores are volatile, because a signal handler may walk the list at any
    // instruction.  So they are done in this order, and no two as one vector store.
    struct _PyPerfRecord *frame_pointer = head->caller - 1;
    volatile struct _PyPerfRecord *record = frame_pointer - _PyPerfArch_RECORDS_BELOW;
    const void *const *const *addresses = loop->targets[_PyPerfLoop_LABELS];
    const void *address = (*addresses)[slot];
    if (resumes && __builtin_expect(_PyPerfLoop_HasLines(loop), 0)) {
        address = _PyPerfWindow_Translate(address, _PyPerfBase_LastInstruction(frame));
    }
    record->return_address = address;
    record->caller = head->caller;
    *(struct _PyPerfRecord *volatile *)&head->caller = frame_pointer;
    return true;
}

/* Unlink the record of the frame that is being left.  `head` is the eval loop's own
   frame record, `loop` its state. */
static inline void
_PyPerfRecord_Unlink(struct _PyPerfRecord *head, const struct _PyPerfLoop *loop)
{
    // The caller's record is the next one, because the records are adjacent.
    *(struct _PyPerfRecord *volatile *)&head->caller =
        (struct _PyPerfRecord *)((char *)head->caller + loop->step);
}

/* Called when the second loop ends. */
static inline void
_PyPerfRecord_LeaveLoop(PyThreadState *tstate, const struct _PyPerfLoop *loop)
{
    if (__builtin_expect(loop->raises_breaker, 0)) {
        _PyPerfEvaluator_RaiseBreaker(tstate);
    }
}


// --- Lines -----------------------------------------------------------------

static_assert(!PY_BIG_ENDIAN && sizeof(void *) == 8,
              "the low half of an address is its first four bytes");

/* Write the address of the instruction at `bytecode`, which is about to be executed, to
   the topmost record.  `head` is the eval loop's own frame record.  Only the low half
   is written: the high half is that of the function's window (perf_window.c). */
static inline void
_PyPerfRecord_StoreLine(const struct _PyPerfRecord *head, const _Py_CODEUNIT *bytecode)
{
    typedef uint32_t __attribute__((may_alias)) low_half;
    const struct _PyPerfRecord *record = head->caller - _PyPerfArch_RECORDS_BELOW;
    *(volatile low_half *)&record->return_address = (uint32_t)(uintptr_t)bytecode;
}

/* Let the loop store lines, or no longer. */
static inline void
_PyPerfLoop_SetLines(struct _PyPerfLoop *loop, bool on)
{
    if (_PyPerfLoop_HasLines(loop) != on) {
        const int distance = _PyPerfLoop_LABELS + 1;
        loop->targets += on ? distance : -distance;
    }
}

/* Prepare *loop for a second eval loop that has just been entered.  `tables` are its
   two tables for dispatch, that of loops with lines behind the other. */
static inline void
_PyPerfLoop_Init(struct _PyPerfLoop *loop, void *const *tables)
{
    loop->targets = tables;
    loop->step = sizeof(struct _PyPerfRecord);
    loop->raises_breaker = false;
    if (__builtin_expect(_PyPerf_Pool.lines, 0)) {
        loop->targets = tables + _PyPerfLoop_LABELS + 1;
    }
}

#endif  /* PY_HAVE_PERF_TRAMPOLINE */

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_RECORD_H */
