/* Macros for asm_trampoline_*.S: how symbols, functions and constants are declared
   for ELF and for Mach-O.

   These files have no separators between statements and only comments of C, because
   assemblers differ in both.  Labels within a file are numbers.  SYMBOL() gives the
   name of a symbol of another file. */

#ifdef __APPLE__
#  define SYMBOL(NAME) _##NAME

/* function NAME: begin a function that is visible in the interpreter only. */
        .macro function name
        .text
        .globl  _\name
        .private_extern _\name
        .p2align 4
_\name:
        .cfi_startproc
        .endm

        .macro end_function name
        .cfi_endproc
        .endm

/* constant NAME VALUE: eight bytes.  address NAME VALUE: the same for a value that is
   known only when the interpreter is loaded. */
        .macro constant name, value
        .section __TEXT,__const
        .globl  _\name
        .private_extern _\name
        .p2align 3
_\name:
        .quad   \value
        .endm

        .macro address name, value
        .section __DATA,__const
        .globl  _\name
        .private_extern _\name
        .p2align 3
_\name:
        .quad   \value
        .endm

        .macro feature_note type, features
        .endm

#else
#  define SYMBOL(NAME) NAME

        .macro function name
        .text
        .globl  \name
        .hidden \name
        .type   \name, %function
        .p2align 4
\name:
        .cfi_startproc
        .endm

        .macro end_function name
        .cfi_endproc
        .size   \name, . - \name
        .endm

        .macro object name, value
        .globl  \name
        .hidden \name
        .type   \name, %object
        .p2align 3
\name:
        .quad   \value
        .size   \name, 8
        .endm

        .macro constant name, value
        .section .rodata
        object  \name, \value
        .endm

        .macro address name, value
        .section .data.rel.ro, "aw"
        object  \name, \value
        .endm

/* feature_note TYPE FEATURES: the property of the architecture that lists the features
   that all code of this file supports (NT_GNU_PROPERTY_TYPE_0; "Linux Extensions to
   gABI", section "Program Property"). */
        .macro feature_note type, features
        .section .note.gnu.property, "a", %note
        .p2align 3
        .long   4               /* size of the name */
        .long   16              /* size of the description */
        .long   5               /* NT_GNU_PROPERTY_TYPE_0 */
        .asciz  "GNU"
        .long   \type
        .long   4
        .long   \features
        .long   0
        .endm

/* No code of this file needs an executable stack. */
        .section .note.GNU-stack, "", %progbits
#endif

/* The constants of _PyPerfTrampoline_Code.  Its label 1 is after the call, its label 2
   at the end. */
        .macro constants_of_code
        constant _PyPerfTrampoline_ReturnOffset, 1b-SYMBOL(_PyPerfTrampoline_Code)
        constant _PyPerfTrampoline_CodeSize, 2b-SYMBOL(_PyPerfTrampoline_Code)
        .endm

/* After the trampoline each file defines _PyPerfTrampoline_BodyCFI, which is not code.
   Its .cfi directives hold in a trampoline after the call, the only place that records
   return to.  perf_unwind.c makes from them the unwind information of a whole arena,
   for unwinders in this process. */
