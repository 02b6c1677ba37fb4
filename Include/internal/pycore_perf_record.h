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

/* Two words of a C stack, in the order that the platform's frame pointer convention
   requires (pycore_perf_arch.h). */
struct _PyPerfRecord {
    struct _PyPerfRecord *caller;   // frame pointer of the next record
    const void *return_address;
};

/* If profiling is on, give the function of `frame` a slot and a name, unless it has
   them.  Returns the number of its slot, or 0 if it has none.  Sets no exception.  An
   exception that is set stays set. */
extern unsigned int _PyPerfRecord_EnsureSlot(PyThreadState *tstate,
                                             _PyInterpreterFrame *frame);

/* Called if there is no room for the record of `frame`.  Returns true if `frame` must
   run in a nested eval loop.  Switches profiling off if little of the C stack is left.
   If the end of the stack is unknown, marks the frame as an entry frame, so that
   _PyPerfRecord_LeaveUnlinked() knows it, adds 1 to *unlinked and returns false. */
extern bool _PyPerfRecord_NoRoom(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                 int *unlinked);

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
   that it runs.  If the loop has functions that were called while profiling was off,
   names them in their records.  Makes the loops further out take their slow paths too,
   when this one ends.  For `head` and `unlinked` see _PyPerfRecord_Link(). */
extern void _PyPerfRecord_CatchUp(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                  struct _PyPerfRecord *head, int *unlinked);

/* The slow path of _PyPerfRecord_LeaveUnlinked(), when *unlinked is not 0. */
extern bool _PyPerfRecord_LeaveRarely(PyThreadState *tstate, int *unlinked);

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
   a nested eval loop.  For `limit` see _PyPerfRecord_HasRoom(), for `unlinked`
   _PyPerfRecord_NoRoom(). */
static inline bool
_PyPerfRecord_Link(PyThreadState *tstate, _PyInterpreterFrame *frame,
                   struct _PyPerfRecord *head, const void *limit, int *unlinked)
{
    unsigned int slot = frame->f_code->_co_perf_slot;
    if (__builtin_expect(slot == 0, 0)) {
        slot = _PyPerfRecord_EnsureSlot(tstate, frame);
    }
    if (__builtin_expect(!_PyPerfRecord_HasRoom(head, limit), 0)) {
        return !_PyPerfRecord_NoRoom(tstate, frame, unlinked);
    }
    // The stores are volatile, because a signal handler may walk the list at any
    // instruction.  So they are done in this order, and no two as one vector store.
    struct _PyPerfRecord *frame_pointer = head->caller - 1;
    volatile struct _PyPerfRecord *record = frame_pointer - _PyPerfArch_RECORDS_BELOW;
    record->return_address = _PyPerf_Pool.return_addresses[slot];
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
_PyPerfRecord_LeaveUnlinked(PyThreadState *tstate, int *unlinked)
{
    return __builtin_expect(*unlinked != 0, 0)
           && _PyPerfRecord_LeaveRarely(tstate, unlinked);
}

#endif  /* PY_HAVE_PERF_TRAMPOLINE */

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_RECORD_H */
