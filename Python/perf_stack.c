/* The end of the C stack, seen in time.

   Without profiling, calls between Python functions take no C stack: a program
   that has raised the recursion limit may recurse a million deep.  Run by our
   evaluator, each call that finds no room for a frame record takes about a
   kilobyte, and 8 MiB are used up in the end.  The program must not pay for being
   profiled with a crash, so the front desk looks whether the last part of the
   stack has been reached, and then switches profiling off: from there on calls
   take no C stack again.

   To find out where the main thread's stack ends, all of /proc/self/maps has to
   be read.  So that is done when it goes deep, which few programs do.  */

#include "Python.h"
#include "pycore_perf_stack.h"
#include "pycore_runtime.h"         // _PyRuntime
#include <pthread.h>

#define LARGEST_RESERVE ((size_t)1024 * 1024)

/* The main thread is not deep before it has used this much. */
#define NEAR ((uintptr_t)64 * 1024)

_Thread_local struct _PyPerfStackReserve _PyPerfStack_Reserve = {
    .low = 0, .size = UINTPTR_MAX,
};

static void
reserve_measure(struct _PyPerfStackReserve *reserve)
{
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &low, &size) != 0) {
            size = 0;
        }
        pthread_attr_destroy(&attributes);
    }
    reserve->low = (uintptr_t)low;
    reserve->size = Py_MIN(size / 8, LARGEST_RESERVE);
}

bool
_PyPerfStack_Confirm(uintptr_t here)
{
    struct _PyPerfStackReserve *reserve = &_PyPerfStack_Reserve;
    if (reserve->state == _PyPerfStack_NEW
            && PyThread_get_thread_ident() == _PyRuntime.main_thread) {
        // What lies lower than this is to be looked at.
        reserve->low = 0;
        reserve->size = here - NEAR;
        reserve->state = _PyPerfStack_NEAR;
        return false;
    }
    if (reserve->state != _PyPerfStack_KNOWN) {
        reserve_measure(reserve);
        reserve->state = _PyPerfStack_KNOWN;
    }
    return here - reserve->low < reserve->size;
}
