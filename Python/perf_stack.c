/* The end of the C stack, seen in time.

   Without profiling, calls between Python functions take no C stack: a program
   that has raised the recursion limit may recurse a million deep.  With profiling
   each call that finds no room for a frame record goes through C and takes about
   a kilobyte, and 8 MiB are used up in the end.  The program must not pay for
   being profiled with a crash, so before such a call we look whether the last part
   of the stack has been reached, and then profiling is switched off: from there on
   calls take no C stack again.

   Coroutine libraries run code on stacks of their own.  Where those end nobody
   knows; there, calls that find no room for a record do without.

   To find out where the main thread's stack ends, all of /proc/self/maps has to
   be read.  So that is done when it goes deep, which few programs do.  */

#include "Python.h"
#include "pycore_perf_os.h"
#include "pycore_perf_stack.h"
#include "pycore_runtime.h"         // _PyRuntime

/* What is left to those who come after us, and to the warning. */
#define SMALLEST_RESERVE ((size_t)16 * 1024)
#define LARGEST_RESERVE ((size_t)1024 * 1024)

/* The main thread is not deep as long as it keeps within this many bytes around
   the first place where we looked. */
#define NEAR ((uintptr_t)64 * 1024)

static _Thread_local struct {
    enum {NEW, NEAR_START, MEASURED} state;
    uintptr_t low;                  // the stack, or what is known of it
    size_t size;                    // bytes
    size_t reserve;                 // the last part of these
} stack;

static void
stack_measure(void)
{
    uintptr_t low;
    size_t size;
    if (!_PyPerfOS_GetStack(&low, &size)) {
        low = size = 0;
    }
    stack.state = MEASURED;
    stack.low = low;
    stack.size = size;
    stack.reserve = Py_MIN(Py_MAX(size / 8, Py_MIN(size / 2, SMALLEST_RESERVE)),
                           LARGEST_RESERVE);
}

enum _PyPerfStack_Place
_PyPerfStack_Look(void)
{
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (stack.state == NEW
            && PyThread_get_thread_ident() == _PyRuntime.main_thread) {
        stack.state = NEAR_START;
        stack.low = here - NEAR;
        stack.size = 2 * NEAR;
    }
    if (stack.state == NEW
            || (stack.state == NEAR_START && here - stack.low >= stack.size)) {
        stack_measure();
    }
    if (here - stack.low >= stack.size) {
        return _PyPerfStack_FOREIGN;
    }
    return here - stack.low < stack.reserve ? _PyPerfStack_SHORT
                                            : _PyPerfStack_ENOUGH;
}
