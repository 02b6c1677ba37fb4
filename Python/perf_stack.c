/* Is the end of the C stack near?

   Without profiling, calls between Python functions take no C stack: a program
   that has raised the recursion limit may recurse a million levels deep.  With
   profiling, a call that finds no room for a frame record goes through C and takes
   about a kilobyte.  A deep recursion would use up 8 MiB and crash, only because
   the program is being profiled.  So before such a call the eval loop checks whether
   the last part of the stack has been reached.  If so, profiling is switched off, and
   calls again take no C stack.

   Coroutine libraries run code on stacks that they allocate.  We cannot find out where
   those end.  On such a stack, a call that finds no room for a record has none.

   To find the end of the main thread's stack, the C library reads all of
   /proc/self/maps.  So we do this only when the stack is deep, which is rare.  */

#include "Python.h"
#include "pycore_perf_base.h"       // _PyPerfBase_IsMainThread()
#include "pycore_perf_os.h"
#include "pycore_perf_stack.h"

/* How much of the stack is kept free, for the functions that are called next and
   for printing the warning: one eighth, within these limits, in bytes. */
#define SMALLEST_RESERVE ((size_t)16 * 1024)
#define LARGEST_RESERVE ((size_t)1024 * 1024)

/* The main thread's stack is not measured while the thread stays within this many
   bytes of the place where the first check was made. */
#define NEAR ((uintptr_t)64 * 1024)

static _Thread_local struct {
    enum {NEW, NEAR_START, MEASURED} state;
    uintptr_t low;                  // the stack, or the part that is known
    size_t size;                    // bytes
    size_t reserve;                 // bytes at the low end
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
    if (stack.state == NEW && _PyPerfBase_IsMainThread()) {
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

bool
_PyPerfStack_IsHalfFree(void)
{
    if (_PyPerfStack_Look() == _PyPerfStack_FOREIGN) {
        return false;
    }
    return stack.state == NEAR_START
           || (uintptr_t)__builtin_frame_address(0) - stack.low >= stack.size / 2;
}

size_t
_PyPerfStack_Left(void)
{
    return _PyPerfStack_Look() == _PyPerfStack_FOREIGN
           ? 0 : (uintptr_t)__builtin_frame_address(0) - stack.low;
}
