/* The end of the C stack, seen in time.

   Without profiling, calls between Python functions take no C stack: a program
   that has raised the recursion limit may recurse a million deep.  Run by our
   evaluator, each call that finds no room for a frame record takes about a
   kilobyte, and 8 MiB are used up in the end.  The program must not pay for being
   profiled with a crash, so the front desk looks whether the last part of the
   stack has been reached, and then switches profiling off: from there on calls
   take no C stack again.

   Coroutine libraries run code on stacks of their own.  Where those end nobody
   knows; there, calls that find no room for a record do without.

   To find out where the main thread's stack ends, all of /proc/self/maps has to
   be read.  So that is done when it goes deep, which few programs do.  */

#include "Python.h"
#include "pycore_perf_stack.h"
#include "pycore_runtime.h"         // _PyRuntime
#include <pthread.h>

/* What is left to those who come after us, and to the warning. */
#define SMALLEST_RESERVE ((size_t)16 * 1024)
#define LARGEST_RESERVE ((size_t)1024 * 1024)

/* The main thread is not deep before it has used this much. */
#define NEAR ((uintptr_t)64 * 1024)

_Thread_local struct _PyPerfStackBounds _PyPerfStack_Bounds = {
    .suspect_size = UINTPTR_MAX,
};

static void
bounds_measure(struct _PyPerfStackBounds *bounds)
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
    size_t reserve = Py_MAX(size / 8, Py_MIN(size / 2, SMALLEST_RESERVE));
    bounds->suspect_low = bounds->low = (uintptr_t)low;
    bounds->suspect_size = Py_MIN(reserve, LARGEST_RESERVE);
    bounds->size = size;
}

int
_PyPerfStack_Look(void)
{
    struct _PyPerfStackBounds *bounds = &_PyPerfStack_Bounds;
    const uintptr_t here = (uintptr_t)__builtin_dwarf_cfa();
    if (bounds->state == _PyPerfStack_NEW
            && PyThread_get_thread_ident() == _PyRuntime.main_thread) {
        // What lies lower than this is to be looked at.
        bounds->low = here - NEAR;
        bounds->size = 2 * NEAR;
        bounds->suspect_low = 0;
        bounds->suspect_size = bounds->low;
        bounds->state = _PyPerfStack_NEAR;
    }
    else if (bounds->state == _PyPerfStack_NEW
             || (bounds->state == _PyPerfStack_NEAR
                 && here - bounds->low >= bounds->size)) {
        bounds_measure(bounds);
        bounds->state = _PyPerfStack_KNOWN;
    }
    if (here - bounds->low >= bounds->size) {
        return _PyPerfStack_FOREIGN;
    }
    return here - bounds->suspect_low < bounds->suspect_size
           ? _PyPerfStack_SHORT : _PyPerfStack_ENOUGH;
}
