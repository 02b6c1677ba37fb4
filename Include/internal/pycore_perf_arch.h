/* The differences between architectures that matter to C code.
   Python/asm_trampoline_*.S have the rest of them.

                                   x86-64      aarch64     riscv64
       a frame pointer points      to          to          to the end of its record

   Sources: System V ABI for AMD64, section 3.2.2; AAPCS64, section 6.4.6; RISC-V ELF
   psABI, "Frame Pointer Convention". */

#ifndef Py_INTERNAL_PERF_ARCH_H
#define Py_INTERNAL_PERF_ARCH_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdbool.h>
#include <stdint.h>

/* The number of records between a record and the place that its frame pointer points
   to. */
#ifdef __riscv
#  define _PyPerfArch_RECORDS_BELOW 1
#else
#  define _PyPerfArch_RECORDS_BELOW 0
#endif

/* The end of the calling function's frame: its canonical frame address, or, if the
   compiler does not know that, the lowest address that is certainly not below it.
   clang for aarch64 gives the frame pointer instead.  Above that there are the record
   and at most ten further saved integer registers. */
#if defined(__aarch64__) && defined(__clang__)
#  define _PyPerfArch_END_OF_FRAME() \
    ((const void *)((const char *)__builtin_frame_address(0) + 12 * 8))
#else
#  define _PyPerfArch_END_OF_FRAME() ((const void *)__builtin_dwarf_cfa())
#endif

/* The registers that a call preserves, and the address that it returns to.
   asm_trampoline_x86_64.S reads the fields in this order.

   _PyPerfArch_CAN_RETURN_TO is 1 where _PyPerf_ReturnTo() exists. */
#if defined(__x86_64__) && defined(__linux__)
#  define _PyPerfArch_CAN_RETURN_TO 1
struct _PyPerfArch_Registers {
    uintptr_t saved[6];             // as in _PyPerfArch_SAVED_REGISTERS
    uintptr_t stack_pointer;
    uintptr_t return_address;
};
/* Their DWARF numbers: rbx, rbp, r12 to r15. */
#  define _PyPerfArch_SAVED_REGISTERS {3, 6, 12, 13, 14, 15}

/* Return whether the processor compares return addresses with a shadow stack. */
static inline bool
_PyPerfArch_HasShadowStack(void)
{
    uint64_t pointer = 0;
    __asm__ volatile("rdsspq %0" : "+r"(pointer));  // no effect without one
    return pointer != 0;
}
#else
#  define _PyPerfArch_CAN_RETURN_TO 0
struct _PyPerfArch_Registers;
#endif

#endif  /* !Py_INTERNAL_PERF_ARCH_H */
