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
#ifdef __riscv
#  include <sys/prctl.h>
#endif

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

/* The registers that a call preserves, by their DWARF numbers.

   _PyPerfArch_CAN_RETURN_TO is 1 where functions that are running when profiling is
   switched on can be handed over.  This needs libgcc, and _PyPerf_ReturnTo() in
   asm_trampoline_*.S.

   _PyPerfArch_HasShadowStack() returns whether the processor compares return addresses
   of this thread with a shadow stack.  Then no C frame can be skipped. */
#if defined(__x86_64__) && defined(__linux__)
#  define _PyPerfArch_CAN_RETURN_TO 1
#  define _PyPerfArch_SAVED_REGISTERS \
    {3, 6, 12, 13, 14, 15}          /* rbx, rbp, r12 to r15 */

static inline bool
_PyPerfArch_HasShadowStack(void)
{
    uint64_t pointer = 0;
    __asm__ volatile("rdsspq %0" : "+r"(pointer));  // no effect without one
    return pointer != 0;
}
#elif defined(__aarch64__) && defined(__linux__)
#  define _PyPerfArch_CAN_RETURN_TO 1
#  define _PyPerfArch_SAVED_REGISTERS \
    {19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,    /* x19 to x29 */ \
     72, 73, 74, 75, 76, 77, 78, 79}                /* d8 to d15 */

static inline bool
_PyPerfArch_HasShadowStack(void)
{
    // chkfeat clears the bits of the features that are enabled.  Bit 0: GCS.  It has no
    // effect on processors without chkfeat.
    register uint64_t features __asm__("x16") = 1;
    __asm__ volatile("hint 40" : "+r"(features));
    return features == 0;
}
#elif defined(__riscv_float_abi_double) && __riscv_xlen == 64 && defined(__linux__)
#  define _PyPerfArch_CAN_RETURN_TO 1
#  define _PyPerfArch_SAVED_REGISTERS \
    {8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,  /* s0 to s11 */ \
     40, 41, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59} /* fs0 to fs11 */

static inline bool
_PyPerfArch_HasShadowStack(void)
{
    // The instruction that reads its pointer is illegal on many processors.  Kernels
    // that know no shadow stack return an error.
    enum { GET_SHADOW_STACK_STATUS = 74 };          // linux/prctl.h
    unsigned long status = 0;
    return prctl(GET_SHADOW_STACK_STATUS, &status, 0, 0, 0) == 0 && (status & 1) != 0;
}
#else
#  define _PyPerfArch_CAN_RETURN_TO 0
#endif

#if _PyPerfArch_CAN_RETURN_TO
/* What a function expects when a call returns.  asm_trampoline_*.S read the fields in
   this order. */
struct _PyPerfArch_Registers {
    uintptr_t saved[sizeof((const int[])_PyPerfArch_SAVED_REGISTERS) / sizeof(int)];
    uintptr_t stack_pointer;
    uintptr_t return_address;
};
#endif

#endif  /* !Py_INTERNAL_PERF_ARCH_H */
