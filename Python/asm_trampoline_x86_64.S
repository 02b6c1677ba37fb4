/* The trampoline for x86-64: the code of each slot in an arena.

       PyObject *trampoline(tstate, frame, throwflag, evaluator)

   It calls its fourth argument (rcx; System V ABI for AMD64, section 3.2.3) with all
   of its arguments, and returns what that function returns.

   Normally the trampoline is not called.  _PyPerf_EnterEvalLoop below and the eval
   loop write what such a call would leave on the stack: a frame record whose return
   address is in this copy.  In each tool that reads stacks, that address has the name
   of a Python function.

   - The code is copied, so it is position-independent.
   - Because of endbr64 and the property note below, the linker can mark the whole
     image as ready for CET.
   - The .cfi directives are the only source of unwind information.  Jitdump mode finds
     in .eh_frame what the assembler makes of them.
   - The last eight bytes are not code.  They hold a number that differs in each
     copy. */

#ifdef __x86_64__          /* macOS has both architectures in one file */
#include "asm_trampoline.h"

/* Write a frame record and make the frame pointer refer to it. */
        .macro enter_frame
        pushq   %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        .endm

        function _PyPerfTrampoline_Code
        endbr64
        enter_frame
        callq   *%rcx
1:
        popq    %rbp
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        retq
        .balign 8, 0xcc
        .quad   0
2:
        end_function _PyPerfTrampoline_Code

        constants_of_code

        function _PyPerfTrampoline_BodyCFI
        .cfi_def_cfa %rbp, 16
        .cfi_offset %rbp, -16
        .quad   0xcccccccccccccccc
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

   The eval loop gets that record as the frame pointer of its caller.  It may unlink it.
   Then the next record is that of this function, because they are adjacent.
   One rule of unwinding holds throughout: the frame pointer is two words below the
   canonical frame address, of this function or of the record. */

        .macro enter_eval_loop room, loop
        endbr64
        enter_frame
        pushq   (%r8, %rcx, 8)
        pushq   %rbp
        movq    %rsp, %rbp
        subq    $\room * 16 + 16, %rsp
        callq   SYMBOL(\loop)
1:
        leaq    (\room + 2) * 16(%rsp), %rbp
        leaveq
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        retq
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

   The last word of the frame holds the address of the function's own record. */

        .macro enter_eval_loop_with_callers loop
        endbr64
        enter_frame
        movq    %rbp, %r9
1:
        pushq   (%rcx)
        pushq   %rbp
        movq    %rsp, %rbp
        addq    $8, %rcx
        decq    %r8
        jnz     1b
        subq    $32 * 16 + 8, %rsp
        pushq   %r9
        callq   SYMBOL(\loop)
        movq    (%rsp), %rbp
        leaveq
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        retq
        .endm

        function _PyPerf_EnterEvalLoopWithCallers
        enter_eval_loop_with_callers __PyPerf_EvalLoop
        end_function _PyPerf_EnterEvalLoopWithCallers

        function _PyPerf_EnterEvalLoopWithLinesAndCallers
        enter_eval_loop_with_callers __PyPerf_EvalLoopWithLines
        end_function _PyPerf_EnterEvalLoopWithLinesAndCallers

/* Return to a function further out (pycore_perf_arch.h):

       void _PyPerf_ReturnTo(result, registers)  */

        function _PyPerf_ReturnTo
        endbr64
        movq    %rdi, %rax
        movq    (%rsi), %rbx
        movq    8(%rsi), %rbp
        movq    16(%rsi), %r12
        movq    24(%rsi), %r13
        movq    32(%rsi), %r14
        movq    40(%rsi), %r15
        movq    56(%rsi), %rcx
        movq    48(%rsi), %rsp
        pushq   %rcx
        retq
        end_function _PyPerf_ReturnTo

/* GNU_PROPERTY_X86_FEATURE_1_AND = IBT | SHSTK (System V ABI for AMD64, section
   "Program Property"). */
        feature_note 0xc0000002, 3
#endif
