/* What differs between CPython releases, for native profiling: CPython 3.13.

   pycore_perf_base.h includes this file.  Functions here need the GIL unless they say
   otherwise.  pycore_perf_base_3_11.h has the same functions. */

#ifndef Py_INTERNAL_PERF_BASE_3_13_H
#define Py_INTERNAL_PERF_BASE_3_13_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_ceval.h"           // _Py_set_eval_breaker_bit()
#include "pycore_code.h"            // _Py_CODEUNIT
#include "pycore_frame.h"           // _PyInterpreterFrame
#include "opcode.h"                 // MIN_INSTRUMENTED_OPCODE
#include "pycore_interp.h"          // PyInterpreterState
#include "pycore_pystate.h"         // HEAD_LOCK()
#include "pycore_runtime.h"         // _PyRuntime
#include <stdbool.h>


// --- The public C API ------------------------------------------------------

/* The type of the size of an entry in bytes, the second argument of
   PyUnstable_WritePerfMapEntry().  Programs were compiled for this one. */
typedef unsigned int _PyPerfBase_EntrySize;

/* What PyUnstable_PerfTrampoline_SetPersistAfterFork() returns if it has set it.
   Programs take 0 for a failure. */
#define _PyPerfBase_PERSIST_IS_SET 1


// --- Strings ---------------------------------------------------------------

/* Return whether the characters of `string` can be read.  Here all are. */
static inline bool
_PyPerfBase_IsReady(PyObject *string)
{
    (void)string;
    return true;
}


// --- Frames ----------------------------------------------------------------

/* Return whether `frame` belongs to no function: an eval loop has it under the frame
   that the loop was entered for. */
static inline bool
_PyPerfBase_IsLoopFrame(const _PyInterpreterFrame *frame)
{
    return frame->owner == FRAME_OWNED_BY_CSTACK;
}

/* Return whether `frame`, which is no loop frame, is the one that checks what
   __init__() returns. */
static inline bool
_PyPerfBase_IsInitCleanup(const _PyInterpreterFrame *frame)
{
    return frame->f_funcobj == Py_None;
}

/* Return `frame`, or if it belongs to no function the next outer one that does, or
   NULL. */
static inline _PyInterpreterFrame *
_PyPerfBase_FunctionFrame(_PyInterpreterFrame *frame)
{
    while (frame != NULL
            && (_PyPerfBase_IsLoopFrame(frame) || _PyPerfBase_IsInitCleanup(frame))) {
        frame = frame->previous;
    }
    return frame;
}

/* Return the innermost Python frame of a thread, or NULL if it runs none. */
static inline _PyInterpreterFrame *
_PyPerfBase_TopFrame(const PyThreadState *tstate)
{
    return _PyPerfBase_FunctionFrame(tstate->current_frame);
}

/* Return the next outer frame, across C functions between the two, or NULL. */
static inline _PyInterpreterFrame *
_PyPerfBase_OuterFrame(const _PyInterpreterFrame *frame)
{
    return _PyPerfBase_FunctionFrame(frame->previous);
}

/* Return the instruction that `frame` has begun last.  Before the first one, return
   that one. */
static inline const _Py_CODEUNIT *
_PyPerfBase_LastInstruction(const _PyInterpreterFrame *frame)
{
    return frame->instr_ptr;
}

/* Return the code object of a frame, a borrowed reference. */
static inline PyCodeObject *
_PyPerfBase_FrameCode(const _PyInterpreterFrame *frame)
{
    return (PyCodeObject *)frame->f_executable;
}


// --- Eval loops ------------------------------------------------------------

/* Return whether the eval loop tests the eval breaker again and again in front of an
   instruction.  Here it tests the breaker once in each. */
static inline bool
_PyPerfBase_BeginsFunction(const _Py_CODEUNIT *Py_UNUSED(instruction))
{
    return false;
}

/* Return how many Python frames a thread may still push before it reaches the recursion
   limit.  Negative if the limit was lowered below the present depth. */
static inline int
_PyPerfBase_RecursionRemaining(const PyThreadState *tstate)
{
    return tstate->py_recursion_remaining;
}

/* Let a thread push so many more Python frames, or fewer if `count` is negative. */
static inline void
_PyPerfBase_AddRecursionRemaining(PyThreadState *tstate, int count)
{
    tstate->py_recursion_remaining += count;
}

/* Return whether a thread will soon get a RecursionError because C functions have
   called each other too often.  A call of a Python function through its trampoline
   counts. */
static inline bool
_PyPerfBase_CCallsAreShort(const PyThreadState *tstate)
{
    return tstate->c_recursion_remaining < Py_C_RECURSION_LIMIT / 8;
}

/* Return whether these tools include one that watches lines or instructions. */
static inline bool
_PyPerfBase_WatchesLines(const uint8_t *tools)
{
    return tools[PY_MONITORING_EVENT_LINE] != 0
           || tools[PY_MONITORING_EVENT_INSTRUCTION] != 0;
}

/* Return whether tools (sys.settrace(), sys.setprofile() or sys.monitoring) watch the
   instruction of `frame` that is being executed, or the lines of a frame of its loop.
   A line begins if the last instruction of the frame was in a different one.  The loop
   that takes a frame over does not know that instruction. */
static inline bool
_PyPerfBase_IsTraced(const PyThreadState *tstate, const _PyInterpreterFrame *frame)
{
    if (frame->instr_ptr->op.code >= MIN_INSTRUMENTED_OPCODE
            || _PyPerfBase_WatchesLines(tstate->interp->monitors.tools)) {
        return true;
    }
    for (; !_PyPerfBase_IsLoopFrame(frame); frame = frame->previous) {
        const _PyCoMonitoringData *data = _PyPerfBase_FrameCode(frame)->_co_monitoring;
        if (data != NULL && _PyPerfBase_WatchesLines(data->local_monitors.tools)) {
            return true;
        }
    }
    return false;
}

/* Return the frame that the eval loop of `frame` has under its frames. */
static inline _PyInterpreterFrame *
_PyPerfBase_LoopFrame(_PyInterpreterFrame *frame)
{
    while (!_PyPerfBase_IsLoopFrame(frame)) {
        frame = frame->previous;
    }
    return frame;
}

/* Return whether a thread runs only one eval loop.  Returns false if the loop runs on a
   stack of a coroutine library. */
static inline bool
_PyPerfBase_IsOutermostLoop(const PyThreadState *tstate)
{
    return _PyPerfBase_LoopFrame(tstate->current_frame)->previous == NULL;
}

/* Return the address of a variable in the C frame of the innermost eval loop of a
   thread. */
static inline const void *
_PyPerfBase_LoopVariable(const PyThreadState *tstate)
{
    return _PyPerfBase_LoopFrame(tstate->current_frame);
}

/* Return whether an eval loop was entered for `frame`.  Otherwise the frame was pushed
   by the loop that runs the next outer frame too. */
static inline bool
_PyPerfBase_IsEntryFrame(const _PyInterpreterFrame *frame)
{
    return _PyPerfBase_IsLoopFrame(frame->previous);
}

/* A bit of the eval breaker that the base does not use, and does not mind. */
#define _PyPerfBase_BREAKER_BIT ((uintptr_t)1 << (_PY_EVAL_EVENTS_BITS - 1))
static_assert(_PyPerfBase_BREAKER_BIT > _PY_EVAL_EXPLICIT_MERGE_BIT,
              "the highest bit of the eval breaker's events is in use");

/* Make the eval loops of a thread take the slow path of the eval breaker. */
static inline void
_PyPerfBase_RaiseBreaker(PyThreadState *tstate)
{
    _Py_set_eval_breaker_bit(tstate, _PyPerfBase_BREAKER_BIT);
}


// --- Threads ---------------------------------------------------------------

/* Return whether the threads of an interpreter need the GIL of the main interpreter.
   The state of the profiler is protected by that GIL.  No GIL needed. */
static inline bool
_PyPerfBase_SharesGil(const PyInterpreterState *interp)
{
    return interp == _PyInterpreterState_Main() || !interp->ceval.own_gil;
}

/* Lock the lists of interpreters and threads.  Threads are added to them without
   the GIL, but not without this lock. */
static inline void
_PyPerfBase_LockThreads(void)
{
    HEAD_LOCK(&_PyRuntime);
}

static inline void
_PyPerfBase_UnlockThreads(void)
{
    HEAD_UNLOCK(&_PyRuntime);
}

/* Raise the breakers of all threads of an interpreter, in builds without the GIL.  With
   the GIL each thread raises its own when it takes it (_PyPerfEvaluator_GilTaken()). */
static inline void
_PyPerfBase_RaiseBreakersWithoutGil(PyInterpreterState *interp)
{
#ifdef Py_GIL_DISABLED
    _PyPerfBase_LockThreads();
    for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interp);
            tstate != NULL; tstate = PyThreadState_Next(tstate)) {
        _PyPerfBase_RaiseBreaker(tstate);
    }
    _PyPerfBase_UnlockThreads();
#else
    (void)interp;
#endif
}

/* Return whether the caller is the thread that the process began with.  No GIL
   needed. */
static inline bool
_PyPerfBase_IsMainThread(void)
{
    return _Py_IsMainThread();
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_BASE_3_13_H */
