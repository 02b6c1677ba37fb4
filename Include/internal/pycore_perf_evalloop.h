/* The hooks of the eval loop.  Python/ceval.c includes this file before
   _PyEval_EvalFrameDefault().  ceval.c is compiled three times:

   - as ceval.c.  That is the first loop, CPython's own.  The hooks do what the
     unpatched code does in their place.  One is added: on the slow path of the eval
     breaker a frame can be handed over to the second loop.

   - as perf_evalloop.c, which defines PERF_EVAL_LOOP.  That is the second loop.
     It links a frame record for each call between Python functions.

   - as perf_evalloop_lines.c, where PERF_LINES is 1, too.  That is the second loop with
     lines: each instruction also writes its own address to the topmost record.  It is
     another function, because a question that each instruction asks costs as much as
     the answer.

   Python/perf_record.c explains the records.  The hooks that differ from one CPython
   release to another are in pycore_perf_evalloop_3_11.h and so on.  */

#ifndef Py_INTERNAL_PERF_EVALLOOP_H
#define Py_INTERNAL_PERF_EVALLOOP_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_base.h"
#include "pycore_perf_evaluator.h"
#include "pycore_perf_record.h"

#ifndef PERF_EVAL_LOOP

#define PERF_DECLARATIONS

/* Whether a call between Python functions must go through the frame evaluator. */
#define PERF_MUST_CALL() (tstate->interp->eval_frame != NULL)

#else   /* PERF_EVAL_LOOP */

/* The eval loop's own frame record.  The builtin makes the compiler keep a frame
   pointer. */
#define PERF_OWN_RECORD() \
    ((struct _PyPerfRecord *)__builtin_frame_address(0) - _PyPerfArch_RECORDS_BELOW)

#define PERF_DECLARATIONS \
    PERF_FRAME_VARIABLE \
    struct _PyPerfLoop perf_loop; \
    _PyPerfLoop_Init(&perf_loop, first_frame, PERF_OWN_RECORD(), \
                     _PyPerfArch_END_OF_FRAME(), PERF_LINES)

/* The loop has pushed `frame`: link its record.  If there is no room for one, jump. */
#define PERF_LINK_FRAME() PERF_LINK(false, perf_run_nested)
#define PERF_LINK(RESUMES, NO_ROOM) \
    do { \
        if (!_PyPerfRecord_Link(tstate, frame, PERF_OWN_RECORD(), \
                                _PyPerfArch_END_OF_FRAME(), &perf_loop, RESUMES, \
                                PERF_LINES)) { \
            goto NO_ROOM; \
        } \
    } while (0)

/* Only if there is an evaluator and it is not EvalFrame.  After profiling was switched
   off there is none.  Then this loop still inlines calls. */
#define PERF_MUST_CALL() \
    (__builtin_expect(tstate->interp->eval_frame != _PyPerfEvaluator_EvalFrame, 0) \
     && tstate->interp->eval_frame != NULL)

/* An instruction begins: write its address, the low half of it, to the topmost record
   (perf_record.c). */
#if PERF_LINES
#  define PERF_STORE_LINE() _PyPerfLoop_StoreLine(&perf_loop, next_instr)
#else
#  define PERF_STORE_LINE() ((void)0)
#endif

#endif  /* PERF_EVAL_LOOP */

#include _PyPerfBase_EVALLOOP_HOOKS

#endif  /* !Py_INTERNAL_PERF_EVALLOOP_H */
