/* The trampoline for aarch64: the code of each slot in an arena.

       PyObject *trampoline(tstate, frame, throwflag, evaluator)

   It calls its fourth argument (x3; AAPCS64, section 6.8.2) with all of its
   arguments, and returns what that function returns.

   Normally the trampoline is not called.  _PyPerf_EnterEvalLoop below and the eval
   loop write what such a call would leave on the stack: a frame record (AAPCS64,
   section 6.4.6) whose return address is in this copy.  In each tool that reads
   stacks, that address has the name of a Python function.

   - The code is copied, so it is position-independent.
   - Because of `bti c` and the property note below, the linker can mark the whole
     image as ready for BTI.
   - Return addresses in frame records are not signed (PAC).  The eval loop cannot
     sign those that it writes, and one rule of unwinding must hold for all of them.
     The address by which _PyPerf_EnterEvalLoop returns is signed.
   - The .cfi directives are the only source of unwind information.  Jitdump mode finds
     in .eh_frame what the assembler makes of them.
   - The last eight bytes are not code.  They hold a number that differs in each
     copy. */

#ifdef __aarch64__          /* macOS has both architectures in one file */
#include "asm_trampoline.h"

/* Write a frame record and make the frame pointer refer to it. */
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

/* Enter the eval loop, with room for frame records (pycore_perf_record.h):

       PyObject *_PyPerf_EnterEvalLoop(tstate, frame, throwflag, slot, addresses)

   It calls the second eval loop with its first three arguments.
   _PyPerf_EnterEvalLoopWithLines() calls the one that stores lines.  During the call
   its frame holds, from high to low addresses:

   - its own frame record
   - a record for the function that the eval loop runs first, with addresses[slot] as
     the return address
   - room for 32 more records; _PyPerf_EnterBareEvalLoop() has none
   - 16 bytes that records never reach, with the return address of this function, signed

   The eval loop gets that record as the frame pointer of its caller.  It may unlink it.
   Then the next record is that of this function, because they are adjacent.
   One rule of unwinding holds throughout: the frame pointer is two words below the
   canonical frame address, of this function or of the record. */

/* Leave the frame whose own record x29 points to.  x30 is the return address, signed
   when that record was the end of the stack. */
        .macro leave_frame_of_entry
        mov     sp, x29
        hint    29                      /* autiasp */
        ldr     x29, [sp]
        .cfi_def_cfa sp, 16
        .cfi_restore x29
        .cfi_restore x30
        add     sp, sp, 16
        .cfi_def_cfa_offset 0
        ret
        .endm

        .macro enter_eval_loop room, loop
        hint    34                      /* bti c */
        enter_frame
        hint    25                      /* paciasp */
        ldr     x3, [x4, x3, lsl 3]
        stp     x29, x3, [sp, -16]!
        mov     x29, sp
        sub     sp, sp, \room * 16 + 16
        str     x30, [sp]
        bl      SYMBOL(\loop)
1:
        ldr     x30, [sp]
        add     x29, sp, (\room + 2) * 16
        leave_frame_of_entry
        .endm

        function _PyPerf_EnterBareEvalLoop
        enter_eval_loop 0, __PyPerf_EvalLoopWithLines
        end_function _PyPerf_EnterBareEvalLoop

        function _PyPerf_EnterEvalLoopWithLines
        enter_eval_loop 32, __PyPerf_EvalLoopWithLines
        end_function _PyPerf_EnterEvalLoopWithLines

        function _PyPerf_EnterEvalLoop
        enter_eval_loop 32, __PyPerf_EvalLoop
        end_function _PyPerf_EnterEvalLoop

        address _PyPerf_EnterEvalLoopReturn, 1b

/* The same with several records (pycore_perf_asm.h):

       PyObject *_PyPerf_EnterEvalLoopWithCallers(tstate, frame, throwflag,
                                                  returns_to, count)

   The last 16 bytes of the frame hold the address of the function's own record, too. */

        .macro enter_eval_loop_with_callers loop
        hint    34                      /* bti c */
        enter_frame
        hint    25                      /* paciasp */
        mov     x9, x29
        mov     x10, sp
        sub     sp, sp, x4, uxtx 4
        sub     sp, sp, 32 * 16 + 16
1:
        ldr     x11, [x3], 8
        stp     x29, x11, [x10, -16]!
        mov     x29, x10
        subs    x4, x4, 1
        b.ne    1b
        stp     x9, x30, [sp]
        bl      SYMBOL(\loop)
        ldp     x29, x30, [sp]
        leave_frame_of_entry
        .endm

        function _PyPerf_EnterEvalLoopWithCallers
        enter_eval_loop_with_callers __PyPerf_EvalLoop
        end_function _PyPerf_EnterEvalLoopWithCallers

        function _PyPerf_EnterEvalLoopWithLinesAndCallers
        enter_eval_loop_with_callers __PyPerf_EvalLoopWithLines
        end_function _PyPerf_EnterEvalLoopWithLinesAndCallers

/* Return to a function further out (pycore_perf_arch.h):

       void _PyPerf_ReturnTo(result, registers)

   The return address is not signed: libgcc's unwinder has checked it. */

        function _PyPerf_ReturnTo
        hint    34                      /* bti c */
        ldp     x19, x20, [x1]
        ldp     x21, x22, [x1, 16]
        ldp     x23, x24, [x1, 32]
        ldp     x25, x26, [x1, 48]
        ldp     x27, x28, [x1, 64]
        ldp     d8, d9, [x1, 88]
        ldp     d10, d11, [x1, 104]
        ldp     d12, d13, [x1, 120]
        ldp     d14, d15, [x1, 136]
        ldr     x29, [x1, 80]
        ldp     x9, x30, [x1, 152]
        mov     sp, x9
        ret
        end_function _PyPerf_ReturnTo

/* GNU_PROPERTY_AARCH64_FEATURE_1_AND = BTI | PAC (ELF for the Arm 64-bit
   Architecture, section 6.2.1). */
        feature_note 0xc0000000, 3
#endif
