/* Unwind information for trampolines. */

#ifndef Py_INTERNAL_PERF_UNWIND_H
#define Py_INTERNAL_PERF_UNWIND_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_error.h"      // struct _PyPerfError
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The unwind information of a piece of code, for the ELF image that perf builds around
   it: code at 0, then .eh_frame (aligned to 8), then
   .eh_frame_hdr. */
struct _PyPerfUnwind {
    uint16_t machine;           /* e_machine of the running image */
    size_t size;                /* bytes of data: .eh_frame, then .eh_frame_hdr */
    size_t header_size;         /* bytes of .eh_frame_hdr */
    size_t fde_offset;          /* of the FDE in data */
    _Alignas(8) char data[256];
};

/* Find what the assembler made from the trampoline's .cfi directives in the running
   image, check it and fill in *unwind.  Any thread, no GIL needed.
   Returns 0, or -1 with *error filled in if it is missing or not as expected. */
extern int _PyPerfUnwind_Init(struct _PyPerfUnwind *unwind,
                              struct _PyPerfError *error);

/* The same for code in which the rules are everywhere those after the call in a
   trampoline.  Its size has to be set. */
extern int _PyPerfUnwind_InitBody(struct _PyPerfUnwind *unwind,
                                  struct _PyPerfError *error);

/* Make *unwind describe `size` bytes of code. */
extern void _PyPerfUnwind_SetCodeSize(struct _PyPerfUnwind *unwind, size_t size);

/* Write an .eh_frame to `place`, `room` bytes aligned to 8, that describes the `size`
   bytes of trampolines at `code` to unwinders in this process.  `size` and the distance
   of the two must be less than 2 GiB.  Any thread, no GIL needed.
   Returns e_machine of the running image, or 0 if nothing was written. */
extern uint16_t _PyPerfUnwind_Describe(char *place, size_t room, const char *code,
                                       size_t size);

/* Register the .eh_frame at `place` with the unwinder in this process.  `place` must
   remain until the process ends.  Needs the GIL.  Returns false if the unwinder is not
   loaded and cannot or must not be loaded. */
extern bool _PyPerfUnwind_Register(char *place);

/* Let _PyPerfUnwind_Register() load the unwinder from now on.  Needs the GIL.  Returns
   whether this is new, so that what is not registered yet should be. */
extern bool _PyPerfUnwind_AllowLoading(void);

struct _PyPerfArch_Registers;

/* Find the caller of the function that has the address `callee` in its C frame.  Fill
   in *registers with what this caller expects when the call returns.  Needs the GIL.
   Returns false if libgcc cannot be loaded, or if its unwinder does not find the
   caller.  Exists only if _PyPerfArch_CAN_RETURN_TO. */
extern bool _PyPerfUnwind_FindCaller(const void *callee,
                                     struct _PyPerfArch_Registers *registers);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_UNWIND_H */
