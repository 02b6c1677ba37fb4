/* Frame records for inlined calls: the eval loop's side of Python/perf_record.c.
   Everything here is for _PyEval_EvalFrameDefault() and needs the GIL. */

#ifndef Py_INTERNAL_PERF_RECORD_H
#define Py_INTERNAL_PERF_RECORD_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_frame.h"           // _PyInterpreterFrame

/* Whether `frame` was entered by the eval loop that runs it, and has no record:
   one test for two bytes, so that it costs what the test of one did. */
static inline bool
_PyFrame_IsInlined(const _PyInterpreterFrame *frame)
{
    const union {
        struct {
            bool is_entry;
            char owner;
            bool has_record;
            char unused;
        } fields;
        uint32_t bits;
    } mask = {.fields = {.is_entry = true, .has_record = true}};
    uint32_t bits;
    static_assert(offsetof(_PyInterpreterFrame, has_record)
                  == offsetof(_PyInterpreterFrame, is_entry) + 2,
                  "the order of the bytes is that of the mask");
    memcpy(&bits, (const char *)frame + offsetof(_PyInterpreterFrame, is_entry),
           sizeof(bits));
    return (bits & mask.bits) == 0;
}

#ifdef PY_HAVE_PERF_TRAMPOLINE

#include "pycore_perf_arch.h"
#include "pycore_perf_arena.h"      // _PyPerf_Pool
#include "pycore_perf_asm.h"        // _PyPerf_EnterEvalLoopReturn
#include "pycore_perf_profiler.h"   // _PyPerfSlots_EnsureAnnounced()

/* Two words of a C stack, as the platform's frame pointer convention has them (see
   pycore_perf_arch.h). */
struct _PyPerfRecord {
    struct _PyPerfRecord *caller;   // frame pointer, leads to the next record
    const void *return_address;
};

/* Whether `head` is the record of an eval loop that was called by the base. */
static inline bool
_PyPerfRecord_HasBase(const struct _PyPerfRecord *head)
{
    return _PyPerfArch_ADDRESS(head->return_address) == _PyPerf_EnterEvalLoopReturn;
}

/* Whether there is a base around the eval loop with room for another record. */
static inline bool
_PyPerfRecord_HasRoom(const struct _PyPerfRecord *head, const void *limit)
{
    return _PyPerfRecord_HasBase(head)
           && (const void *)(head->caller - 1 - _PyPerfArch_RECORDS_BELOW) >= limit;
}

/* Hang in a record for `frame`, whose function has a name.  There must be room. */
static inline void
_PyPerfRecord_Push(_PyInterpreterFrame *frame, struct _PyPerfRecord *head)
{
    // volatile: in this order, for a signal handler may walk the list at any
    // instruction, and one by one, not two in a vector.
    struct _PyPerfRecord *frame_pointer = head->caller - 1;
    volatile struct _PyPerfRecord *record =
        frame_pointer - _PyPerfArch_RECORDS_BELOW;  // to which it leads
    // Four neighbours in one store, as _PyFrame_IsInlined() reads them.
    frame->is_entry = false;
    frame->owner = FRAME_OWNED_BY_THREAD;
    frame->has_record = true;
    frame->unused = 0;
    record->return_address =
        _PyPerf_Pool.return_addresses[frame->f_code->_co_perf_slot];
    record->caller = head->caller;
    *(struct _PyPerfRecord *volatile *)&head->caller = frame_pointer;
}

/* What _PyPerfRecord_Link() does where something is lacking. */
extern bool _PyPerfRecord_LinkSlowly(PyThreadState *tstate,
                                     _PyInterpreterFrame *frame,
                                     struct _PyPerfRecord *head,
                                     const void *limit);

/* Hang in a record for `frame`, which has been pushed and is about to be run.  A
   function that has no name yet gets one.  If that fails, profiling is off
   afterwards, and the frame can be run without a record, as it can where there is
   no C stack left.

   Returns false, with nothing done, when the frame must be run through the
   evaluator: when that is not ours, this eval loop was entered without a base, or
   the base's records are used up.

   `head` is the eval loop's own frame record, and `limit` the end of its frame, where
   the base's begins.  (It is not if the eval loop uses alloca() and is realigned; the
   tests would see that.) */
static inline bool
_PyPerfRecord_Link(PyThreadState *tstate, _PyInterpreterFrame *frame,
                   struct _PyPerfRecord *head, const void *limit)
{
    if (__builtin_expect(frame->f_code->_co_perf_slot == 0
                         || !_PyPerfRecord_HasRoom(head, limit), 0)) {
        return _PyPerfRecord_LinkSlowly(tstate, frame, head, limit);
    }
    _PyPerfRecord_Push(frame, head);
    return true;
}

/* Unhang the record of `frame`, which is being left.  Returns whether it had
   one. */
static inline bool
_PyPerfRecord_Unlink(const _PyInterpreterFrame *frame, struct _PyPerfRecord *head)
{
    if (!frame->has_record) {
        return false;
    }
    // That is what its record has as the caller, for the records lie side by side.
    *(struct _PyPerfRecord *volatile *)&head->caller = head->caller + 1;
    return true;
}

/* The calling function's own frame record.  It has one, whatever the flags:
   the builtin makes compilers keep a frame pointer. */
#define _PyPerfRecord_OWN() \
    ((struct _PyPerfRecord *)__builtin_frame_address(0) - _PyPerfArch_RECORDS_BELOW)

#define LINK_RECORD(TSTATE, FRAME) \
    _PyPerfRecord_Link((TSTATE), (FRAME), _PyPerfRecord_OWN(), \
                       _PyPerfArch_END_OF_FRAME())
#define UNLINK_RECORD(FRAME) \
    _PyPerfRecord_Unlink((FRAME), _PyPerfRecord_OWN())

#else

#define LINK_RECORD(TSTATE, FRAME) false
#define UNLINK_RECORD(FRAME) false

#endif  /* PY_HAVE_PERF_TRAMPOLINE */

/* Whether `FRAME`, which has been pushed, cannot be run by the eval loop that
   pushed it. */
#define MUST_RUN_BY_EVALUATOR(TSTATE, FRAME) \
    (__builtin_expect((TSTATE)->interp->eval_frame != NULL, 0) \
     && !LINK_RECORD((TSTATE), (FRAME)))

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_RECORD_H */
