/* The second eval loop: Python/ceval.c, compiled again with other hooks.

   The hooks are macros, pycore_perf_evalloop.h.  PERF_EVAL_LOOP selects those of the
   second loop.  It also leaves out what ceval.c has besides the loop and its static
   helpers: everything else must exist once.

   perf_evalloop_lines.c compiles it once more, with PERF_LINES.  That is the second
   loop with lines: each of its instructions stores its own address.

   The loop is a static function here, with the name of the first loop: debuggers and
   other tools know the eval loop by that name.  asm_trampoline_*.S calls it by a second
   name, __PyPerf_EvalLoop or __PyPerf_EvalLoopWithLines.  Of two names for one address
   perf shows the one with fewer leading underscores.  So perf shows the first loop's
   name.

   After the loop is what takes over the frames of the first one.  It differs from one
   release of CPython to another.  */

#define PERF_EVAL_LOOP
#ifndef PERF_LINES
#  define PERF_LINES 0
#endif

/* The headers declare the first loop, under a name that is not used here. */
#define _PyEval_EvalFrameDefault first_eval_loop
#include "Python.h"
#include "pycore_ceval.h"
#include "pycore_perf_base.h"
#include "pycore_perf_evaluator.h"
#include "pycore_perf_record.h"
#undef _PyEval_EvalFrameDefault

static PyObject *_PyEval_EvalFrameDefault(PyThreadState *tstate,
                                          struct _PyInterpreterFrame *frame,
                                          int throwflag);

#if PERF_LINES
#  define SECOND_NAME __PyPerf_EvalLoopWithLines
#else
#  define SECOND_NAME __PyPerf_EvalLoop
#endif
extern PyObject * _Py_HOT_FUNCTION
SECOND_NAME(PyThreadState *tstate, struct _PyInterpreterFrame *frame, int throwflag)
    __attribute__((visibility("hidden"), alias("_PyEval_EvalFrameDefault")));

/* Debuggers read the variable `frame`, for example for py-bt.  The loop has so many
   jumps that gcc describes only one place for each variable.  For a parameter, that can
   be the register that passed it, also where the register has other contents.  So
   `frame` is a local variable here, set in PERF_DECLARATIONS.  If it has no fixed
   place, debuggers say so, and libpython.py finds the frame elsewhere. */
#define _PyEval_EvalFrameDefault(TSTATE, FRAME, THROWFLAG) \
    _PyEval_EvalFrameDefault(TSTATE, struct _PyInterpreterFrame *first_frame, THROWFLAG)
#define PERF_FRAME_VARIABLE struct _PyInterpreterFrame *frame = first_frame;

#pragma GCC diagnostic ignored "-Wunused-function"
#include "ceval.c"
#undef _PyEval_EvalFrameDefault

#include _PyPerfBase_HANDOVER
