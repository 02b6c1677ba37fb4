/* The trampoline for x86-64: what stands in each slot of an arena.

       PyObject *trampoline(tstate, frame, throwflag, evaluator)

   It calls the function that its fourth argument is (rcx; System V ABI for
   AMD64, section 3.2.3) with the arguments it was called with, and returns what
   that returns.  While the call lasts there is a frame record on the stack whose
   return address lies in this copy: the name of a Python function, to all who
   read stacks.

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
        popq    %rbp
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        retq
        .balign 8, 0xcc
        .quad   0
.Lend:
        .cfi_endproc
        .size   _PyPerfTrampoline_Code, .Lend - _PyPerfTrampoline_Code

/* size_t: the assembler's own count, out of reach of linkers that move code. */
        .section .rodata
        .globl  _PyPerfTrampoline_CodeSize
        .hidden _PyPerfTrampoline_CodeSize
        .type   _PyPerfTrampoline_CodeSize, @object
        .balign 8
_PyPerfTrampoline_CodeSize:
        .quad   .Lend - _PyPerfTrampoline_Code
        .size   _PyPerfTrampoline_CodeSize, 8

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
