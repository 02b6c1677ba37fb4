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
#include "pycore_perf_base.h"       // _PyPerfBase_LastInstruction()
#include "pycore_perf_window.h"     // _PyPerfWindow_Translate()

/* Two words of a C stack, in the order that the platform's frame pointer convention
   requires (pycore_perf_arch.h). */
struct _PyPerfRecord {
    struct _PyPerfRecord *caller;   // frame pointer of the next record
    const void *return_address;
};

/* The state of one run of the second eval loop, in its C frame. */
struct _PyPerfLoop {
    void *const *targets;           // one of the two tables for dispatch
    int unlinked;                   // _PyPerfRecord_LeaveUnlinked()
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
extern unsigned int _PyPerfRecord_EnsureSlot(PyThreadState *tstate,
                                             _PyInterpreterFrame *frame);

/* Called if there is no room for the record of `frame`.  Returns true if `frame` must
   run in a nested eval loop.  Switches profiling off if little of the C stack is left.
   If the end of the stack is unknown, marks the frame as an entry frame, so that
   _PyPerfRecord_LeaveUnlinked() knows it, adds 1 to loop->unlinked and returns
   false. */
extern bool _PyPerfRecord_NoRoom(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                 struct _PyPerfLoop *loop);

/* Run `frame`, which an eval loop has pushed, in a nested eval loop.  Returns what that
   loop returns. */
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

/* The slow path of _PyPerfRecord_LeaveUnlinked(), when loop->unlinked is not 0. */
extern bool _PyPerfRecord_LeaveRarely(PyThreadState *tstate, struct _PyPerfLoop *loop);

/* Return whether there is room for another record below the one that `head` refers to.
   `limit` is the end of the eval loop's C frame, where the room begins.  (The two would
   differ if the loop used alloca() and the compiler realigned its frame.  Then tests
   would fail.) */
static inline bool
_PyPerfRecord_HasRoom(const struct _PyPerfRecord *head, const void *limit)
{
    return (const void *)(head->caller - 1 - _PyPerfArch_RECORDS_BELOW) >= limit;
}

/* Link a record for `frame`, which this eval loop has pushed and is about to run.
   `head` is the eval loop's own frame record.  Returns false if the frame must run in
   a nested eval loop.  For `limit` see _PyPerfRecord_HasRoom().  `loop` is the eval
   loop's state. */
static inline bool
_PyPerfRecord_Link(PyThreadState *tstate, _PyInterpreterFrame *frame,
                   struct _PyPerfRecord *head, const void *limit,
                   struct _PyPerfLoop *loop)
{
    unsigned int slot = frame->f_code->_co_perf_slot;
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
    record->return_address = (*addresses)[slot];
    record->caller = head->caller;
    *(struct _PyPerfRecord *volatile *)&head->caller = frame_pointer;
    return true;
}

/* Unlink the record of the frame that is being left.  `head` is the eval loop's own
   frame record. */
static inline void
_PyPerfRecord_Unlink(struct _PyPerfRecord *head)
{
    // The caller's record is the next one, because the records are adjacent.
    *(struct _PyPerfRecord *volatile *)&head->caller = head->caller + 1;
}

/* Called when the second loop leaves a frame that is marked as an entry frame.  Returns
   true if this loop pushed the frame and there was no room for its record
   (_PyPerfRecord_NoRoom()).  Then the loop continues with the caller.  Otherwise the
   loop itself ends, and its flag to raise the eval breaker is obeyed
   (_PyPerfRecord_CatchUp()). */
static inline bool
_PyPerfRecord_LeaveUnlinked(PyThreadState *tstate, struct _PyPerfLoop *loop)
{
    return __builtin_expect(loop->unlinked != 0, 0)
           && _PyPerfRecord_LeaveRarely(tstate, loop);
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

/* Return whether the loop stores lines. */
static inline bool
_PyPerfLoop_HasLines(const struct _PyPerfLoop *loop)
{
    return loop->targets[_PyPerfLoop_LABELS] == &_PyPerf_Pool.line_addresses;
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
    loop->unlinked = 0;
    loop->targets = tables;
    if (__builtin_expect(_PyPerf_Pool.lines, 0)) {
        loop->targets = tables + _PyPerfLoop_LABELS + 1;
    }
}

#endif  /* PY_HAVE_PERF_TRAMPOLINE */

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_RECORD_H */
