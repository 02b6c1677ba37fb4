/* fork(): the child is profiled too, in a file with a different name.

   The child inherits everything: the evaluator, the slots, the trampolines on its
   stack, and the parent's file.  It does not write to the parent's file and opens its
   own.  The functions on its stack are announced there at once, because control will
   return into their trampolines.  All others are announced when they are called.  If
   the program has called PyUnstable_PerfTrampoline_SetPersistAfterFork(), the child's
   file names all functions that the parent's file names.

   The perf map is written by threads that do not hold the GIL.  Its lock is held
   during os.fork(), so that the child knows how long the parent's file was.  In a build
   without the GIL, os.fork() stops all other threads, and the lock is taken after that:
   a thread that waited for the lock would not stop.

   os.fork() calls hooks.  C code that forks does not call them.  The C library calls
   child_of_c_code() in such a child, on the thread that forked.  It is the only thread
   of the child, and it may be without the GIL.  Another thread of the parent may have
   held the GIL, the lock of the allocator, or any other lock.  The child does not have
   that thread, so the lock is never released.  So child_of_c_code()

   - opens the child's file and writes the entries of the functions on its own stack:
     the frames of a thread change only by that thread.  No lock but the map's is
     taken, and that one is initialized again.  No memory is allocated, and no function
     of Python is called.  A slot that another thread was about to change is left out
     (perf_slots.c);
   - makes the eval loop take its slow path as soon as the child runs Python code.  The
     thread then has the GIL.  _PyPerfFork_Detect() notices that the process id is not
     the one that the slots were announced by, and does the rest.

   clone(), vfork() and _Fork() do not call child_of_c_code(), and pthread_atfork() may
   fail.  Then _PyPerfFork_Detect() finds the child when the slow path is taken for a
   different reason: a function is called that the parent has not called.

   A child often executes another program at once.  Its file would then have only
   functions that the parent's file has too, and it would describe a process that runs
   a different program.  So the file is removed before the program is executed, unless
   the child has announced a function that its parent had not.  If the program cannot be
   executed, the file is put back.  The functions that the handlers of
   os.register_at_fork() call do not count, because threading and logging have such
   handlers.  A child of vfork() has no file, and it shares its memory with the parent.
   No function here is called in it.  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_evaluator.h"
#include "pycore_perf_fork.h"
#include "pycore_perf_lock.h"
#include "pycore_perf_map.h"
#include "pycore_perf_slots.h"
#include <pthread.h>

static bool persists;       // children keep what their parent has announced
static bool is_watching;    // the C library calls child_of_c_code()

/* This thread is forking the process and takes care of the child itself.  Other threads
   may fork at the same time, without the GIL. */
static _Thread_local bool takes_care;

bool
_PyPerfFork_SetPersist(bool persist)
{
    persists = persist;
    return true;
}


// --- Forks by the interpreter ----------------------------------------------

void
_PyPerfFork_TakeCare(bool on)
{
    takes_care = on;
}

void
_PyPerfFork_Before(void)
{
    _PyPerfFork_TakeCare(true);
    _PyPerfMap_BeforeFork();
}

void
_PyPerfFork_AfterInParent(void)
{
    _PyPerfMap_AfterForkParent();
    _PyPerfFork_TakeCare(false);
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
    _PyPerfFork_TakeCare(false);
    _PyPerfLock_IsForked();             // the parent's threads are not listed any more
    _PyPerfMap_AfterForkChild();
    _PyPerfSlots_SetStarting(true);
    return child_start(tstate, error);
}


// --- Forks by C code -------------------------------------------------------

/* Called by the C library in the child of each fork(). */
static void
child_of_c_code(void)
{
    if (takes_care) {
        return;
    }
    _PyPerfLock_IsForked();
    if (_PyPerfSlots_OpenMode() == _PyPerf_OFF) {
        return;
    }
    PyThreadState *tstate = PyGILState_GetThisThreadState();
    _PyPerfSlots_ReopenEarly(tstate, persists);
    _PyPerfEvaluator_StartLate(tstate);
}

void
_PyPerfFork_Watch(void)
{
    // If there is no memory, children of C code are found later.  The next activation
    // tries again.
    is_watching = is_watching || pthread_atfork(NULL, NULL, child_of_c_code) == 0;
}

int
_PyPerfFork_Detect(PyThreadState *tstate, struct _PyPerfError *error)
{
    return _PyPerfSlots_IsOutputInherited() ? child_start(tstate, error) : 0;
}
