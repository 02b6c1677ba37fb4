/* Code objects, their slots, and the entries that name them.

   When a code object is called for the first time while profiling is on, it gets
   a slot: a trampoline at a different address (perf_arena.c).  The output, a file
   that profilers read, gets an entry: the address of the trampoline and the name
   of the function.

       code object --co_extra-----> slot --address--> trampoline
           |                          ^
           +---_co_perf_slot----------+    only while the current file names it

   A code object keeps its slot until it dies: also when profiling is switched off
   and on, when the output changes, and in a forked child.

   A generation is what has been written to a file since it was last empty.  It changes
   with the file.  Each slot stores the generation in which it was announced.  If the
   current generation does not name a function, the function is announced again: at once
   if it is on the stack of a thread, otherwise when it is called.  A coroutine library
   may have suspended a stack, so that no thread refers to it.  After it was resumed,
   its functions are announced together with the next function that is announced.

   _co_perf_slot holds the number of the slot while the current file names it.  0
   selects the slow path, _PyPerfSlots_Announce().

   When a code object dies, no frame is in its trampoline, because frames own their
   code objects.  Its slot can be used again if it was announced only in outputs
   with timestamps.  A perf map has none: an address that it names never gets a
   different name.  Then only a function with the same entry can use the slot again
   (perf_retired.c).  With lines, the addresses of a function depend on those of its
   bytecode (perf_window.c).  So if a perf map names the lines of a code object, the
   memory of that object is not freed when it dies.  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_asm.h"        // _PyPerfTrampoline_CodeSize
#include "pycore_perf_base.h"
#include "pycore_perf_os.h"
#include "pycore_perf_retired.h"
#include "pycore_perf_slots.h"
#include "pycore_perf_text.h"       // _PyPerfTextWriter_UseSpare()
#include "pycore_perf_window.h"     // _PyPerfWindow_Find()
#include "pycore_unicodeobject.h"   // _PyUnicode_AsUTF8String()

/* perf_jitdump.c needs room behind the bytecode.  What comes next there is another code
   object, if it is code at all. */
static_assert(offsetof(PyCodeObject, co_code_adaptive)
                  >= 150 + _PyPerfWindow_BEFORE_FIRST - _PyPerfWindow_BEFORE_EACH,
              "struct _PyPerfRegion promises room behind the instructions");

static struct {
    const struct _PyPerfOutput *output;     // the one that is open, or NULL
    pid_t pid;                      // the process that opened it; 0: none yet
    volatile int *is_in_process;    // not 0: this is that process.  NULL: unknown
    struct {
        pid_t pid;                  // the child that has reopened the output before
                                    // it had the GIL; 0: none
        _PyPerfGeneration generation;
    } early;
    // In a child: the generation of the parent's file, until the child announces a
    // function that is not in that file.  Then 0.
    _PyPerfGeneration inherited;
    bool is_starting;               // a child that runs the handlers of the fork
    bool is_hidden;                 // the output must be published
    bool is_withdrawn;              // the output's file is removed
    bool is_buffering;              // entries may wait in the output
    _PyPerfGeneration generation;   // the current one; 0: none yet
    bool has_older;                 // there was a generation before
    Py_ssize_t extra_index;         // of slots in co_extra; -1: none
} slots = {
    .extra_index = -1,
};


// --- Generations -----------------------------------------------------------

/* Clear the slot number of a code object (a visitor of slots). */
static int
slot_forget(struct _PyPerfSlot *slot, void *Py_UNUSED(data))
{
    if (slot->code != NULL) {
        _PyPerfBase_SetSlotNumber(slot->code, 0);
    }
    return 0;
}

void
_PyPerfSlots_ForgetAll(void)
{
    _PyPerfArena_Visit(slot_forget, NULL);
}

/* Note that the output writes `generation`. */
static void
slots_set_generation(_PyPerfGeneration generation)
{
    if (generation != slots.generation) {
        slots.has_older = slots.generation != 0;
        slots.generation = generation;
        _PyPerfSlots_ForgetAll();
    }
}


// --- Slots -----------------------------------------------------------------

/* Return the slot of `code`, or NULL if it has none. */
static struct _PyPerfSlot *
code_slot(PyCodeObject *code)
{
    void *extra = NULL;
    _PyCode_GetExtra((PyObject *)code, slots.extra_index, &extra);
    return extra;
}

uint32_t
_PyPerfSlots_Find(PyCodeObject *code)
{
    const struct _PyPerfSlot *slot = code_slot(code);
    return slot != NULL ? slot->number : 0;
}

/* Return whether a perf map names the lines of a slot. */
static bool
slot_has_final_lines(const struct _PyPerfSlot *slot)
{
    return slot->lines_in[_PyPerf_MAP] != 0 && slot->line_address != NULL;
}

/* Give back the slot of `code`, which is about to die or has not got it.  A slot that a
   perf map names is kept for a function with the same entry. */
static void
slot_give_back(struct _PyPerfSlot *slot, const PyCodeObject *code)
{
    if (slot->is_final) {
        _PyPerfRetired_Keep(slot, code);
    }
    else {
        _PyPerfArena_FreeSlot(slot);
    }
}

/* Called when the code object that owned `extra`, a slot or NULL, has died, or
   when its slot is taken from it (a freefunc). */
static void
slot_release(void *extra)
{
    struct _PyPerfSlot *slot = extra;
    if (slot == NULL) {
        return;
    }
    if (slot_has_final_lines(slot)) {
        _PyPerfBase_KeepMemory(slot->code);
    }
    memset(slot->lines_in, 0, sizeof(slot->lines_in));
    _PyPerfArena_SetLineAddress(slot, NULL);
    // What a map says of the slot is true of its next owner, too.
    slot->announced_in[_PyPerf_JITDUMP] = 0;
    slot_give_back(slot, slot->code);
    slot->code = NULL;
}

/* Give `code` a slot.  Returns NULL with *error filled in on failure. */
static struct _PyPerfSlot *
code_new_slot(PyCodeObject *code, struct _PyPerfError *error)
{
    struct _PyPerfSlot *slot = _PyPerfRetired_Take(code);
    if (slot == NULL) {
        slot = _PyPerfArena_NewSlot(slots.output->has_time, error);
    }
    if (slot == NULL) {
        return NULL;
    }
    if (_PyCode_SetExtra((PyObject *)code, slots.extra_index, slot) < 0) {
        PyErr_Clear();
        slot_give_back(slot, code);
        _PyPerfError_Set(error, "remember a trampoline", "", NULL, ENOMEM);
        return NULL;
    }
    slot->code = code;
    return slot;
}


// --- Entries ---------------------------------------------------------------

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

/* Store the runs of instructions of one line in `lines`, which has room for `room` of
   them, at least 1.  Returns how many there are, also if there are more.  A line table
   that a program has made can go on behind the last instruction. */
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

/* Write an entry for `slot`: of its trampoline if `name` is true, and of its lines if
   `lines` is true.  Returns -1 with *error filled in on failure. */
static int
slot_write_entry(struct _PyPerfSlot *slot, bool name, bool lines,
                 struct _PyPerfError *error)
{
    const PyCodeObject *code = slot->code;
    struct _PyPerfRegion region = {
        .address = name ? slot->address : NULL,
        .size = _PyPerfTrampoline_CodeSize,
        .first_line = code->co_firstlineno,
    };
    PyObject *qualname = NULL, *filename = NULL;
    _PyPerfGeneration generation = slots.generation;
    int result = -1;
    if (text_from_unicode(&region.qualname, code->co_qualname, &qualname) < 0
        || text_from_unicode(&region.filename, code->co_filename, &filename) < 0)
    {
        _PyPerfError_Set(error, "announce a function", "", NULL, ENOMEM);
    }
    else if (!lines || slot_add_lines(slot, &region, error) == 0) {
        result = 0;
        if (region.address != NULL || region.line_address != NULL) {
            result = slots.output->announce(&region, &generation, error);
            slots_set_generation(generation);
        }
    }
    PyMem_RawFree((void *)region.lines);
    Py_XDECREF(qualname);
    Py_XDECREF(filename);
    return result;
}

/* Write an entry for `slot`, unless the current file has it.  Returns -1 with
   *error filled in on failure. */
static int
slot_announce(struct _PyPerfSlot *slot, struct _PyPerfError *error)
{
    const int mode = slots.output->mode;
    for (;;) {
        const bool name = slot->announced_in[mode] != slots.generation;
        const bool lines = _PyPerf_Pool.lines
                           && slot->lines_in[mode] != slots.generation;
        if (!name && !lines) {
            break;
        }
        if (slot_write_entry(slot, name, lines, error) < 0) {
            return -1;
        }
        if (slot->announced_in[mode] != slots.inherited && !slots.is_starting) {
            slots.inherited = 0;
        }
        // The generation may be another one now.
        if (name) {
            slot->announced_in[mode] = slots.generation;
            slot->is_final |= !slots.output->has_time;
        }
        if (lines) {
            slot->lines_in[mode] = slots.generation;
        }
    }
    _PyPerfBase_SetSlotNumber(slot->code, slot->number);
    return 0;
}


// --- Stacks ----------------------------------------------------------------

/* Announce the functions on the stack of `tstate` that have slots: control will
   return into their trampolines. */
static int
stack_announce(PyThreadState *tstate, struct _PyPerfError *error)
{
    for (_PyInterpreterFrame *frame = _PyPerfBase_TopFrame(tstate);
            frame != NULL; frame = _PyPerfBase_OuterFrame(frame)) {
        PyCodeObject *code = _PyPerfBase_FrameCode(frame);
        if (_PyPerfSlots_IsAnnounced(code)) {
            continue;
        }
        struct _PyPerfSlot *slot = code_slot(code);
        if (slot != NULL && slot_announce(slot, error) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
all_stacks_announce(struct _PyPerfError *error)
{
    int result = 0;
    _PyPerfBase_LockThreads();
    for (PyInterpreterState *interp = PyInterpreterState_Head();
            interp != NULL; interp = PyInterpreterState_Next(interp)) {
        if (!_PyPerfBase_SharesGil(interp)) {
            continue;
        }
        for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interp);
                tstate != NULL && result == 0; tstate = PyThreadState_Next(tstate)) {
            result = stack_announce(tstate, error);
        }
    }
    _PyPerfBase_UnlockThreads();
    return result;
}

int
_PyPerfSlots_Announce(PyThreadState *tstate, PyCodeObject *code,
                      struct _PyPerfError *error)
{
    const _PyPerfGeneration generation = slots.generation;
    if (slots.is_hidden && !slots.is_starting) {
        _PyPerfGeneration published = generation;
        slots.is_hidden = false;
        if (slots.output->publish(&published, error) < 0) {
            return -1;
        }
        slots_set_generation(published);
    }
    struct _PyPerfSlot *slot = code_slot(code);
    if (slot == NULL) {
        slot = code_new_slot(code, error);
    }
    if (slot == NULL || slot_announce(slot, error) < 0) {
        return -1;
    }
    if (slots.generation != generation) {
        return all_stacks_announce(error);
    }
    // A coroutine library may have resumed a stack that was suspended when the
    // generation began, so that nothing has found it yet.
    return slots.has_older ? stack_announce(tstate, error) : 0;
}


// --- The output ------------------------------------------------------------

int
_PyPerfSlots_OpenMode(void)
{
    return slots.output == NULL ? _PyPerf_OFF : slots.output->mode;
}

/* Note that the output belongs to this process. */
static void
slots_set_process(void)
{
    if (slots.is_in_process == NULL) {
        slots.is_in_process = _PyPerfOS_NewForkMark();
    }
    // In this order: a child that a signal handler forks in between compares ids.
    if (slots.is_in_process != NULL) {
        *slots.is_in_process = 1;
    }
    slots.pid = getpid();
}

bool
_PyPerfSlots_IsOutputInherited(void)
{
    // A new function is announced with one system call.  Do not make it two.
    const bool is_known = slots.is_in_process != NULL && *slots.is_in_process != 0;
    return slots.pid != 0 && !is_known && slots.pid != getpid();
}

void
_PyPerfSlots_CloseOutput(void)
{
    if (slots.output != NULL) {
        struct _PyPerfError ignored;
        _PyPerfArena_SetLines(false, &ignored);
        slots.output->close();
        slots.output = NULL;
    }
}

int
_PyPerfSlots_SetLines(bool on, struct _PyPerfError *error)
{
    if (on == _PyPerf_Pool.lines) {
        return 0;
    }
    _PyPerfSlots_ForgetAll();
    return _PyPerfArena_SetLines(on, error);
}

int
_PyPerfSlots_OpenOutput(const struct _PyPerfOutput *output,
                        struct _PyPerfError *error)
{
    if (_PyPerfSlots_IsOutputInherited()) {
        _PyPerfArena_Seal();        // C code forked while profiling was off
    }
    _PyPerfSlots_CloseOutput();
    _PyPerfGeneration generation = slots.generation;
    if (_PyPerfArena_Reserve(error) < 0 || output->open(&generation, error) < 0) {
        return -1;
    }
    slots_set_generation(generation);
    slots.output = output;
    slots_set_process();
    slots.inherited = 0;            // the program wants this file
    slots.is_hidden = false;
    return all_stacks_announce(error);
}

struct inherited {
    _PyPerfGeneration generation;   // that the parent wrote
    struct _PyPerfError *error;
};

/* Announce a slot that the parent announced (a visitor of slots). */
static int
slot_announce_inherited(struct _PyPerfSlot *slot, void *data)
{
    const struct inherited *inherited = data;
    if (slot->code == NULL
            || slot->announced_in[slots.output->mode] != inherited->generation) {
        return 0;
    }
    return slot_announce(slot, inherited->error);
}

int
_PyPerfSlots_ReopenOutput(PyThreadState *tstate, bool keep,
                          struct _PyPerfError *error)
{
    struct inherited inherited = {.generation = slots.generation, .error = error};
    _PyPerfGeneration generation = slots.generation;
    slots_set_process();
    slots.inherited = 0;
    slots.is_hidden = false;
    if (slots.output == NULL) {
        return 0;
    }
    if (slots.early.pid == slots.pid) {
        generation = slots.early.generation;
        slots.early.pid = 0;        // a descendant may get the same id
    }
    else if (slots.output->reopen_in_child(keep, &generation, error) < 0) {
        return -1;
    }
    else {
        slots.is_hidden = slots.output->publish != NULL;
    }
    slots_set_generation(generation);
    slots.inherited = inherited.generation;
    if (keep && generation != inherited.generation
            && _PyPerfArena_Visit(slot_announce_inherited, &inherited) < 0) {
        return -1;
    }
    if (stack_announce(tstate, error) < 0) {
        return -1;
    }
    if (slots.is_hidden) {
        _PyPerfSlots_ForgetAll();   // the next call of any function publishes
    }
    return 0;
}


// --- A child that C code has just forked -----------------------------------

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

/* Compare the code object of a slot (a visitor of slots). */
static int
slot_has_code(struct _PyPerfSlot *slot, void *data)
{
    return slot->code == data ? (int)slot->number : 0;
}

/* Return the slot of `code`, or NULL.  Does not read co_extra, which another thread may
   have been about to change. */
static struct _PyPerfSlot *
code_find_slot(PyCodeObject *code)
{
    uint32_t number = _PyPerfBase_SlotNumber(code);
    if (number == 0) {
        number = (uint32_t)_PyPerfArena_Visit(slot_has_code, code);
    }
    struct _PyPerfSlot *slot = _PyPerfArena_FindSlot(number);
    return slot != NULL && slot->code == code ? slot : NULL;
}

/* Write the entry of the function that `frame` runs, unless the child's file has it,
   or its names are so long that they must wait. */
static int
frame_announce_early(const _PyInterpreterFrame *frame, struct _PyPerfError *error)
{
    // 1024 bytes, of which each becomes four and some appear three times, fit into the
    // static buffer of perf_text.c.
    static char qualname[1024], filename[1024];
    PyCodeObject *code = _PyPerfBase_FrameCode(frame);
    const int mode = slots.output->mode;
    struct _PyPerfSlot *slot = code_find_slot(code);
    if (slot == NULL || slot->announced_in[mode] == slots.early.generation) {
        return 0;
    }
    struct _PyPerfRegion region = {
        .address = slot->address,
        .size = _PyPerfTrampoline_CodeSize,
        .first_line = code->co_firstlineno,
    };
    if (!text_encode(&region.qualname, code->co_qualname, qualname, sizeof(qualname))
            || !text_encode(&region.filename, code->co_filename, filename,
                            sizeof(filename))) {
        return 0;
    }
    slot_add_lines_early(slot, &region);
    if (slots.output->announce(&region, &slots.early.generation, error) < 0) {
        return -1;
    }
    slot->announced_in[mode] = slots.early.generation;
    if (region.line_address != NULL) {
        slot->lines_in[mode] = slots.early.generation;
    }
    slot->is_final |= !slots.output->has_time;
    return 0;
}

void
_PyPerfSlots_ReopenEarly(const PyThreadState *tstate, bool keep)
{
    struct _PyPerfError ignored;    // what fails now fails again later
    slots.early.pid = 0;
    slots.early.generation = slots.generation;
    if (slots.output == NULL || slots.is_buffering
            || slots.output->reopen_in_child(keep, &slots.early.generation,
                                             &ignored) < 0) {
        return;
    }
    if (slots.output->publish != NULL
            && slots.output->publish(&slots.early.generation, &ignored) < 0) {
        return;
    }
    slots.early.pid = getpid();
    _PyPerfTextWriter_UseSpare(true);
    for (const _PyInterpreterFrame *frame =
             tstate != NULL ? _PyPerfBase_TopFrame(tstate) : NULL;
            frame != NULL && frame_announce_early(frame, &ignored) == 0;
            frame = _PyPerfBase_OuterFrame(frame)) {
    }
    _PyPerfTextWriter_UseSpare(false);
}


// --- Another program is executed -------------------------------------------

void
_PyPerfSlots_SetStarting(bool is_starting)
{
    slots.is_starting = is_starting;
}

void
_PyPerfSlots_WithdrawOutput(void)
{
    slots.is_withdrawn = slots.output != NULL && slots.inherited != 0
                         && slots.output->withdraw();
}

int
_PyPerfSlots_PutBackOutput(struct _PyPerfError *error)
{
    if (!slots.is_withdrawn) {
        return 0;
    }
    slots.is_withdrawn = false;
    return slots.output->put_back(error);
}


// --- Buffering -------------------------------------------------------------

static int
slots_set_buffering(bool on, struct _PyPerfError *error)
{
    slots.is_buffering = on;
    if (slots.output == NULL) {
        return 0;
    }
    _PyPerfGeneration generation = slots.generation;
    const int result = slots.output->set_buffering(on, &generation, error);
    slots_set_generation(generation);
    return result;
}

int
_PyPerfSlots_StartBuffering(struct _PyPerfError *error)
{
    return slots_set_buffering(true, error);
}

int
_PyPerfSlots_StopBuffering(struct _PyPerfError *error)
{
    return slots.is_buffering ? slots_set_buffering(false, error) : 0;
}


// --- The index in co_extra -------------------------------------------------

bool
_PyPerfSlots_RequestExtraIndex(PyInterpreterState *interp)
{
    if (_PyPerfBase_OwnsExtraIndex(interp, slots.extra_index, slot_release)) {
        return true;
    }
    if (slots.extra_index >= 0
            && slots.extra_index != _PyPerfBase_NextExtraIndex(interp)) {
        return false;
    }
    const Py_ssize_t index = _PyEval_RequestCodeExtraIndex(slot_release);
    if (index < 0) {
        return false;
    }
    slots.extra_index = index;
    return true;
}

/* Take a slot from its code object (a visitor of slots). */
static int
slot_take(struct _PyPerfSlot *slot, void *Py_UNUSED(data))
{
    PyCodeObject *code = slot->code;
    if (code != NULL) {
        if (slot_has_final_lines(slot)) {
            Py_INCREF(code);        // its memory must not be freed
        }
        // Calls slot_release().
        _PyCode_SetExtra((PyObject *)code, slots.extra_index, NULL);
        _PyPerfBase_SetSlotNumber(code, 0);
    }
    return 0;
}

void
_PyPerfSlots_Fini(PyInterpreterState *interp)
{
    if (_PyPerfBase_OwnsExtraIndex(interp, slots.extra_index, slot_release)) {
        _PyPerfArena_Visit(slot_take, NULL);
    }
    slots.extra_index = -1;
}
