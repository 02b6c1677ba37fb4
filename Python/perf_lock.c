/* The lock of the profiler, for builds without the GIL (--disable-gil).

   With the GIL, one thread at a time runs Python code, and the profiler's state needs
   no other lock.  Without it, threads call functions for the first time at the same
   moment, and code objects die on any thread.  So one lock guards that state.  It is
   taken where the rest of the interpreter calls the profiler: to name a function, to
   release a code object's slot, to switch on and off, and to fork.  A call of a
   function that has its name takes no lock.  It reads the slot number of the code
   object, and with it an address.  The number is stored after the address is.

   Three things need more than the lock, because threads read without it:

   - The tables of addresses grow, and move.
   - The functions on the stacks of all threads are named when a file begins.
   - Profiling begins: all threads must see the evaluator and the tables together.

   Then all other threads are stopped, as for the garbage collector.  They stop
   between two bytecode instructions, or where they wait for a lock: never where they
   read a table.

   A thread that has the lock may have to wait for one that stops the threads.  That
   one does not wait for us: no code object dies while threads are stopped.

   A thread may be gone and still have the lock: in a child that C code has forked,
   and when the interpreter ends, because daemon threads then wait forever.  The lock
   is taken from such a thread.  When the interpreter ends, it was about to stop the
   others, so the state is whole.  In a child it may have been anywhere, as a thread
   with the GIL may have been (perf_fork.c).  */

#include "Python.h"

#ifdef Py_GIL_DISABLED

#include "pycore_lock.h"            // _PyRecursiveMutex
#include "pycore_perf_lock.h"
#include "pycore_pystate.h"         // _PyEval_StopTheWorldAll()

static _PyRecursiveMutex mutex;
static int stops;                   // calls of _PyPerfLock_StopThreads() to undo

/* In a child that C code has forked, the interpreter still lists the parent's threads.
   One that was running would never stop.  So if there is one, threads that the child
   starts are not stopped either.  (The garbage collector does not end then.) */
static bool is_alone;

/* Return whether the interpreter lists a thread that has to stop by itself, other than
   the calling one.  Takes no lock. */
static bool
other_thread_runs(void)
{
    const PyThreadState *self = PyGILState_GetThisThreadState();
    for (PyInterpreterState *interp = PyInterpreterState_Head();
            interp != NULL; interp = PyInterpreterState_Next(interp)) {
        for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interp);
                tstate != NULL; tstate = PyThreadState_Next(tstate)) {
            if (tstate != self && _Py_atomic_load_int_relaxed(&tstate->state)
                                  != _Py_THREAD_DETACHED) {
                return true;
            }
        }
    }
    return false;
}

/* Take the lock from a thread that will not run again. */
static void
take_from_other(void)
{
    if (!_PyRecursiveMutex_IsLockedByCurrentThread(&mutex)) {
        memset(&mutex, 0, sizeof(mutex));
        stops = 0;
    }
}

void
_PyPerfLock_Take(void)
{
    if (_PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL) {
        take_from_other();
    }
    _PyRecursiveMutex_Lock(&mutex);
}

void
_PyPerfLock_Release(void)
{
    _PyRecursiveMutex_Unlock(&mutex);
}

void
_PyPerfLock_StopThreads(void)
{
    if (stops++ == 0 && !is_alone) {
        _PyEval_StopTheWorldAll(&_PyRuntime);
    }
}

void
_PyPerfLock_StartThreads(void)
{
    if (--stops == 0 && !is_alone) {
        _PyEval_StartTheWorldAll(&_PyRuntime);
    }
}

void
_PyPerfLock_IsForked(void)
{
    is_alone = other_thread_runs();
    take_from_other();
}

#endif  // Py_GIL_DISABLED
