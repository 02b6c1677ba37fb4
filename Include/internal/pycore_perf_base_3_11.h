/* What differs between CPython releases, for native profiling: CPython 3.11.

   pycore_perf_base.h includes this file.  Functions here need the GIL unless they say
   otherwise.  pycore_perf_base_3_13.h has the same functions. */

#ifndef Py_INTERNAL_PERF_BASE_3_11_H
#define Py_INTERNAL_PERF_BASE_3_11_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_code.h"            // _Py_CODEUNIT
#include "pycore_frame.h"           // _PyInterpreterFrame
#include "pycore_interp.h"          // PyInterpreterState
#include "pycore_opcode.h"          // _PyOpcode_Deopt
#include "pycore_runtime.h"         // _PyRuntime
#include "opcode.h"                 // RESUME
#include <stdbool.h>


// --- The public C API ------------------------------------------------------

/* The type of the size of an entry in bytes, the second argument of
   PyUnstable_WritePerfMapEntry(). */
typedef size_t _PyPerfBase_EntrySize;

/* What PyUnstable_PerfTrampoline_SetPersistAfterFork() returns if it has set it. */
#define _PyPerfBase_PERSIST_IS_SET 0


// --- Strings ---------------------------------------------------------------

/* Return whether the characters of `string` can be read.  Old extensions can make one
   that is not. */
static inline bool
_PyPerfBase_IsReady(PyObject *string)
{
    return PyUnicode_IS_READY(string);
}


// --- Frames ----------------------------------------------------------------

/* Return `frame`, or if it belongs to no function the next outer one that does, or
   NULL.  Here each frame belongs to a function. */
static inline _PyInterpreterFrame *
_PyPerfBase_FunctionFrame(_PyInterpreterFrame *frame)
{
    return frame;
}

/* Return the innermost Python frame of a thread, or NULL if it runs none. */
static inline _PyInterpreterFrame *
_PyPerfBase_TopFrame(const PyThreadState *tstate)
{
    return tstate->cframe->current_frame;
}

/* Return the next outer frame, across C functions between the two, or NULL. */
static inline _PyInterpreterFrame *
_PyPerfBase_OuterFrame(const _PyInterpreterFrame *frame)
{
    return frame->previous;
}

/* Return the instruction that `frame` has begun last.  Before the first one, return the
   place in front of it. */
static inline const _Py_CODEUNIT *
_PyPerfBase_LastInstruction(const _PyInterpreterFrame *frame)
{
    return frame->prev_instr;
}

/* Return the code object of a frame, a borrowed reference. */
static inline PyCodeObject *
_PyPerfBase_FrameCode(const _PyInterpreterFrame *frame)
{
    return frame->f_code;
}


// --- Eval loops ------------------------------------------------------------

/* Return whether an instruction is the one that functions begin with, and that
   generators continue with.  While a thread is traced, the eval loop tests the eval
   breaker in front of it, again after each time that it was raised. */
static inline bool
_PyPerfBase_BeginsFunction(const _Py_CODEUNIT *instruction)
{
    return _PyOpcode_Deopt[_Py_OPCODE(*instruction)] == RESUME;
}

/* Return how many Python frames a thread may still push before it reaches the recursion
   limit.  Negative if the limit was lowered below the present depth. */
static inline int
_PyPerfBase_RecursionRemaining(const PyThreadState *tstate)
{
    return tstate->recursion_remaining;
}

/* Let a thread push so many more Python frames, or fewer if `count` is negative. */
static inline void
_PyPerfBase_AddRecursionRemaining(PyThreadState *tstate, int count)
{
    tstate->recursion_remaining += count;
}

/* Return whether a thread will soon get a RecursionError because C functions have
   called each other too often.  A call of a Python function through its trampoline
   counts. */
static inline bool
_PyPerfBase_CCallsAreShort(const PyThreadState *Py_UNUSED(tstate))
{
    return false;
}

/* Return whether tools watch the instructions of `frame`, which the thread is about to
   execute: sys.settrace() or sys.setprofile(). */
static inline bool
_PyPerfBase_IsTraced(const PyThreadState *tstate,
                     const _PyInterpreterFrame *Py_UNUSED(frame))
{
    return tstate->cframe->use_tracing != 0;
}

/* Return whether a thread runs only one eval loop.  Returns false if the loop runs on a
   stack of a coroutine library. */
static inline bool
_PyPerfBase_IsOutermostLoop(const PyThreadState *tstate)
{
    return tstate->cframe->previous == &tstate->root_cframe;
}

/* Return the address of a variable in the C frame of the innermost eval loop of a
   thread. */
static inline const void *
_PyPerfBase_LoopVariable(const PyThreadState *tstate)
{
    return tstate->cframe;
}

/* Return whether an eval loop was entered for `frame`.  Otherwise the frame was pushed
   by the loop that runs the next outer frame too. */
static inline bool
_PyPerfBase_IsEntryFrame(const _PyInterpreterFrame *frame)
{
    return frame->is_entry;
}

/* Make the eval loops of a thread take the slow path of the eval breaker. */
static inline void
_PyPerfBase_RaiseBreaker(PyThreadState *tstate)
{
    _Py_atomic_store_relaxed(&tstate->interp->ceval.eval_breaker, 1);
}


// --- Threads ---------------------------------------------------------------

/* Return whether the threads of an interpreter need the GIL of the main interpreter.
   The state of the profiler is protected by that GIL.  No GIL needed. */
static inline bool
_PyPerfBase_SharesGil(const PyInterpreterState *Py_UNUSED(interp))
{
    return true;
}

/* Lock the lists of interpreters and threads.  Threads are added to them without
   the GIL, but not without this lock. */
static inline void
_PyPerfBase_LockThreads(void)
{
    PyThread_acquire_lock(_PyRuntime.interpreters.mutex, WAIT_LOCK);
}

static inline void
_PyPerfBase_UnlockThreads(void)
{
    PyThread_release_lock(_PyRuntime.interpreters.mutex);
}

/* Raise the breakers of all threads of an interpreter, in builds without the GIL: there
   are none. */
static inline void
_PyPerfBase_RaiseBreakersWithoutGil(PyInterpreterState *Py_UNUSED(interp))
{
}

/* Return whether the caller is the thread that the process began with.  No GIL
   needed. */
static inline bool
_PyPerfBase_IsMainThread(void)
{
    return PyThread_get_thread_ident() == _PyRuntime.main_thread;
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_BASE_3_11_H */
