/* Unwind information for gdb.

   gdb unwinds by the .eh_frame sections of the files that a process has mapped.
   Trampolines are in no file.  Without help gdb would take them for functions that
   have no frame, and a backtrace would end at the first one or show wrong callers.

   So for each arena there is an object file in memory.  It has the form in which JIT
   compilers hand theirs to gdb (gdb manual, "JIT Compilation Interface"):

       ELF header
       section headers
         .text          address of the arena's code; no contents, because gdb reads
                        the process
         .eh_frame      its address in the arena, and a copy of it
         .symtab        one function that covers all of the code
         .strtab        names of symbols and sections
       the contents of the last three

   The files are in a list at __jit_debug_descriptor.  gdb finds that symbol by its
   name when it attaches to the process or opens its core file.  If gdb has attached
   already, it has a breakpoint in __jit_debug_register_code().  It reads the new
   entry and lets the process continue.  Without gdb no code reads any of this.  Then
   the cost is half a kilobyte and a few hundred instructions for each arena.

   In a backtrace each call of a Python function has a frame `py::*` in an arena.
   py-bt names the functions.  The unwind information is valid after the call in a
   trampoline (perf_unwind.c).  A thread is at one of the few other instructions only
   while CallFrame calls the trampoline (perf_evaluator.c).

   The interface prescribes both names.  Other libraries in the process, LLVM for
   example, have the same ones, and gdb searches each mapped file for them.  They are
   hidden, so that ours and theirs are not merged by the dynamic linker.  They are weak,
   so that a program can be linked statically from both.

   Format: System V ABI, chapter 4, "Object Files".  */

#include "Python.h"
#include "pycore_perf_gdb.h"
#include <elf.h>


// --- The interface ---------------------------------------------------------

/* Types and numbers as in the gdb manual. */
enum {
    JIT_NOACTION = 0,
    JIT_REGISTER_FN = 1,
};

struct jit_code_entry {
    struct jit_code_entry *next_entry;
    struct jit_code_entry *prev_entry;
    const char *symfile_addr;           // a file in memory
    uint64_t symfile_size;              // bytes
};

struct jit_descriptor {
    uint32_t version;                   // 1
    uint32_t action_flag;               // JIT_...
    struct jit_code_entry *relevant_entry;  // the one that the action is about
    struct jit_code_entry *first_entry;     // the newest
};

/* The program never reads these symbols, so compilers must be kept from removing
   them. */
#define FOR_GDB __attribute__((used, weak, visibility("hidden")))

extern struct jit_descriptor __jit_debug_descriptor;
extern void __jit_debug_register_code(void);

FOR_GDB struct jit_descriptor __jit_debug_descriptor = {.version = 1};

/* gdb sets a breakpoint here. */
FOR_GDB Py_NO_INLINE void
__jit_debug_register_code(void)
{
    __asm__ volatile ("" ::: "memory");
}

/* Put the entry at the head of the list and let gdb read it. */
static void
entry_register(struct jit_code_entry *entry)
{
    struct jit_descriptor *descriptor = &__jit_debug_descriptor;
    entry->prev_entry = NULL;
    entry->next_entry = descriptor->first_entry;
    if (entry->next_entry != NULL) {
        entry->next_entry->prev_entry = entry;
    }
    descriptor->first_entry = entry;
    descriptor->relevant_entry = entry;
    descriptor->action_flag = JIT_REGISTER_FN;
    __jit_debug_register_code();
    descriptor->action_flag = JIT_NOACTION;
    descriptor->relevant_entry = NULL;
}


// --- The file --------------------------------------------------------------

/* A name is given by its offset in this table. */
static const struct strings {
    char none[1];
    char text[sizeof(".text")];
    char eh_frame[sizeof(".eh_frame")];
    char symtab[sizeof(".symtab")];
    char strtab[sizeof(".strtab")];
    char function[sizeof("py::*")];
} strings = {"", ".text", ".eh_frame", ".symtab", ".strtab", "py::*"};

#define NAME(FIELD) offsetof(struct strings, FIELD)

/* Indexes of section headers and symbols.  The format requires an empty one at 0. */
enum {NO_SECTION, TEXT, EH_FRAME, SYMTAB, STRTAB, SECTIONS};
enum {NO_SYMBOL, FUNCTION, SYMBOLS};

struct file {
    Elf64_Ehdr header;
    Elf64_Shdr sections[SECTIONS];
    Elf64_Sym symbols[SYMBOLS];
    struct strings strings;
    char unwind[];
};

/* Make *file the object file of an arena. */
static void
file_fill(struct file *file, uint16_t machine, const char *code, size_t size,
          const char *unwind, size_t unwind_size)
{
    *file = (struct file){
        .header = {
            .e_ident = {
                ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3,
                ELFCLASS64, PY_BIG_ENDIAN ? ELFDATA2MSB : ELFDATA2LSB,
                EV_CURRENT, ELFOSABI_NONE,
            },
            .e_type = ET_REL,
            .e_machine = machine,
            .e_version = EV_CURRENT,
            .e_ehsize = sizeof(Elf64_Ehdr),
            .e_shoff = offsetof(struct file, sections),
            .e_shentsize = sizeof(Elf64_Shdr),
            .e_shnum = SECTIONS,
            .e_shstrndx = STRTAB,
        },
        .sections = {
            [TEXT] = {
                .sh_name = NAME(text),
                .sh_type = SHT_NOBITS,
                .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                .sh_addr = (uintptr_t)code,
                .sh_size = size,
                .sh_addralign = 1,
            },
            [EH_FRAME] = {
                .sh_name = NAME(eh_frame),
                .sh_type = SHT_PROGBITS,
                .sh_flags = SHF_ALLOC,
                .sh_addr = (uintptr_t)unwind,
                .sh_offset = offsetof(struct file, unwind),
                .sh_size = unwind_size,
                .sh_addralign = 1,
            },
            [SYMTAB] = {
                .sh_name = NAME(symtab),
                .sh_type = SHT_SYMTAB,
                .sh_offset = offsetof(struct file, symbols),
                .sh_size = sizeof(file->symbols),
                .sh_link = STRTAB,
                .sh_info = NO_SYMBOL + 1,       // the first that is not local
                .sh_addralign = _Alignof(Elf64_Sym),
                .sh_entsize = sizeof(Elf64_Sym),
            },
            [STRTAB] = {
                .sh_name = NAME(strtab),
                .sh_type = SHT_STRTAB,
                .sh_offset = offsetof(struct file, strings),
                .sh_size = sizeof(file->strings),
                .sh_addralign = 1,
            },
        },
        .symbols = {
            [FUNCTION] = {
                .st_name = NAME(function),
                .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
                .st_shndx = TEXT,
                .st_value = 0,                  // from the start of .text
                .st_size = size,
            },
        },
        .strings = strings,
    };
    memcpy(file->unwind, unwind, unwind_size);
}


// --- The interface to the arena --------------------------------------------

void
_PyPerfGdb_Register(uint16_t machine, const char *code, size_t size,
                    const char *unwind, size_t unwind_size)
{
    struct jit_code_entry *entry = PyMem_RawMalloc(
        sizeof(*entry) + sizeof(struct file) + unwind_size);
    if (entry == NULL) {
        return;
    }
    struct file *file = (struct file *)(entry + 1);
    file_fill(file, machine, code, size, unwind, unwind_size);
    entry->symfile_addr = (const char *)file;
    entry->symfile_size = sizeof(*file) + unwind_size;
    entry_register(entry);
}
