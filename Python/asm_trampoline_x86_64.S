/* The trampoline for x86-64: what stands in each slot of an arena.

       PyObject *trampoline(tstate, frame, throwflag, evaluator)

   It calls the function that its fourth argument is (rcx; System V ABI for
   AMD64, section 3.2.3) with the arguments it was called with, and returns what
   that returns.  While the call lasts there is a frame record on the stack whose
   return address lies in this copy: the name of a Python function, to all who
   read stacks.  In fact nobody calls it: what stands on the stack is written there by
   the base below and by the eval loop, and is what a call would have left.

   - Position-independent: it is copied.
   - endbr64 and the property note below keep the whole image fit for CET.
   - The .cfi directives are the only source of unwind information; jitdump
     mode finds in .eh_frame what the assembler makes of them.
   - The eight bytes behind the code are a number, different in each copy. */

        .text
        .globl  _PyPerfTrampoline_Code
        .hidden _PyPerfTrampoline_Code
        .type   _PyPerfTrampoline_Code, @function
        .balign 16
_PyPerfTrampoline_Code:
        .cfi_startproc
        endbr64
        pushq   %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        callq   *%rcx
.Lreturn:
        popq    %rbp
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        retq
        .balign 8, 0xcc
        .quad   0
.Lend:
        .cfi_endproc
        .size   _PyPerfTrampoline_Code, .Lend - _PyPerfTrampoline_Code

/* Not code: what the .cfi directives say here holds in a trampoline, and for all
   that records return into, behind the call.  perf_unwind.c makes from it what
   describes a whole arena to unwinders in this process. */

        .globl  _PyPerfTrampoline_Inside
        .hidden _PyPerfTrampoline_Inside
        .type   _PyPerfTrampoline_Inside, @function
        .balign 16
_PyPerfTrampoline_Inside:
        .cfi_startproc
        .cfi_def_cfa %rbp, 16
        .cfi_offset %rbp, -16
        .quad   0xcccccccccccccccc
        .cfi_endproc
        .size   _PyPerfTrampoline_Inside, 8

/* The base of the frame records of inlined calls (pycore_perf_record.h):

       PyObject *_PyPerfRecord_Base(tstate, frame, throwflag, returns_to)

   It calls _PyEval_EvalFrameDefault() with its first three arguments.  Meanwhile its
   frame holds, from high to low addresses: its own frame record; the record of the
   function that the eval loop is entered for, which returns to the fourth
   argument; room for 32 more.  The eval loop gets that record as the frame pointer
   of its caller.  The rule for unwinding holds for both: the frame pointer is two
   words below the canonical frame address, first of the base, then of the record. */

        .text
        .globl  _PyPerfRecord_Base
        .hidden _PyPerfRecord_Base
        .type   _PyPerfRecord_Base, @function
        .balign 16
_PyPerfRecord_Base:
        .cfi_startproc
        endbr64
        pushq   %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        pushq   %rcx
        pushq   %rbp
        movq    %rsp, %rbp
        subq    $32 * 16, %rsp
        callq   _PyEval_EvalFrameDefault@PLT
.Lbase_return:
        addq    $16, %rbp       /* not below the stack pointer at any time */
        leaveq
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        retq
        .cfi_endproc
        .size   _PyPerfRecord_Base, . - _PyPerfRecord_Base

        .section .data.rel.ro, "aw"
        .globl  _PyPerfRecord_BaseReturn
        .hidden _PyPerfRecord_BaseReturn
        .type   _PyPerfRecord_BaseReturn, @object
        .balign 8
_PyPerfRecord_BaseReturn:
        .quad   .Lbase_return
        .size   _PyPerfRecord_BaseReturn, 8

/* size_t: the assembler's own counts, out of reach of linkers that move code. */
        .section .rodata
        .globl  _PyPerfTrampoline_CodeSize
        .hidden _PyPerfTrampoline_CodeSize
        .type   _PyPerfTrampoline_CodeSize, @object
        .balign 8
_PyPerfTrampoline_CodeSize:
        .quad   .Lend - _PyPerfTrampoline_Code
        .size   _PyPerfTrampoline_CodeSize, 8

        .globl  _PyPerfTrampoline_ReturnOffset
        .hidden _PyPerfTrampoline_ReturnOffset
        .type   _PyPerfTrampoline_ReturnOffset, @object
_PyPerfTrampoline_ReturnOffset:
        .quad   .Lreturn - _PyPerfTrampoline_Code
        .size   _PyPerfTrampoline_ReturnOffset, 8

        .section .note.GNU-stack, "", @progbits

/* NT_GNU_PROPERTY_TYPE_0 (System V ABI for AMD64, section "GNU property"):
   x86 feature 1 AND = IBT and SHSTK. */
        .section .note.gnu.property, "a", @note
        .balign 8
        .long   4               /* size of the name */
        .long   16              /* size of the description */
        .long   5               /* NT_GNU_PROPERTY_TYPE_0 */
        .asciz  "GNU"
        .long   0xc0000002      /* GNU_PROPERTY_X86_FEATURE_1_AND */
        .long   4
        .long   3               /* IBT | SHSTK */
        .long   0
