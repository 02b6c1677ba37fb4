/* Unwind information on platforms whose images are not ELF: none.

   macOS links this file in place of perf_unwind.c and perf_gdb.c.  Profilers and
   debuggers walk the stack by frame pointers there, also through trampolines.  A
   jitdump uses ELF's numbers for architectures on every platform, so they are here.  */

#include "Python.h"
#include "pycore_perf_gdb.h"
#include "pycore_perf_unwind.h"

enum {
    EM_X86_64 = 62,
    EM_AARCH64 = 183,
};

int
_PyPerfUnwind_Init(struct _PyPerfUnwind *unwind,
                   struct _PyPerfError *Py_UNUSED(error))
{
#ifdef __aarch64__
    unwind->machine = EM_AARCH64;
#else
    unwind->machine = EM_X86_64;
#endif
    unwind->size = unwind->header_size = 0;
    return 0;
}

int
_PyPerfUnwind_InitBody(struct _PyPerfUnwind *unwind, struct _PyPerfError *error)
{
    return _PyPerfUnwind_Init(unwind, error);
}

void
_PyPerfUnwind_SetCodeSize(struct _PyPerfUnwind *Py_UNUSED(unwind),
                          size_t Py_UNUSED(size))
{
}

uint16_t
_PyPerfUnwind_Describe(char *Py_UNUSED(place), size_t Py_UNUSED(room),
                       const char *Py_UNUSED(code), size_t Py_UNUSED(size))
{
    return 0;
}

bool
_PyPerfUnwind_AllowLoading(void)
{
    return false;
}

bool
_PyPerfUnwind_Register(char *Py_UNUSED(place))
{
    return false;
}

void
_PyPerfGdb_Register(uint16_t Py_UNUSED(machine), const char *Py_UNUSED(code),
                    size_t Py_UNUSED(size), const char *Py_UNUSED(unwind),
                    size_t Py_UNUSED(unwind_size))
{
}
