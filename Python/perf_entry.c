/* What an entry says of a function: its names, its addresses and its lines.

   The output writes an entry from a struct _PyPerfRegion.  This file fills that in
   from a code object and its slot.  The names are those that the code object has; the
   output edits what its format does not allow (perf_text.c).  Lines come from the line
   table of the code object.  The table has a range of instructions for each piece of
   source.  Neighbors often have the same line, so they are joined here.

   There are two ways.  The usual one encodes names with functions of the interpreter
   and allocates memory.  A child that C code has just forked may do neither, because
   another thread may have held a lock when it forked.  The way for such a child encodes
   names itself, into static buffers.  What does not fit waits until the child runs
   Python code.  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_asm.h"        // _PyPerfTrampoline_CodeSize
#include "pycore_perf_base.h"
#include "pycore_perf_entry.h"
#include "pycore_perf_window.h"     // _PyPerfWindow_Find()
#include "pycore_unicodeobject.h"   // _PyUnicode_AsUTF8String()

/* perf_jitdump.c needs room after the bytecode of a function.  If another code object
   follows, the room is in its head, where no bytecode is. */
static_assert(offsetof(PyCodeObject, co_code_adaptive)
                  >= 150 + _PyPerfWindow_BEFORE_FIRST - _PyPerfWindow_BEFORE_EACH,
              "struct _PyPerfRegion promises 150 bytes after line_size");


// --- Names -----------------------------------------------------------------

/* Fill in *text with the characters of `string`.  *owner keeps them alive; the
   caller releases it.  Returns -1 if there is no memory. */
static int
text_from_unicode(struct _PyPerfText *text, PyObject *string, PyObject **owner)
{
    if (PyUnicode_IS_COMPACT_ASCII(string)) {
        text->bytes = (const char *)PyUnicode_1BYTE_DATA(string);
        text->length = (size_t)PyUnicode_GET_LENGTH(string);
        *owner = NULL;
        return 0;
    }
    *owner = _PyUnicode_AsUTF8String(string, "surrogatepass");
    if (*owner == NULL) {
        PyErr_Clear();
        return -1;
    }
    text->bytes = PyBytes_AS_STRING(*owner);
    text->length = (size_t)PyBytes_GET_SIZE(*owner);
    return 0;
}

/* Encode `string` as UTF-8, and lone surrogates like other characters.  Neither
   allocates memory nor raises exceptions.  Returns false if there are more bytes than
   `buffer` has room for. */
static bool
text_encode(struct _PyPerfText *text, PyObject *string, char *buffer, size_t size)
{
    static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
    const int kind = PyUnicode_KIND(string);
    const void *data = PyUnicode_DATA(string);
    *text = (struct _PyPerfText){.bytes = buffer};
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(string); i++) {
        const Py_UCS4 point = PyUnicode_READ(kind, data, i);
        int more = (point >= 0x80) + (point >= 0x800) + (point >= 0x10000);
        if (text->length + (size_t)more >= size) {
            return false;
        }
        buffer[text->length++] = (char)(leads[more] | point >> 6 * more);
        while (more-- > 0) {
            buffer[text->length++] = (char)(0x80 | (point >> 6 * more & 0x3f));
        }
    }
    return true;
}


// --- Lines -----------------------------------------------------------------

/* Store the runs of instructions of one line in `lines`, which has room for `room` of
   them, at least 1.  Returns how many there are, also if there are more.  A program can
   make a line table that goes on after the last instruction. */
static size_t
code_lines(PyCodeObject *code, struct _PyPerfLine *lines, size_t room)
{
    size_t count = 0;
    int previous = 0;
    size_t size;
    lines[0] = (struct _PyPerfLine){.start = 0, .line = -1};
    PyCodeAddressRange range;
    _PyPerfBase_Bytecode(code, &size);
    _PyCode_InitAddressRange(code, &range);
    while (_PyPerfBase_HasLines(code) && _PyLineTable_NextAddressRange(&range)
            && (size_t)range.ar_start < size) {
        const int line = Py_MAX(range.ar_line, -1);
        if (count != 0 && line == previous) {
            continue;
        }
        previous = line;
        if (count < room) {
            lines[count] = (struct _PyPerfLine){
                .start = count == 0 ? 0 : (size_t)range.ar_start
                                          + _PyPerfWindow_BEFORE_FIRST
                                          - _PyPerfWindow_BEFORE_EACH,
                .line = line,
            };
        }
        count++;
    }
    return Py_MAX(count, 1);
}

/* Add the addresses of the instructions of `slot` to *region. */
static void
region_set_lines(struct _PyPerfRegion *region, const struct _PyPerfSlot *slot,
                 const struct _PyPerfLine *lines, size_t count)
{
    const char *first = slot->line_address;
    size_t size;
    _PyPerfBase_Bytecode(slot->code, &size);
    region->line_address = first - _PyPerfWindow_BEFORE_FIRST;
    region->line_size = size + _PyPerfWindow_BEFORE_FIRST - _PyPerfWindow_BEFORE_EACH;
    region->lines = lines;
    region->line_count = count;
}

/* Give the function of `slot` the addresses of its instructions, and add them to
   *region.  The caller frees region->lines with PyMem_RawFree().  Returns -1 with
   *error filled in on failure. */
static int
slot_add_lines(struct _PyPerfSlot *slot, struct _PyPerfRegion *region,
               struct _PyPerfError *error)
{
    const void *address = slot->line_address;
    size_t size;
    const char *bytecode = _PyPerfBase_Bytecode(slot->code, &size);
    if (address == NULL && _PyPerfWindow_Find(bytecode, size, &address, error) < 0) {
        return -1;
    }
    if (address == NULL) {
        return 0;
    }
    // An entry of the table has at least one byte.
    const size_t room = Py_MAX((size_t)PyBytes_GET_SIZE(slot->code->co_linetable), 1);
    struct _PyPerfLine *lines = PyMem_RawMalloc(room * sizeof(*lines));
    if (lines == NULL) {
        return _PyPerfError_Set(error, "announce the lines of a function", "", NULL,
                                ENOMEM);
    }
    _PyPerfArena_SetLineAddress(slot, address);
    region_set_lines(region, slot, lines, code_lines(slot->code, lines, room));
    return 0;
}

/* Add the lines of the function of `slot` to *region, if it has an address for them,
   and if their text certainly fits into the static buffer of perf_text.c. */
static void
slot_add_lines_early(const struct _PyPerfSlot *slot, struct _PyPerfRegion *region)
{
    static struct _PyPerfLine lines[128];
    if (!_PyPerf_Pool.lines || slot->line_address == NULL) {
        return;
    }
    const size_t count = code_lines(slot->code, lines, Py_ARRAY_LENGTH(lines));
    const size_t largest = 64 + 4 * (region->qualname.length + region->filename.length);
    if (count > Py_ARRAY_LENGTH(lines) || count * largest > 16 * 1024) {
        return;
    }
    region_set_lines(region, slot, lines, count);
}


// --- Entries ---------------------------------------------------------------

static struct _PyPerfRegion
region_of(const struct _PyPerfSlot *slot)
{
    return (struct _PyPerfRegion){
        .address = slot->address,
        .size = _PyPerfTrampoline_CodeSize,
        .is_narrow = slot->is_narrow,
        .first_line = slot->code->co_firstlineno,
    };
}

int
_PyPerfEntry_Init(struct _PyPerfEntry *entry, struct _PyPerfSlot *slot, bool name,
                  bool lines, struct _PyPerfError *error)
{
    const PyCodeObject *code = slot->code;
    struct _PyPerfRegion *region = &entry->region;
    *entry = (struct _PyPerfEntry){.region = region_of(slot)};
    if (!name) {
        region->address = NULL;
    }
    if (text_from_unicode(&region->qualname, code->co_qualname, &entry->qualname) < 0
            || text_from_unicode(&region->filename, code->co_filename,
                                 &entry->filename) < 0) {
        _PyPerfError_Set(error, "announce a function", "", NULL, ENOMEM);
    }
    else if (!lines || slot_add_lines(slot, region, error) == 0) {
        return 0;
    }
    _PyPerfEntry_Clear(entry);
    return -1;
}

void
_PyPerfEntry_Clear(struct _PyPerfEntry *entry)
{
    PyMem_RawFree((void *)entry->region.lines);
    Py_CLEAR(entry->qualname);
    Py_CLEAR(entry->filename);
}

bool
_PyPerfEntry_InitEarly(struct _PyPerfRegion *region, const struct _PyPerfSlot *slot)
{
    // 1024 bytes, of which each becomes four and some appear three times, fit into the
    // static buffer of perf_text.c.
    static char qualname[1024], filename[1024];
    const PyCodeObject *code = slot->code;
    *region = region_of(slot);
    if (!text_encode(&region->qualname, code->co_qualname, qualname, sizeof(qualname))
            || !text_encode(&region->filename, code->co_filename, filename,
                            sizeof(filename))) {
        return false;
    }
    slot_add_lines_early(slot, region);
    return true;
}
