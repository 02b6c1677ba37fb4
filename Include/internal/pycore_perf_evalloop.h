/* The hooks of the eval loop.  Python/ceval.c includes this file before
   _PyEval_EvalFrameDefault().  ceval.c is compiled twice:

   - as ceval.c.  That is the first loop, CPython's own.  The hooks do what the
     unpatched code does in their place.  One is added: on the slow path of the eval
     breaker a frame can be handed over to the second loop.

   - as perf_evalloop.c, which defines PERF_EVAL_LOOP.  That is the second loop.
     It links a frame record for each call between Python functions.

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

#define PERF_OPCODE_TARGETS "opcode_targets.h"
#define PERF_DECLARATIONS

/* Whether a call between Python functions must go through the frame evaluator. */
#define PERF_MUST_CALL() (tstate->interp->eval_frame != NULL)

#else   /* PERF_EVAL_LOOP */

#define PERF_OPCODE_TARGETS "Python/perf_opcode_targets.h"
#define PERF_ADDRESSES &_PyPerf_Pool.return_addresses
#define PERF_LINE_ADDRESSES &_PyPerf_Pool.line_addresses

/* The eval loop's own frame record.  The builtin makes the compiler keep a frame
   pointer. */
#define PERF_OWN_RECORD() \
    ((struct _PyPerfRecord *)__builtin_frame_address(0) - _PyPerfArch_RECORDS_BELOW)

#define PERF_DECLARATIONS \
    PERF_TABLES_OF_SWITCH \
    PERF_FRAME_VARIABLE \
    struct _PyPerfLoop perf_loop; \
    _PyPerfLoop_Init(&perf_loop, opcode_targets)

/* The loop has pushed `frame`: link its record.  If there is no room for one, jump. */
#define PERF_LINK_FRAME() PERF_LINK(false, perf_run_nested)
#define PERF_LINK(RESUMES, NO_ROOM) \
    do { \
        if (!_PyPerfRecord_Link(tstate, frame, PERF_OWN_RECORD(), \
                                _PyPerfArch_END_OF_FRAME(), &perf_loop, RESUMES)) { \
            goto NO_ROOM; \
        } \
    } while (0)

/* Only if there is an evaluator and it is not EvalFrame.  After profiling was switched
   off there is none.  Then this loop still inlines calls. */
#define PERF_MUST_CALL() \
    (__builtin_expect(tstate->interp->eval_frame != _PyPerfEvaluator_EvalFrame, 0) \
     && tstate->interp->eval_frame != NULL)


/* Lines.  In a loop that stores them, each instruction writes its own address, the low
   half of it, to the topmost record (perf_record.c).  An instruction has two labels:
   one in front of the store, and one behind it.  So there are two tables for dispatch,
   one behind the other: 256 labels for loops without lines, and 256 for loops with
   lines.  Behind each one is the address of the table of addresses to link records
   with.  The loop has the address of its table in a variable.  The first loop has the
   address of its only table in one, too, because compilers put it there.  So without
   lines the two loops execute the same instructions. */

#define PERF_STORE_LINE() \
    _PyPerfRecord_StoreLine(PERF_OWN_RECORD(), next_instr)

#define PERF_STORE_LINE_IF_WANTED() \
    do { \
        if (_PyPerfLoop_HasLines(&perf_loop)) { \
            PERF_STORE_LINE(); \
        } \
    } while (0)

#if USE_COMPUTED_GOTOS

#define PERF_TABLES_OF_SWITCH

#undef DISPATCH_GOTO
#define DISPATCH_GOTO() goto *perf_loop.targets[opcode]

#else   /* !USE_COMPUTED_GOTOS */

/* The tables without labels. */
#define PERF_TABLES_OF_SWITCH \
    static void *opcode_targets[] = { \
        [_PyPerfLoop_LABELS] = PERF_ADDRESSES, \
        [2 * _PyPerfLoop_LABELS + 1] = PERF_LINE_ADDRESSES, \
    };

#endif  /* !USE_COMPUTED_GOTOS */
#endif  /* PERF_EVAL_LOOP */

#include _PyPerfBase_EVALLOOP_HOOKS

#endif  /* !Py_INTERNAL_PERF_EVALLOOP_H */
