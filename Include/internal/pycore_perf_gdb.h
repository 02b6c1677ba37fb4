/* Unwind information for gdb. */

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

/* Register the `size` bytes of trampolines at `code` for gdb, now or when it attaches.
   Their .eh_frame is the `unwind_size` bytes at `unwind`.  Both must remain until the
   process ends.  `machine` is ELF's number of the architecture.  Needs the GIL.  If
   there is no memory, nothing is registered. */
extern void _PyPerfGdb_Register(uint16_t machine, const char *code, size_t size,
                                const char *unwind, size_t unwind_size);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_GDB_H */
