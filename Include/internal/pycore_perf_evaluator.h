/* What runs the frames of a profiled interpreter: our frame evaluators (PEP 523), those
   of others before and after them, and frames that were running when profiling was
   switched on.  Everything here needs the GIL. */

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

/* Have our evaluator run the frames of `interp`: EvalFrame, or, if an evaluator of
   others is installed, CallFrame, which calls it.
   Returns 0, or -1 if there is no memory. */
extern int _PyPerfEvaluator_Install(PyInterpreterState *interp);

/* Undo that, from whatever place in a chain of evaluators.  Cannot fail. */
extern void _PyPerfEvaluator_Remove(PyInterpreterState *interp);

/* Return whether our evaluator is installed in `interp` and sees the frames: it is the
   evaluator, or the evaluator calls it. */
extern bool _PyPerfEvaluator_IsActive(PyInterpreterState *interp);

/* Called when `interp` ends. */
extern void _PyPerfEvaluator_Fini(PyInterpreterState *interp);

/* Called by _PyInterpreterState_GetEvalFrameFunc(): somebody may be about to chain to
   the current evaluator. */
extern void _PyPerfEvaluator_WasRead(PyInterpreterState *interp);

/* Called by _PyInterpreterState_SetEvalFrameFunc() when somebody sets `evaluator`.
   Returns the evaluator to set instead. */
extern _PyFrameEvalFunction _PyPerfEvaluator_IsSet(PyInterpreterState *interp,
                                                   _PyFrameEvalFunction evaluator);

/* Return whether calls may be specialized although there is an evaluator. */
static inline bool
_PyPerfEvaluator_InlinesCalls(const PyInterpreterState *interp)
{
#ifdef PY_HAVE_PERF_TRAMPOLINE
    return interp->eval_frame == _PyPerfEvaluator_EvalFrame;
#else
    return interp->eval_frame == NULL;
#endif
}


// --- Frames that run already -----------------------------------------------

/* Called by the first eval loop on the slow path of the eval breaker, with its frame,
   stack pointer and next instruction.  If the loop has to hand its frames over, run
   them to their end in the second loop, and return from the first loop to its caller,
   not to the loop. */
extern void _PyPerfEvaluator_HandOver(PyThreadState *tstate,
                                      struct _PyInterpreterFrame *frame,
                                      PyObject **stack_pointer,
                                      _Py_CODEUNIT *next_instr);

/* Whether a frame that is handed over with an exception is about to enter the second
   loop. */
extern bool _PyPerfEvaluator_IsHandingOver;

/* Make the eval loops of `interp` take the slow path of the eval breaker. */
extern void _PyPerfEvaluator_RaiseBreaker(PyInterpreterState *interp);

/* Called by the second eval loop there.  Returns whether functions of the loop may have
   no names, and loops further out may have to hand over.  Lowers the breaker. */
extern bool _PyPerfEvaluator_MustCatchUp(PyThreadState *tstate);

/* The second eval loop has caught up.  Returns whether it is the thread's outermost.
   If so, the thread need not take the slow path again. */
extern bool _PyPerfEvaluator_IsOutermostLoop(PyThreadState *tstate);

/* How often profiling was switched on while Python code was running. */
extern unsigned int _PyPerfEvaluator_LateStarts;

/* The slow path of _PyPerfEvaluator_GilTaken(). */
extern void _PyPerfEvaluator_GilTakenLate(PyThreadState *tstate);

/* Called when a thread has taken the GIL: it may have frames in the first eval loop. */
static inline void
_PyPerfEvaluator_GilTaken(PyThreadState *tstate)
{
    if (_PyPerfEvaluator_LateStarts != 0) {
        _PyPerfEvaluator_GilTakenLate(tstate);
    }
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_EVALUATOR_H */
