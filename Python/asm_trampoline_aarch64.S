/* The trampoline for aarch64: what stands in each slot of an arena.

       PyObject *trampoline(tstate, frame, throwflag, evaluator)

   It calls the function that its fourth argument is (x3; AAPCS64, section 6.8.2)
   with the arguments it was called with, and returns what that returns.  While the
   call lasts there is a frame record on the stack (AAPCS64, section 6.4.6) whose
   return address lies in this copy: the name of a Python function, to all who
   read stacks.  In fact nobody calls it: what stands on the stack is written there by
   the base below and by the eval loop, and is what a call would have left.

   - Position-independent: it is copied.
   - `bti c` and the property note below keep the whole image fit for BTI.
   - Return addresses in frame records are not signed (PAC): those that the eval loop
     writes cannot be, and one rule for unwinding holds for all of them.  What the
     base returns by is signed.
   - The .cfi directives are the only source of unwind information; jitdump
     mode finds in .eh_frame what the assembler makes of them.
   - The eight bytes behind the code are a number, different in each copy. */

#ifdef __aarch64__          /* macOS has both architectures in one file */
#include "asm_trampoline.h"

/* Write a frame record and point to it. */
        .macro enter_frame
        stp     x29, x30, [sp, -16]!
        .cfi_def_cfa_offset 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        mov     x29, sp
        .cfi_def_cfa_register x29
        .endm

        function _PyPerfTrampoline_Code
        hint    34                      /* bti c */
        enter_frame
        blr     x3
1:
        ldp     x29, x30, [sp], 16
        .cfi_def_cfa sp, 0
        .cfi_restore x29
        .cfi_restore x30
        ret
        .balign 8
        .quad   0
2:
        end_function _PyPerfTrampoline_Code

        constants_of_code

        function _PyPerfTrampoline_BodyCFI
        .cfi_def_cfa x29, 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        .quad   0
        end_function _PyPerfTrampoline_BodyCFI

/* The base of the frame records of inlined calls (pycore_perf_record.h):

       PyObject *_PyPerf_EnterEvalLoop(tstate, frame, throwflag, returns_to)

   It calls _PyEval_EvalFrameDefault() with its first three arguments.  Meanwhile its
   frame holds, from high to low addresses: its own frame record; its return address,
   signed; the record of the function that the eval loop is entered for, which
   returns to the fourth argument; room for 32 more.  The eval loop gets that record
   as the frame pointer of its caller.  The rule for unwinding holds for both: the
   frame pointer is two words below the canonical frame address, first of the base,
   then of the record. */

/* Leave the frame whose own record x29 points to.  The return address is signed. */
        .macro leave_frame_of_entry
        sub     sp, x29, 16
        ldr     x30, [sp]
        hint    29                      /* autiasp */
        ldr     x29, [sp, 16]
        .cfi_def_cfa sp, 32
        .cfi_restore x29
        .cfi_restore x30
        add     sp, sp, 32
        .cfi_def_cfa_offset 0
        ret
        .endm

        function _PyPerf_EnterEvalLoop
        hint    34                      /* bti c */
        enter_frame
        sub     sp, sp, 16
        hint    25                      /* paciasp */
        str     x30, [sp]
        stp     x29, x3, [sp, -16]!
        mov     x29, sp
        sub     sp, sp, 32 * 16
        bl      SYMBOL(_PyEval_EvalFrameDefault_perf)
1:
        add     x29, x29, 32            /* not below the stack pointer at any time */
        leave_frame_of_entry
        end_function _PyPerf_EnterEvalLoop

        address _PyPerf_EnterEvalLoopReturn, 1b

/* The same with several records (pycore_perf_asm.h):

       PyObject *_PyPerf_EnterEvalLoopWithCallers(tstate, frame, throwflag,
                                                  returns_to, count)

   The records do not lie at multiples of 16, as the end of the frame does.  So they
   never reach its last word, which holds the address of the function's own record. */

        function _PyPerf_EnterEvalLoopWithCallers
        hint    34                      /* bti c */
        enter_frame
        sub     sp, sp, 16
        hint    25                      /* paciasp */
        str     x30, [sp]
        mov     x9, x29
        sub     x10, sp, 8
        sub     sp, sp, x4, uxtx 4
        sub     sp, sp, 32 * 16 + 16
1:
        ldr     x11, [x3], 8
        stp     x29, x11, [x10, -16]!
        mov     x29, x10
        subs    x4, x4, 1
        b.ne    1b
        str     x9, [sp]
        bl      SYMBOL(_PyEval_EvalFrameDefault_perf)
        ldr     x29, [sp]
        leave_frame_of_entry
        end_function _PyPerf_EnterEvalLoopWithCallers

/* GNU_PROPERTY_AARCH64_FEATURE_1_AND = BTI | PAC (ELF for the Arm 64-bit
   Architecture, section 6.2.1). */
        feature_note 0xc0000000, 3
#endif
