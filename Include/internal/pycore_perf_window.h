/* Windows: executable address space in which each bytecode instruction has an address.
   Python/perf_window.c explains them.  Everything here needs the GIL. */

#ifndef Py_INTERNAL_PERF_WINDOW_H
#define Py_INTERNAL_PERF_WINDOW_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_error.h"      // struct _PyPerfError
#include <stddef.h>
#include <stdint.h>

/* Make a window and return its start, which is a multiple of 4 GiB.  It remains until
   the process ends.
   Returns NULL with *error filled in if memory is refused. */
extern const void *_PyPerfWindow_New(struct _PyPerfError *error);

/* Find the address of the `size` bytes of bytecode at `bytecode`, in a window that this
   process made.  Stores the address in *address, or NULL if the bytecode lies across
   the end of a window.
   Returns 0, or -1 with *error filled in if memory is refused. */
extern int _PyPerfWindow_Find(const void *bytecode, size_t size, const void **address,
                              struct _PyPerfError *error);

/* In a forked child: make new windows for bytecode that has no address yet.  Profilers
   look up the names of inherited memory in the parent's file. */
extern void _PyPerfWindow_Seal(void);

/* Register the windows that are not registered with the unwinder in this process yet.
   (perf_arena.c) */
extern void _PyPerfWindow_Register(void);

/* How many bytes before its first instruction the addresses of a function begin, and
   how many before each instruction the address of that begins. */
enum {
    _PyPerfWindow_BEFORE_FIRST = 3,
    _PyPerfWindow_BEFORE_EACH = 1,
};

/* Return the address of `bytecode` in the window that contains the address `within`. */
static inline const void *
_PyPerfWindow_Translate(const void *within, const void *bytecode)
{
    return (const void *)(((uintptr_t)within & ~(uintptr_t)UINT32_MAX)
                          | (uint32_t)(uintptr_t)bytecode);
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_WINDOW_H */
