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
#include "pycore_interp.h"          // PyInterpreterState.eval_frame
#include "pycore_perf_arch.h"
#include "pycore_perf_arena.h"      // _PyPerf_Pool
#include "pycore_perf_asm.h"        // _PyPerf_EnterEvalLoop()
#include "pycore_perf_evaluator.h"  // _PyPerfEvaluator_EvalFrame()
#include "pycore_perf_profiler.h"   // _PyPerfProfiler_EnsureAnnounced()

/* Two words of a C stack, in the order that the platform's frame pointer convention
   asks for (pycore_perf_arch.h). */
struct _PyPerfRecord {
    struct _PyPerfRecord *caller;   // frame pointer, leads to the next record
    const void *return_address;
};

/* If profiling is on, give the function of `frame` a name.  Returns the number of its
   slot, or 0 if it has none.  Does not raise.  An exception that is set stays set. */
extern unsigned int _PyPerfRecord_EnsureSlot(PyThreadState *tstate,
                                             _PyInterpreterFrame *frame);

/* There is no room for the record of `frame`.  Returns whether `frame` must run in an
   eval loop of its own.  If the C stack has no room for one, marks the frame, so that
   _PyPerfRecord_LeaveUnlinked() knows it, adds 1 to *unlinked and returns false. */
extern bool _PyPerfRecord_NoRoom(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                 int *unlinked);

/* Run `frame`, which an eval loop has pushed, in an eval loop of its own.  Returns what
   that returns. */
extern PyObject *_PyPerfRecord_RunNested(PyThreadState *tstate,
                                         _PyInterpreterFrame *frame);

/* Run the rest of `frame`, which the first eval loop has begun, in the second one.
   With `throwflag` an exception is set, which the frame's call has raised.  The frames
   that the same first loop runs further out get records too.  Returns what the second
   loop returns. */
extern PyObject *_PyPerfRecord_RunHandedOver(PyThreadState *tstate,
                                             _PyInterpreterFrame *frame,
                                             int throwflag);

/* Called by the second loop on the slow path of the eval breaker.  `frame` is the frame
   that it runs.  Names the functions that were called while profiling was off, and has
   the loops further out take their slow paths too.  For `head` and `unlinked` see
   _PyPerfRecord_Link(). */
extern void _PyPerfRecord_CatchUp(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                  struct _PyPerfRecord *head, int *unlinked);

/* The second loop is leaving a frame that is marked as an entry frame, and
   *unlinked is not 0.  Returns whether the loop had pushed the frame, which found no
   room.  Otherwise the loop itself ends. */
extern bool _PyPerfRecord_LeaveRarely(PyThreadState *tstate, int *unlinked);

/* Whether there is room for another record below `head`'s.  `limit` is the end of the
   eval loop's C frame, where the room begins.  (It is not if the eval loop uses
   alloca() and is realigned.  The tests would see that.) */
static inline bool
_PyPerfRecord_HasRoom(const struct _PyPerfRecord *head, const void *limit)
{
    return (const void *)(head->caller - 1 - _PyPerfArch_RECORDS_BELOW) >= limit;
}

/* Link a record for `frame`, which this eval loop has pushed and is about to run.
   `head` is the eval loop's own frame record.  Returns false if the frame must run in
   an eval loop of its own.  For `limit` see _PyPerfRecord_HasRoom(), for `unlinked`
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
    // volatile: in this order, because a signal handler may walk the list at any
    // instruction, and one by one, not two in a vector.
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
    // The caller's record is the next one, because the records lie side by side.
    *(struct _PyPerfRecord *volatile *)&head->caller = head->caller + 1;
}

/* Whether a frame that is being left, and is marked as an entry frame, was pushed by
   this eval loop and found no room.  See _PyPerfRecord_NoRoom(). */
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
