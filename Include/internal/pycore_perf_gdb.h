/* Trampolines, told to debuggers. */

#ifndef Py_INTERNAL_PERF_GDB_H
#define Py_INTERNAL_PERF_GDB_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stddef.h>
#include <stdint.h>

/* Tell gdb, if it is there or as soon as it is, of the `size` bytes of trampolines
   at `code`, and that the `unwind_size` bytes at `unwind` are their .eh_frame.
   Both must stay for as long as the process lives.  `machine` is ELF's number of
   the architecture.  Needs the GIL.  Without memory for it gdb is not told. */
extern void _PyPerfGdb_Register(uint16_t machine, const char *code, size_t size,
                                const char *unwind, size_t unwind_size);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_GDB_H */
