/* How to get out of a trampoline, told to gdb.

   gdb unwinds by the .eh_frame sections of the files that a process has mapped.
   Trampolines are in no file.  gdb would take them for functions without a frame,
   and a backtrace would end, or go astray, at the first one.

   So there is an object file in memory for each arena, of the form in which just
   in time compilers give theirs to gdb (gdb manual, "JIT Compilation Interface"):

       ELF header
       section headers
         .text          where the arena's code lies; no contents, gdb has the process
         .eh_frame      where it stands in the arena, and a copy of it
         .symtab        one function as large as all of the code
         .strtab        names of symbols and sections
       the contents of the last three

   The files hang in a list at __jit_debug_descriptor, which gdb finds by its name
   when it attaches to the process or opens its core file.  A gdb that is there
   already stops the process for a moment in __jit_debug_register_code(), finds
   out what is new, and lets it go on.  When there is no gdb nobody reads any of
   it, and all it costs is half a kilobyte and a few hundred instructions an arena.

   In a backtrace each call of a Python function has a frame `py::*` in an arena.
   Which functions they are, py-bt tells.  The unwind information holds behind the
   call (perf_unwind.c), and nobody is ever anywhere else in a trampoline.

   Both names are the interface's.  Others in the process, LLVM for one, have them
   as well, and gdb looks into each file that is mapped.  Hidden: we must not meet
   theirs, nor they ours.  Weak: a program may be linked from both.

   Format: System V ABI, chapter 4, "Object Files".  */

#include "Python.h"
#include "pycore_perf_gdb.h"
#include <elf.h>

// --- The interface ---------------------------------------------------------

/* As the gdb manual has them. */
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
    uint32_t action_flag;               // what is being told: JIT_...
    struct jit_code_entry *relevant_entry;  // of what
    struct jit_code_entry *first_entry;     // the newest one
};

/* gdb looks for them by their names and the program never reads them: compilers
   must not take them for useless. */
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

/* Names are said by where they begin in this table. */
static const struct strings {
    char none[1];
    char text[sizeof(".text")];
    char eh_frame[sizeof(".eh_frame")];
    char symtab[sizeof(".symtab")];
    char strtab[sizeof(".strtab")];
    char function[sizeof("py::*")];
} strings = {"", ".text", ".eh_frame", ".symtab", ".strtab", "py::*"};

#define NAME(FIELD) offsetof(struct strings, FIELD)

/* Indexes of section headers and symbols.  The first of each must be empty. */
enum {NO_SECTION, TEXT, EH_FRAME, SYMTAB, STRTAB, SECTIONS};
enum {NO_SYMBOL, FUNCTION, SYMBOLS};

struct file {
    Elf64_Ehdr header;
    Elf64_Shdr sections[SECTIONS];
    Elf64_Sym symbols[SYMBOLS];
    struct strings strings;
    char unwind[];
};

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
                .sh_info = NO_SYMBOL + 1,       // the local ones end here
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


// --- What others use -------------------------------------------------------

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
