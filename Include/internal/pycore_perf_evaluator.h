/* The frame evaluators (PEP 523) of a profiled interpreter: ours, and how they work
   with those of others.  Also the frames that are running when profiling is switched
   on.  Python/perf_evaluator.c explains both.  Everything here needs the GIL. */

#ifndef Py_INTERNAL_PERF_EVALUATOR_H
#define Py_INTERNAL_PERF_EVALUATOR_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_code.h"            // _Py_CODEUNIT
#include "pycore_interp.h"          // PyInterpreterState.eval_frame
#include "pycore_perf_lock.h"       // _PyPerfLock_PER_THREAD
#include <stdbool.h>

struct _PyInterpreterFrame;

/* Our evaluators.  They take and return what _PyEval_EvalFrameDefault() does.
   EvalFrame runs a frame in the second eval loop, which links frame records.
   CallFrame really calls the function's trampoline, which calls the evaluator that
   was there before. */
extern PyObject *_PyPerfEvaluator_EvalFrame(PyThreadState *tstate,
                                            struct _PyInterpreterFrame *frame,
                                            int throwflag);
extern PyObject *_PyPerfEvaluator_CallFrame(PyThreadState *tstate,
                                            struct _PyInterpreterFrame *frame,
                                            int throwflag);

/* Make our evaluator run the frames of `interp`: CallFrame if an evaluator of others is
   installed or `calls` is true, otherwise EvalFrame.  Does nothing more if ours is in
   the chain already.
   Returns 0, or -1 if there is no memory. */
extern int _PyPerfEvaluator_Install(PyInterpreterState *interp, bool calls);

/* Undo _PyPerfEvaluator_Install().  If an evaluator of others may call ours, ours stays
   in the chain and passes frames on.  Cannot fail. */
extern void _PyPerfEvaluator_Remove(PyInterpreterState *interp);

/* The same for all interpreters. */
extern void _PyPerfEvaluator_RemoveAll(void);

/* Return whether our evaluator is installed in `interp` and sees the frames: it is the
   evaluator, or the evaluator calls it. */
extern bool _PyPerfEvaluator_IsActive(PyInterpreterState *interp);

/* Return whether that is so in an interpreter other than `except`.  `except` may be
   NULL. */
extern bool _PyPerfEvaluator_AnyIsActive(const PyInterpreterState *except);

/* Return whether each Python function of `interp` has to be really called, also where
   the unpatched eval loop inlines a call without asking the evaluator.  False while an
   evaluator of others is installed. */
extern bool _PyPerfEvaluator_CallsEachFunction(const PyInterpreterState *interp);

/* Free what is known of `interp`.  Called when it ends, after _Remove(). */
extern void _PyPerfEvaluator_Fini(PyInterpreterState *interp);

/* Called by _PyInterpreterState_GetEvalFrameFunc().  Its caller may set an evaluator
   next that calls the current one. */
extern void _PyPerfEvaluator_WasRead(PyInterpreterState *interp);

/* Called by _PyInterpreterState_SetEvalFrameFunc() before it sets `evaluator`.
   Returns the evaluator to set. */
extern _PyFrameEvalFunction _PyPerfEvaluator_IsSet(PyInterpreterState *interp,
                                                   _PyFrameEvalFunction evaluator);

/* Return whether calls may be specialized although interp->eval_frame is set. */
static inline bool
_PyPerfEvaluator_InlinesCalls(const PyInterpreterState *interp)
{
#ifdef PY_HAVE_PERF_TRAMPOLINE
    return interp->eval_frame == _PyPerfEvaluator_EvalFrame;
#else
    return interp->eval_frame == NULL;
#endif
}


// --- Frames that are running -----------------------------------------------

/* Called by the first eval loop on the slow path of the eval breaker, with its frame,
   stack pointer and next instruction.  If the loop must hand its frames over, this
   function runs them to their end in the second loop.  Then it returns to the caller of
   the first loop, not to the loop. */
extern void _PyPerfEvaluator_HandOver(PyThreadState *tstate,
                                      struct _PyInterpreterFrame *frame,
                                      PyObject **stack_pointer,
                                      _Py_CODEUNIT *next_instr);

/* The same for a second eval loop, which has caught up.  Its frames go to the second
   loop with lines, or to the one without.  It must have unlinked its records. */
extern void _PyPerfEvaluator_HandOverRecorded(PyThreadState *tstate,
                                              struct _PyInterpreterFrame *frame,
                                              PyObject **stack_pointer,
                                              _Py_CODEUNIT *next_instr);

/* Whether a frame that is handed over with an exception is about to enter the second
   loop. */
extern _PyPerfLock_PER_THREAD bool _PyPerfEvaluator_IsHandingOver;

/* Return _PyPerfEvaluator_IsHandingOver and set it to false. */
static inline bool
_PyPerfEvaluator_TakeIsHandingOver(void)
{
    const bool result = _PyPerfEvaluator_IsHandingOver;
    _PyPerfEvaluator_IsHandingOver = false;
    return result;
}

/* Make the eval loops of a thread take the slow path of the eval breaker. */
extern void _PyPerfEvaluator_RaiseBreaker(PyThreadState *tstate);

/* Make each thread take the slow path in its outermost eval loop: functions that are
   running may lack names.  Raises the breaker of the thread `tstate`, if it is not
   NULL, at once; other threads raise theirs when they take the GIL.  No GIL needed in a
   process with one thread. */
extern void _PyPerfEvaluator_StartLate(PyThreadState *tstate);

/* Called by the second eval loop on the slow path of the eval breaker.  Lowers the
   breaker.  Returns true if functions of this loop may lack names, or loops further out
   may have frames to hand over. */
extern bool _PyPerfEvaluator_MustCatchUp(PyThreadState *tstate);

/* Called when a second eval loop has named its functions.  Returns whether it is the
   thread's outermost loop.  If so, notes that the thread has caught up. */
extern bool _PyPerfEvaluator_IsOutermostLoop(PyThreadState *tstate);

/* How often profiling was switched on while Python code was running, or C code has
   forked this process.  perf_stub.c defines it too: 0. */
extern unsigned int _PyPerfEvaluator_LateStarts;

/* The slow path of _PyPerfEvaluator_GilTaken(). */
extern void _PyPerfEvaluator_GilTakenLate(PyThreadState *tstate);

/* Called when a thread has taken the GIL.  Raises the breaker if the thread may have
   frames in the first eval loop. */
static inline void
_PyPerfEvaluator_GilTaken(PyThreadState *tstate)
{
    if (_PyPerfEvaluator_LateStarts != 0) {
        _PyPerfEvaluator_GilTakenLate(tstate);
    }
}


// --- What is compiled with an eval loop ------------------------------------

/* Run the rest of `frame`, which the first eval loop has begun, and then its callers up
   to the one that the first loop was entered for.  `stack_pointer` and `next_instr` are
   what the first loop has in its variables.  Leaves the first loop.  Returns what the
   first loop has to return. */
extern PyObject *_PyPerfEvalLoop_RunToEntry(PyThreadState *tstate,
                                            struct _PyInterpreterFrame *frame,
                                            PyObject **stack_pointer,
                                            _Py_CODEUNIT *next_instr);

/* Undo _PyPerfEvaluator_RaiseBreaker().  Signals, other threads and pending calls may
   still need the slow path. */
extern void _PyPerfEvalLoop_LowerBreaker(PyThreadState *tstate);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_EVALUATOR_H */
