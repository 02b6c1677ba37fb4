/* fork(): the child is profiled too, in a file with a different name.

   The child inherits everything: the evaluator, the slots, the trampolines on its
   stack, and the parent's file.  It does not write to the parent's file and opens its
   own.  The functions on its stack are announced there at once, because control will
   return into their trampolines.  All others are announced when they are called.  If
   the program has called PyUnstable_PerfTrampoline_SetPersistAfterFork(), the child's
   file names all functions that the parent's file names.

   os.fork() calls hooks.  C code that forks does not call them.  So
   _PyPerfFork_Detect() compares process ids each time the slow path is taken.

   The perf map is written by threads that do not hold the GIL.  Its lock is held
   during fork(), so that the child knows how long the parent's file was.  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_fork.h"
#include "pycore_perf_map.h"
#include "pycore_perf_slots.h"

static bool persists;       // children keep what their parent has announced

void
_PyPerfFork_SetPersist(bool persist)
{
    persists = persist;
}

void
_PyPerfFork_Before(void)
{
    _PyPerfMap_BeforeFork();
}

void
_PyPerfFork_AfterInParent(void)
{
    _PyPerfMap_AfterForkParent();
}

/* Make a child independent of its parent. */
static int
child_start(PyThreadState *tstate, struct _PyPerfError *error)
{
    _PyPerfArena_Seal();
    return _PyPerfSlots_ReopenOutput(tstate, persists, error);
}

int
_PyPerfFork_AfterInChild(PyThreadState *tstate, struct _PyPerfError *error)
{
    _PyPerfMap_AfterForkChild();
    return child_start(tstate, error);
}

int
_PyPerfFork_Detect(PyThreadState *tstate, struct _PyPerfError *error)
{
    return _PyPerfSlots_IsOutputInherited() ? child_start(tstate, error) : 0;
}
