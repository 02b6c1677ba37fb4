/* Unwind information for trampolines, for profilers and for this process.

   For each piece of code a DWARF unwinder needs to know where the caller's registers
   are.  For the trampoline this is written once, as .cfi directives in its .S file.
   From them the assembler makes a CIE (for the whole object file) and an FDE (for the
   trampoline).  The linker puts both into the .eh_frame section of the interpreter:

       .eh_frame_hdr   version, encodings, -> .eh_frame, number of FDEs,
                       a sorted table: start of code -> its FDE
       .eh_frame       CIE ... FDE FDE FDE ... CIE ... FDE ...

   At run time this file finds the FDE of the trampoline there, as a C++ runtime
   would.  From it and its CIE it makes the sections of another image, the one that
   `perf inject` builds around each copy in a jitdump:

       0               the code
       aligned to 8    .eh_frame:      CIE, FDE, an empty entry as the end
       after that      .eh_frame_hdr:  a table with one row

   Only addresses change, and all of them are relative to their own place.  So the
   result is the same for each copy, and nothing in it is written by hand for an
   architecture.  This file checks everything that it finds.  If the unwind
   information is not as expected, the mode does not start.

   Unwinders within this process pass through trampolines too: for C++ exceptions,
   pthread_exit() and backtrace().  Such an unwinder finds in a trampoline only the
   return address after the call, where one rule is valid.  So one FDE with this rule
   describes the whole arena.  It is in the arena's first slot.  gdb gets the same FDE
   (perf_gdb.c).

   The FDE is registered with libgcc at once only if libgcc is loaded, because loading
   it takes time.  Otherwise this is done when the first extension module is loaded or
   when the program calls sys.activate_stack_trampoline().

   Formats: Linux Standard Base 5.0, Core, "Exception Frames"; DWARF 4,
   section 6.4.1.  */

#include "Python.h"
#include "pycore_perf_arch.h"
#include "pycore_perf_asm.h"        // _PyPerfTrampoline_Code
#include "pycore_perf_unwind.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#define UNWINDER "libgcc_s.so.1"

/* Pointer encodings of the LSB: four bytes, signed, relative to ... */
enum {
    ENCODED_UNSIGNED4 = 0x03,           // a plain number
    ENCODED_FROM_HERE = 0x1b,           // ... the field itself
    ENCODED_FROM_HEADER = 0x3b,         // ... the start of .eh_frame_hdr
};

struct header {                         // .eh_frame_hdr
    uint8_t version;                    // 1
    uint8_t eh_frame_encoding;
    uint8_t count_encoding;
    uint8_t table_encoding;
    int32_t eh_frame;
    uint32_t count;
    struct {
        int32_t code;
        int32_t fde;
    } table[];
};
static_assert(sizeof(struct header) == 12, ".eh_frame_hdr as in LSB 5.0");

/* The beginning of a CIE or FDE.  `length` counts the bytes after it. */
struct entry {
    uint32_t length;
    uint32_t id;                        // CIE: 0; FDE: from here back to its CIE
};

struct fde {
    struct entry entry;
    int32_t code;                       // encoded as its CIE says: from here
    uint32_t code_size;
    uint8_t rest[];                     // augmentation data, instructions
};
static_assert(sizeof(struct fde) == 16, "FDE as in LSB 5.0");

/* The running image that contains the trampoline. */
struct image {
    const char *header;                 // .eh_frame_hdr, NULL: none
    const char *start;                  // of the segment that contains it
    const char *end;
    uint16_t machine;
    bool found;
};


// --- The running image -----------------------------------------------------

/* If the trampoline is in this image, fill in *data, a struct image, and return 1 to
   end the search (a callback of dl_iterate_phdr()). */
static int
image_visit(struct dl_phdr_info *info, size_t Py_UNUSED(size), void *data)
{
    struct image *image = data;
    const ElfW(Ehdr) *elf = NULL;
    const char *header = NULL;
    bool ours = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        const char *start = (const char *)(info->dlpi_addr + part->p_vaddr);
        if (part->p_type == PT_GNU_EH_FRAME) {
            header = start;
        }
        if (part->p_type != PT_LOAD) {
            continue;
        }
        if (part->p_offset == 0) {
            elf = (const ElfW(Ehdr) *)start;
        }
        ours |= (_PyPerfTrampoline_Code >= start
                 && _PyPerfTrampoline_Code < start + part->p_memsz);
    }
    if (!ours) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum && header != NULL; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        const char *start = (const char *)(info->dlpi_addr + part->p_vaddr);
        if (part->p_type == PT_LOAD && header >= start
                && header < start + part->p_filesz) {
            image->header = header;
            image->start = start;
            image->end = start + part->p_filesz;
        }
    }
    if (elf != NULL && memcmp(elf->e_ident, ELFMAG, SELFMAG) == 0) {
        image->machine = elf->e_machine;
        image->found = true;
    }
    return 1;
}

/* Return whether the image contains `size` bytes at `p`. */
static bool
image_has(const struct image *image, const void *p, size_t size)
{
    const char *start = p;
    return start >= image->start && start <= image->end
           && size <= (size_t)(image->end - start);
}

/* Return whether the image contains this CIE or FDE to its end. */
static bool
image_has_entry(const struct image *image, const struct entry *entry)
{
    return image_has(image, entry, sizeof(*entry))
           && entry->length >= sizeof(entry->id)
           && image_has(image, &entry->id, entry->length);
}

/* The bytes of a CIE or FDE, with its length field. */
static size_t
entry_size(const struct entry *entry)
{
    return sizeof(entry->length) + entry->length;
}

/* Find the FDE of the code that begins at `code` by binary search in the sorted
   table.  Returns NULL if there is none.  The FDE is not checked. */
static const struct fde *
image_find_fde(const struct image *image, const char *code)
{
    const struct header *header = (const struct header *)image->header;
    if (!image_has(image, header, sizeof(*header))
            || header->version != 1
            || header->count_encoding != ENCODED_UNSIGNED4
            || header->table_encoding != ENCODED_FROM_HEADER
            || !image_has(image, header->table,
                          header->count * sizeof(header->table[0]))) {
        return NULL;
    }
    ptrdiff_t wanted = code - image->header;
    size_t low = 0, high = header->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (header->table[middle].code < wanted) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low == header->count || header->table[low].code != wanted) {
        return NULL;
    }
    return (const struct fde *)(image->header + header->table[low].fde);
}


// --- Checks ----------------------------------------------------------------

/* Return whether *fde describes exactly the `size` bytes at `code`. */
static bool
fde_is_right(const struct image *image, const struct fde *fde, const char *code,
             size_t size)
{
    return image_has_entry(image, &fde->entry)
           && entry_size(&fde->entry) >= sizeof(*fde)
           && (const char *)&fde->code + fde->code == code
           && fde->code_size == size;
}

/* Skip a LEB128 number.  Returns the byte after it, or NULL if it does not end before
   `end`. */
static const uint8_t *
leb128_skip(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p & 0x80)) {
        p++;
    }
    return p < end ? p + 1 : NULL;
}

/* Return whether *cie has the encoding of addresses that we write, and refers to
   nothing outside itself.  Its fields are: version, "z...", two alignments, return
   register, size of the augmentation data, encoding. */
static bool
cie_is_right(const struct image *image, const struct entry *cie)
{
    if (!image_has_entry(image, cie) || cie->id != 0) {
        return false;
    }
    const size_t offset = (size_t)((const char *)cie - image->start);
    const uint8_t *p = (const uint8_t *)image->start + offset + sizeof(*cie);
    const uint8_t *end = (const uint8_t *)image->start + offset + entry_size(cie);
    if (end - p < 4 || (p[0] != 1 && p[0] != 3)) {
        return false;
    }
    const char *augmentation = (const char *)p + 1;
    size_t length = strnlen(augmentation, (size_t)(end - p - 1));
    // R: an encoding follows; B: return addresses are signed with key B.
    if (augmentation[0] != 'z' || augmentation[1] != 'R'
            || strspn(augmentation + 2, "B") != length - 2) {
        return false;
    }
    p += 1 + length + 1;
    for (int number = 0; p != NULL && number < 4; number++) {
        p = leb128_skip(p, end);
    }
    return p != NULL && p < end && *p == ENCODED_FROM_HERE;
}


// --- The image that perf builds --------------------------------------------

/* The distance from the field `from` of *unwind to the address `to`, in perf's image,
   where .eh_frame is at `eh_frame`. */
static int32_t
image_distance(const struct _PyPerfUnwind *unwind, size_t eh_frame,
               const void *from, size_t to)
{
    size_t here = eh_frame + (size_t)((const char *)from - unwind->data);
    return (int32_t)((intptr_t)to - (intptr_t)here);
}

void
_PyPerfUnwind_SetCodeSize(struct _PyPerfUnwind *unwind, size_t size)
{
    // Addresses in perf's image, where the code is at 0.
    const size_t eh_frame = (size + 7) / 8 * 8;
    struct fde *fde = (struct fde *)(unwind->data + unwind->fde_offset);
    struct header *header = (struct header *)(unwind->data + unwind->size
                                              - unwind->header_size);
    fde->code = image_distance(unwind, eh_frame, &fde->code, 0);
    fde->code_size = (uint32_t)size;
    header->eh_frame = image_distance(unwind, eh_frame, &header->eh_frame, eh_frame);
    header->table[0].code = image_distance(unwind, eh_frame, header, 0);
    header->table[0].fde = image_distance(unwind, eh_frame, header,
                                          eh_frame + unwind->fde_offset);
}

/* Fill in *unwind with copies of this CIE and FDE, for `size` bytes of code. */
static void
unwind_build(struct _PyPerfUnwind *unwind, const struct entry *cie,
             const struct fde *original, size_t size)
{
    memset(unwind->data, 0, sizeof(unwind->data));
    memcpy(unwind->data, cie, entry_size(cie));
    unwind->fde_offset = entry_size(cie);
    struct fde *fde = (struct fde *)(unwind->data + unwind->fde_offset);
    memcpy(fde, original, entry_size(&original->entry));
    fde->entry.id = (uint32_t)((const char *)&fde->entry.id - unwind->data);

    const size_t header_offset = unwind->fde_offset + entry_size(&original->entry)
                                 + sizeof(uint32_t);
    struct header *header = (struct header *)(unwind->data + header_offset);
    header->version = 1;
    header->eh_frame_encoding = ENCODED_FROM_HERE;
    header->count_encoding = ENCODED_UNSIGNED4;
    header->table_encoding = ENCODED_FROM_HEADER;
    header->count = 1;
    unwind->header_size = sizeof(struct header) + 2 * sizeof(int32_t);
    unwind->size = header_offset + unwind->header_size;
    _PyPerfUnwind_SetCodeSize(unwind, size);
}

/* The unwind information of a piece of our code in the running image. */
struct found {
    uint16_t machine;
    const struct entry *cie;
    const struct fde *fde;
};

/* Find and check the unwind information of the `size` bytes at `code`.  Returns 0, or
   -1 with *error filled in if it cannot be used. */
static int
unwind_find(struct found *found, const char *code, size_t size,
            struct _PyPerfError *error)
{
    static const char action[] = "find the trampoline's unwind information";
    struct image image = {.found = false};
    dl_iterate_phdr(image_visit, &image);
    if (!image.found || image.header == NULL) {
        return _PyPerfError_Set(error, action, "", "the interpreter has no "
                                "table of it (PT_GNU_EH_FRAME)", 0);
    }
    const struct fde *fde = image_find_fde(&image, code);
    if (fde == NULL) {
        return _PyPerfError_Set(error, action, "",
                                "it is not in the interpreter's table", 0);
    }
    if (!fde_is_right(&image, fde, code, size)) {
        return _PyPerfError_Set(error, action, "",
                                "its FDE does not describe the trampoline", 0);
    }
    const struct entry *cie = (const struct entry *)
        ((const char *)&fde->entry.id - fde->entry.id);
    if (!cie_is_right(&image, cie)) {
        return _PyPerfError_Set(error, action, "",
                                "its CIE has an unknown form", 0);
    }
    *found = (struct found){.machine = image.machine, .cie = cie, .fde = fde};
    return 0;
}

/* Return whether the CIE and the FDE fit into `room` bytes. */
static bool
found_fits(const struct found *found, size_t room)
{
    return entry_size(found->cie) <= room
           && entry_size(&found->fde->entry) <= room - entry_size(found->cie);
}

/* Fill in *unwind with the unwind information of the `size` bytes of our code at
   `code`. Returns 0, or -1 with *error filled in. */
static int
unwind_init(struct _PyPerfUnwind *unwind, const char *code, size_t size,
            struct _PyPerfError *error)
{
    struct found found;
    if (unwind_find(&found, code, size, error) < 0) {
        return -1;
    }
    if (!found_fits(&found, sizeof(unwind->data) - sizeof(uint32_t)
                            - sizeof(struct header) - 2 * sizeof(int32_t))) {
        return _PyPerfError_Set(error, "find the trampoline's unwind information",
                                "", "it is too large", 0);
    }
    unwind->machine = found.machine;
    unwind_build(unwind, found.cie, found.fde, size);
    return 0;
}

int
_PyPerfUnwind_Init(struct _PyPerfUnwind *unwind, struct _PyPerfError *error)
{
    return unwind_init(unwind, _PyPerfTrampoline_Code, _PyPerfTrampoline_CodeSize,
                       error);
}

int
_PyPerfUnwind_InitBody(struct _PyPerfUnwind *unwind, struct _PyPerfError *error)
{
    return unwind_init(unwind, _PyPerfTrampoline_BodyCFI,
                       sizeof(_PyPerfTrampoline_BodyCFI), error);
}


// --- Unwinders in this process ---------------------------------------------

uint16_t
_PyPerfUnwind_Describe(char *place, size_t room, const char *code, size_t size)
{
    struct _PyPerfError ignored;
    struct found found;
    if (unwind_find(&found, _PyPerfTrampoline_BodyCFI,
                    sizeof(_PyPerfTrampoline_BodyCFI), &ignored) < 0
            || !found_fits(&found, room - sizeof(uint32_t))) {
        return EM_NONE;
    }
    memset(place, 0, room);             // ends with an empty entry
    memcpy(place, found.cie, entry_size(found.cie));
    struct fde *fde = (struct fde *)(place + entry_size(found.cie));
    memcpy(fde, found.fde, entry_size(&found.fde->entry));
    fde->entry.id = (uint32_t)((const char *)&fde->entry.id - place);
    fde->code = (int32_t)(code - (const char *)&fde->code);
    fde->code_size = (uint32_t)size;
    return found.machine;
}

static bool loads_unwinder;         // if it is not loaded yet

bool
_PyPerfUnwind_AllowLoading(void)
{
    const bool is_first = !loads_unwinder;
    loads_unwinder = true;
    return is_first;
}

/* Return 1 if this is the unwinder's library, otherwise 0 (a callback of
   dl_iterate_phdr()). */
static int
library_is_unwinder(struct dl_phdr_info *info, size_t Py_UNUSED(size),
                    void *Py_UNUSED(data))
{
    const char *slash = strrchr(info->dlpi_name, '/');
    return strcmp(slash != NULL ? slash + 1 : info->dlpi_name, UNWINDER) == 0;
}

bool
_PyPerfUnwind_Register(char *place)
{
    // libgcc is the unwinder of C++ runtimes, pthread_exit() and backtrace().  The
    // GNU C library loads it when it first needs it.
    static void (*register_frame)(void *) = NULL;
    if (register_frame == NULL) {
        // dlopen() with RTLD_NOLOAD searches for the file if it is not loaded.
        if (!loads_unwinder && !dl_iterate_phdr(library_is_unwinder, NULL)) {
            return false;
        }
        void *library = dlopen(UNWINDER,
                               RTLD_LAZY | (loads_unwinder ? 0 : RTLD_NOLOAD));
        if (library == NULL) {
            return false;
        }
        *(void **)&register_frame = dlsym(library, "__register_frame");
    }
    if (register_frame != NULL) {
        register_frame(place);
    }
    return true;
}


// --- Finding a caller ------------------------------------------------------

#if _PyPerfArch_CAN_RETURN_TO

/* Functions of the unwinding interface in libgcc_s.so.1 (Itanium C++ ABI, "Exception
   Handling", section 1.1.4). */
static struct {
    int (*backtrace)(int (*)(void *, void *), void *);
    uintptr_t (*get_register)(void *, int);
    uintptr_t (*get_address)(void *);
    uintptr_t (*get_stack_pointer)(void *);
} unwinder;

struct search {
    uintptr_t callee;               // an address in the called function's C frame
    struct _PyPerfArch_Registers *registers;
    bool found;
};

/* Called for each C frame, beginning with the innermost one.  Returns 0 to continue. */
static int
search_frame(void *context, void *data)
{
    static const int numbers[] = _PyPerfArch_SAVED_REGISTERS;
    struct search *search = data;
    const uintptr_t stack_pointer = unwinder.get_stack_pointer(context);
    if (stack_pointer <= search->callee) {
        return 0;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(numbers); i++) {
        search->registers->saved[i] = unwinder.get_register(context, numbers[i]);
    }
    search->registers->stack_pointer = stack_pointer;
    search->registers->return_address = unwinder.get_address(context);
    search->found = true;
    return 4;                       // _URC_NORMAL_STOP
}

bool
_PyPerfUnwind_FindCaller(const void *callee, struct _PyPerfArch_Registers *registers)
{
    if (unwinder.backtrace == NULL) {
        void *library = dlopen(UNWINDER, RTLD_LAZY);
        if (library == NULL) {
            return false;
        }
        *(void **)&unwinder.get_register = dlsym(library, "_Unwind_GetGR");
        *(void **)&unwinder.get_address = dlsym(library, "_Unwind_GetIP");
        *(void **)&unwinder.get_stack_pointer = dlsym(library, "_Unwind_GetCFA");
        if (unwinder.get_register == NULL || unwinder.get_address == NULL
                || unwinder.get_stack_pointer == NULL) {
            return false;
        }
        *(void **)&unwinder.backtrace = dlsym(library, "_Unwind_Backtrace");
        if (unwinder.backtrace == NULL) {
            return false;
        }
    }
    struct search search = {.callee = (uintptr_t)callee, .registers = registers};
    unwinder.backtrace(search_frame, &search);
    return search.found;
}

#endif
