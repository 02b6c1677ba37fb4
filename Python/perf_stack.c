/* The end of the C stack, seen in time.

   Without profiling, calls between Python functions take no C stack: a program
   that has raised the recursion limit may recurse a hundred thousand deep.  Run
   by our evaluator, each call takes a few hundred bytes, and 8 MiB are used up
   long before.  The program must not pay for being profiled with a crash, so the
   front desk looks whether the last part of the stack has been reached, and
   then switches profiling off: from there on calls take no C stack again.  */

#include "Python.h"
#include "pycore_perf_stack.h"
#include <pthread.h>

#define LARGEST_RESERVE ((size_t)1024 * 1024)

_Thread_local struct _PyPerfStackReserve _PyPerfStack_Reserve;

void
_PyPerfStack_Measure(void)
{
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &low, &size) != 0) {
            low = NULL;
        }
        pthread_attr_destroy(&attributes);
    }
    if (low == NULL) {
        low = (void *)1;        // unknown: no frame lies there
        size = 0;
    }
    _PyPerfStack_Reserve.low = low;
    _PyPerfStack_Reserve.size = Py_MIN(size / 8, LARGEST_RESERVE);
}
