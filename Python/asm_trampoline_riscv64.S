/* The trampoline for riscv64: what stands in each slot of an arena.

       PyObject *trampoline(tstate, frame, throwflag, evaluator)

   It calls the function that its fourth argument is (a3; RISC-V ELF psABI, section
   "Integer Calling Convention") with the arguments it was called with, and returns
   what that returns.  While the call lasts there is a frame record on the stack
   (psABI, section "Frame Pointer Convention": the frame pointer points behind it)
   whose return address lies in this copy: the name of a Python function, to all who
   read stacks.  In fact nobody calls it: what stands on the stack is written there by
   the base below and by the eval loop, and is what a call would have left.

   - Position-independent: it is copied.  The linker must not shorten it.
   - The .cfi directives are the only source of unwind information; jitdump
     mode finds in .eh_frame what the assembler makes of them.
   - The eight bytes behind the code are a number, different in each copy. */

#include "asm_trampoline.h"

        .option norelax

/* Write a frame record and point to it. */
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

/* Take it back and return. */
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

/* The base of the frame records of inlined calls (pycore_perf_record.h):

       PyObject *_PyPerf_EnterEvalLoop(tstate, frame, throwflag, returns_to)

   It calls _PyEval_EvalFrameDefault() with its first three arguments.  Meanwhile its
   frame holds, from high to low addresses: its own frame record; the record of the
   function that the eval loop is entered for, which returns to the fourth
   argument; room for 32 more.  The eval loop gets the end of that record as the frame
   pointer of its caller.  The rule for unwinding holds for both: the frame pointer is
   the canonical frame address, first of the base, then of the record. */

        function _PyPerf_EnterEvalLoop
        enter_frame
        addi    sp, sp, -16
        sd      a3, 8(sp)
        sd      s0, 0(sp)
        addi    s0, sp, 16
        addi    sp, sp, -32 * 16
        call    SYMBOL(_PyEval_EvalFrameDefault_perf)
1:
        addi    s0, s0, 16              /* not below the stack pointer at any time */
        addi    sp, s0, -16
        leave_frame
        end_function _PyPerf_EnterEvalLoop

        address _PyPerf_EnterEvalLoopReturn, 1b

/* The same with several records (pycore_perf_asm.h):

       PyObject *_PyPerf_EnterEvalLoopWithCallers(tstate, frame, throwflag,
                                                  returns_to, count)

   The records do not lie at multiples of 16, as the end of the frame does.  So they
   never reach its last word, which holds the frame pointer of the function itself. */

        function _PyPerf_EnterEvalLoopWithCallers
        enter_frame
        mv      t0, s0
        addi    t1, sp, -8
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
        call    SYMBOL(_PyEval_EvalFrameDefault_perf)
        ld      s0, 0(sp)
        addi    sp, s0, -16
        leave_frame
        end_function _PyPerf_EnterEvalLoopWithCallers
