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

/* The state of one run of the second eval loop, in its C frame.  The loop without lines
   has only the first field.  A bare loop is one that links no records: it has no room
   even for the first.  It is a loop with lines, and writes them to the 16 bytes that
   records never reach (asm_trampoline_*.S). */
struct _PyPerfLoop {
    bool raises_breaker;            // when it ends
    size_t step;                    // the size of a record; 0: a bare loop
    struct _PyPerfRecord *top;      // the frame pointer of the record that lines are
                                    // written to
};

/* Return the return address for the record of `frame`, whose function has the slot with
   this number; 0: none.  `lines` says whether the loop stores lines. */
static inline const void *
_PyPerfRecord_FrameAddress(const _PyInterpreterFrame *frame, unsigned int slot,
                           bool lines)
{
    return lines
           ? _PyPerfWindow_Translate(_PyPerf_Pool.line_addresses[slot],
                                     _PyPerfBase_LastInstruction(frame))
           : _PyPerf_Pool.return_addresses[slot];
}

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

/* Called by the second loop on the slow path of the eval breaker, with its frame, stack
   pointer and next instruction.  If the loop has functions that were called while
   profiling was off, writes their records again.  Makes the loops further out take
   their slow paths too, when this one ends.  If lines were switched on, and the loop
   stores none, or the other way round, the other loop runs the frames to their end.
   Then this function returns to the caller of the loop, not to the loop.  For `head`,
   `loop` and `lines` see _PyPerfRecord_Link(). */
extern void _PyPerfRecord_CatchUp(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                  PyObject **stack_pointer, _Py_CODEUNIT *next_instr,
                                  struct _PyPerfRecord *head, struct _PyPerfLoop *loop,
                                  bool lines);

/* Return whether there is room for another record below the one that `head` refers to.
   `head` is the eval loop's own frame record.  `limit` is where the loop's C frame ends
   and its caller's begins.  The room begins 16 bytes above that (asm_trampoline_*.S).
   (`limit` would be wrong if the loop used alloca() and the compiler realigned its
   frame.  Then tests would fail.) */
static inline bool
_PyPerfRecord_HasRoom(const struct _PyPerfRecord *head, const void *limit)
{
    // As numbers, so that the compiler adds the constants.
    const size_t needed = (2 + _PyPerfArch_RECORDS_BELOW) * sizeof(*head);
    return (uintptr_t)head->caller >= (uintptr_t)limit + needed;
}

/* Write a record with this return address and link it.  For the arguments see
   _PyPerfRecord_Link(). */
static inline void
_PyPerfRecord_Write(struct _PyPerfRecord *head, struct _PyPerfLoop *loop, bool lines,
                    const void *return_address)
{
    // The stores are volatile, because a signal handler may walk the list at any
    // instruction.  So they are done in this order, and no two as one vector store.
    struct _PyPerfRecord *frame_pointer = head->caller - 1;
    volatile struct _PyPerfRecord *record = frame_pointer - _PyPerfArch_RECORDS_BELOW;
    record->return_address = return_address;
    record->caller = head->caller;
    *(struct _PyPerfRecord *volatile *)&head->caller = frame_pointer;
    if (lines) {
        loop->top = frame_pointer;
    }
}

/* The rare part of _PyPerfRecord_Link(): the function has no slot, or there is no
   room. */
extern bool _PyPerfRecord_LinkSlowly(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                     struct _PyPerfRecord *head, const void *limit,
                                     struct _PyPerfLoop *loop, bool lines);

/* Link a record for `frame`, which this eval loop has pushed and is about to run.  With
   `resumes` it continues after its last instruction, otherwise it begins.  `loop` is
   the loop's state, and `lines` says whether it stores lines.  Returns false if the
   frame must run in a nested eval loop.  For `head` and `limit` see
   _PyPerfRecord_HasRoom(). */
static inline bool
_PyPerfRecord_Link(PyThreadState *tstate, _PyInterpreterFrame *frame,
                   struct _PyPerfRecord *head, const void *limit,
                   struct _PyPerfLoop *loop, bool resumes, bool lines)
{
    const size_t slot = _PyPerfBase_SlotNumber(_PyPerfBase_FrameCode(frame));
    // The rare part ends with its call.  If this function went on after a call, the
    // compiler would keep `head` in a register.
    if (__builtin_expect(slot == 0, 0)
            || __builtin_expect(!_PyPerfRecord_HasRoom(head, limit), 0)) {
        return _PyPerfRecord_LinkSlowly(tstate, frame, head, limit, loop, lines);
    }
    const void *address = lines ? _PyPerf_Pool.line_addresses[slot]
                                : _PyPerf_Pool.return_addresses[slot];
    if (lines && resumes) {
        address = _PyPerfWindow_Translate(address, _PyPerfBase_LastInstruction(frame));
    }
    _PyPerfRecord_Write(head, loop, lines, address);
    return true;
}

/* Unlink the record of the frame that is being left.  `head` is the eval loop's own
   frame record, `loop` its state, and `lines` says whether it stores lines. */
static inline void
_PyPerfRecord_Unlink(struct _PyPerfRecord *head, struct _PyPerfLoop *loop, bool lines)
{
    // The caller's record is the next one, because the records are adjacent.
    const size_t step = lines ? loop->step : sizeof(struct _PyPerfRecord);
    head->caller = (struct _PyPerfRecord *)((char *)head->caller + step);
    // Here, not later, because a signal handler may walk the list at any instruction.
    // With a volatile access it would be three machine instructions, not one.
    __asm__ volatile ("" : "+m" (head->caller));
    if (lines) {
        loop->top = (struct _PyPerfRecord *)((char *)loop->top + step);
    }
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
   the topmost record.  Only the low half is written: the high half is that of the
   function's window (perf_window.c). */
static inline void
_PyPerfLoop_StoreLine(const struct _PyPerfLoop *loop, const _Py_CODEUNIT *bytecode)
{
    typedef uint32_t __attribute__((may_alias)) low_half;
    struct _PyPerfRecord *record = loop->top - _PyPerfArch_RECORDS_BELOW;
    *(volatile low_half *)&record->return_address = (uint32_t)(uintptr_t)bytecode;
}

/* Prepare *loop for a second eval loop that has just been entered with `frame`.  For
   `head`, `limit` and `lines` see _PyPerfRecord_Link(). */
static inline void
_PyPerfLoop_Init(struct _PyPerfLoop *loop, const _PyInterpreterFrame *frame,
                 const struct _PyPerfRecord *head, const void *limit, bool lines)
{
    loop->raises_breaker = false;
    if (lines) {
        loop->step = sizeof(struct _PyPerfRecord);
        loop->top = head->caller;
        if (__builtin_expect(!_PyPerfRecord_HasRoom(head, limit), 0)) {
            loop->step = 0;
            loop->top--;
        }
        // `frame` may be that of a generator, which does not begin at its first line.
        _PyPerfLoop_StoreLine(loop, _PyPerfBase_LastInstruction(frame));
    }
}

#endif  /* PY_HAVE_PERF_TRAMPOLINE */

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_RECORD_H */
