/* What the assembly files of all architectures share, for asm_trampoline_*.S: how
   symbols, functions and constants are declared for ELF and for Mach-O.

   Rules for those files: no separators between statements and no comments but
   those of C, for these differ between assemblers; labels within a file are
   numbers; symbols of other files are named with SYMBOL(). */

#ifdef __APPLE__
#  define SYMBOL(NAME) _##NAME

/* function NAME: begin a function that only the interpreter itself sees. */
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

/* constant NAME VALUE: eight bytes.  address: the same for what is known only when
   the interpreter is loaded. */
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

/* feature_note TYPE FEATURES: the property of the architecture that says what all
   code of this file is fit for (NT_GNU_PROPERTY_TYPE_0; "Linux Extensions to
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

/* The constants of _PyPerfTrampoline_Code, whose label 1 stands behind its call and 2
   at its end. */
        .macro constants_of_code
        constant _PyPerfTrampoline_ReturnOffset, 1b-SYMBOL(_PyPerfTrampoline_Code)
        constant _PyPerfTrampoline_CodeSize, 2b-SYMBOL(_PyPerfTrampoline_Code)
        .endm

/* Then comes _PyPerfTrampoline_BodyCFI, which is not code: what its .cfi directives say
   holds in a trampoline, and for all that records return into, behind the call.
   perf_unwind.c makes from it what describes a whole arena to unwinders in this
   process. */
