/* The trampoline for riscv64: the code of each slot in an arena.

       PyObject *trampoline(tstate, frame, throwflag, evaluator)

   It calls its fourth argument (a3; RISC-V ELF psABI, section "Integer Calling
   Convention") with all of its arguments, and returns what that function returns.

   Normally the trampoline is not called.  _PyPerf_EnterEvalLoop below and the eval
   loop write what such a call would leave on the stack: a frame record (psABI,
   section "Frame Pointer Convention": the frame pointer points to its end) whose
   return address is in this copy.  In each tool that reads stacks, that address has
   the name of a Python function.

   - The code is copied, so it is position-independent, and the linker must not
     shorten it.
   - The .cfi directives are the only source of unwind information.  Jitdump mode finds
     in .eh_frame what the assembler makes of them.
   - The last eight bytes are not code.  They hold a number that differs in each
     copy. */

#include "asm_trampoline.h"

        .option norelax

/* Write a frame record and make the frame pointer refer to it. */
        .macro enter_frame
        addi    sp, sp, -16
        .cfi_def_cfa_offset 16
        sd      ra, 8(sp)
        .cfi_offset ra, -8
        sd      s0, 0(sp)
        .cfi_offset s0, -16
        addi    s0, sp, 16
        .cfi_def_cfa s0, 0
        .endm

/* Restore the registers from the frame record and return. */
        .macro leave_frame
        ld      ra, 8(sp)
        ld      s0, 0(sp)
        .cfi_def_cfa sp, 16
        .cfi_restore ra
        .cfi_restore s0
        addi    sp, sp, 16
        .cfi_def_cfa_offset 0
        ret
        .endm

        function _PyPerfTrampoline_Code
        enter_frame
        jalr    a3
1:
        leave_frame
        .p2align 3
        .quad   0
2:
        end_function _PyPerfTrampoline_Code

        constants_of_code

        function _PyPerfTrampoline_BodyCFI
        .cfi_def_cfa s0, 0
        .cfi_offset s0, -16
        .cfi_offset ra, -8
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
   - 16 bytes that records never reach

   The eval loop gets the end of that record as the frame pointer of its caller.  It may
   unlink it.  Then the next record is that of this function, because they are adjacent.
   One rule of unwinding holds throughout: the frame pointer is the
   canonical frame address, of this function or of the record. */

        .macro enter_eval_loop room, loop
        enter_frame
        slli    a3, a3, 3
        add     a3, a3, a4
        ld      a3, 0(a3)
        addi    sp, sp, -16
        sd      a3, 8(sp)
        sd      s0, 0(sp)
        addi    s0, sp, 16
        addi    sp, sp, -\room * 16 - 16
        call    SYMBOL(\loop)
1:
        addi    s0, sp, (\room + 3) * 16
        addi    sp, s0, -16
        leave_frame
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

   The last word of the frame holds the frame pointer of the function itself. */

        .macro enter_eval_loop_with_callers loop
        enter_frame
        mv      t0, s0
        mv      t1, sp
        slli    t2, a4, 4
        sub     sp, sp, t2
        addi    sp, sp, -32 * 16 - 16
1:
        ld      t3, 0(a3)
        addi    a3, a3, 8
        addi    t1, t1, -16
        sd      s0, 0(t1)
        sd      t3, 8(t1)
        addi    s0, t1, 16
        addi    a4, a4, -1
        bnez    a4, 1b
        sd      t0, 0(sp)
        call    SYMBOL(\loop)
        ld      s0, 0(sp)
        addi    sp, s0, -16
        leave_frame
        .endm

        function _PyPerf_EnterEvalLoopWithCallers
        enter_eval_loop_with_callers __PyPerf_EvalLoop
        end_function _PyPerf_EnterEvalLoopWithCallers

        function _PyPerf_EnterEvalLoopWithLinesAndCallers
        enter_eval_loop_with_callers __PyPerf_EvalLoopWithLines
        end_function _PyPerf_EnterEvalLoopWithLinesAndCallers

#ifdef __riscv_float_abi_double
/* Return to a function further out (pycore_perf_arch.h):

       void _PyPerf_ReturnTo(result, registers)  */

        function _PyPerf_ReturnTo
        ld      s1, 8(a1)
        ld      s2, 16(a1)
        ld      s3, 24(a1)
        ld      s4, 32(a1)
        ld      s5, 40(a1)
        ld      s6, 48(a1)
        ld      s7, 56(a1)
        ld      s8, 64(a1)
        ld      s9, 72(a1)
        ld      s10, 80(a1)
        ld      s11, 88(a1)
        fld     fs0, 96(a1)
        fld     fs1, 104(a1)
        fld     fs2, 112(a1)
        fld     fs3, 120(a1)
        fld     fs4, 128(a1)
        fld     fs5, 136(a1)
        fld     fs6, 144(a1)
        fld     fs7, 152(a1)
        fld     fs8, 160(a1)
        fld     fs9, 168(a1)
        fld     fs10, 176(a1)
        fld     fs11, 184(a1)
        ld      s0, 0(a1)
        ld      ra, 200(a1)
        ld      sp, 192(a1)
        ret
        end_function _PyPerf_ReturnTo
#endif
