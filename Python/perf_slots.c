/* Code objects, their slots, and when each one is announced.

   When a code object is called for the first time while profiling is on, it gets
   a slot: a trampoline at a different address (perf_arena.c).  The output, a file
   that profilers read, gets an entry: the address of the trampoline and the name
   of the function (perf_entry.c).

       code object --co_extra-----> slot --address--> trampoline
           |                          ^
           +---_co_perf_slot----------+    only while the current file names it

   A code object keeps its slot until it dies: also when profiling is switched off
   and on, and in a forked child.  When a jitdump follows a perf map, it gets another
   slot.  That one has room for unwind information.

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
   different name.  Then only a function with the same entry can use the slot again.
   In both cases such a function needs no new entry (perf_retired.c).

   With lines, the addresses of a function depend on those of its bytecode
   (perf_window.c).  So if a perf map names the lines of a code object, the memory of
   that object is not freed when it dies.  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_base.h"
#include "pycore_perf_entry.h"
#include "pycore_perf_lock.h"
#include "pycore_perf_os.h"
#include "pycore_perf_retired.h"
#include "pycore_perf_slots.h"
#include "pycore_perf_text.h"       // _PyPerfTextWriter_UseSpare()

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
    bool has_ended;                 // the runtime has ended once
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

/* Return whether the names of functions that die are kept.  While the runtime starts
   and ends for the first time, they are not: most processes end then.  If one begins
   again, the same functions get other slots once. */
static bool
slots_keep_names(void)
{
    return slots.has_ended
           || (!slots.is_buffering
               && _PyRuntimeState_GetFinalizing(&_PyRuntime) == NULL);
}

/* Give back the slot of `code`, which is about to die or has not got it.  It may be
   kept for a function with the same entry. */
static void
slot_give_back(struct _PyPerfSlot *slot, const PyCodeObject *code)
{
    const bool is_kept = slots_keep_names() && _PyPerfRetired_Keep(slot, code);
    if (!slot->is_final && !is_kept) {
        _PyPerfArena_FreeSlot(slot);
    }
}

/* Take a slot from its code object, which has died or loses it. */
static void
slot_detach(struct _PyPerfSlot *slot)
{
    if (slot_has_final_lines(slot)) {
        _PyPerfBase_KeepMemory(slot->code);
    }
    memset(slot->lines_in, 0, sizeof(slot->lines_in));
    _PyPerfArena_SetLineAddress(slot, NULL);
    if (slot->is_final) {
        // What a map says of the slot is true of its next owner, too.  But a jitdump
        // has more than the name.
        slot->announced_in[_PyPerf_JITDUMP] = 0;
    }
    slot_give_back(slot, slot->code);
    slot->code = NULL;
}

/* Called when the code object that owned `extra`, a slot or NULL, has died, or
   when its slot is taken from it (a freefunc). */
static void
slot_release(void *extra)
{
    struct _PyPerfSlot *slot = extra;
    _PyPerfLock_Take();
    if (slot != NULL && slot->code != NULL) {   // slot_fit() may have replaced it
        slot_detach(slot);
    }
    _PyPerfLock_Release();
}

/* Let `slot` be that of `code`.  Returns 0, or -1 with *error filled in. */
static int
code_set_slot(PyCodeObject *code, struct _PyPerfSlot *slot, struct _PyPerfError *error)
{
    if (_PyCode_SetExtra((PyObject *)code, slots.extra_index, slot) < 0) {
        PyErr_Clear();
        return _PyPerfError_Set(error, "remember a trampoline", "", NULL, ENOMEM);
    }
    slot->code = code;
    return 0;
}

/* Give `code` a slot.  Returns NULL with *error filled in on failure. */
static struct _PyPerfSlot *
code_new_slot(PyCodeObject *code, struct _PyPerfError *error)
{
    // Outputs with timestamps need a wide slot.
    const bool wide = slots.output->has_time;
    struct _PyPerfSlot *slot = _PyPerfRetired_Take(code, wide);
    if (slot == NULL) {
        slot = _PyPerfArena_NewSlot(wide, error);
    }
    if (slot != NULL && code_set_slot(code, slot, error) < 0) {
        slot_give_back(slot, code);
        slot = NULL;
    }
    return slot;
}


// --- Entries ---------------------------------------------------------------

/* Write an entry for `slot`: of its trampoline if `name` is true, and of its lines if
   `lines` is true.  Returns -1 with *error filled in on failure. */
static int
slot_write_entry(struct _PyPerfSlot *slot, bool name, bool lines,
                 struct _PyPerfError *error)
{
    struct _PyPerfEntry entry;
    if (_PyPerfEntry_Init(&entry, slot, name, lines, error) < 0) {
        return -1;
    }
    int result = 0;
    if (entry.region.address != NULL || entry.region.line_address != NULL) {
        _PyPerfGeneration generation = slots.generation;
        result = slots.output->announce(&entry.region, &generation, error);
        slots_set_generation(generation);
    }
    _PyPerfEntry_Clear(&entry);
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

/* Return `slot` if it fits the output.  If it is too narrow, give its code object a
   wide slot and return that, or NULL with *error filled in.  The narrow slot remains:
   frames on stacks return into it, until their eval loops have written their records
   again (_PyPerfRecord_CatchUp()). */
static struct _PyPerfSlot *
slot_fit(struct _PyPerfSlot *slot, struct _PyPerfError *error)
{
    if (!slot->is_narrow || !slots.output->has_time) {
        return slot;
    }
    struct _PyPerfSlot *narrow = slot, *wide = NULL;
    PyCodeObject *code = narrow->code;
    if (slot_announce(narrow, error) == 0) {
        wide = _PyPerfArena_NewSlot(true, error);
    }
    if (wide == NULL) {
        return NULL;
    }
    narrow->code = NULL;                // now slot_release() leaves it alone
    if (code_set_slot(code, wide, error) < 0) {
        narrow->code = code;
        _PyPerfArena_FreeSlot(wide);
        return NULL;
    }
    memcpy(wide->lines_in, narrow->lines_in, sizeof(wide->lines_in));
    _PyPerfArena_SetLineAddress(wide, narrow->line_address);
    return wide;
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
        if (slot == NULL) {
            continue;
        }
        slot = slot_fit(slot, error);
        if (slot == NULL || slot_announce(slot, error) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
all_stacks_announce(struct _PyPerfError *error)
{
    int result = 0;
    _PyPerfLock_StopThreads();
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
    _PyPerfLock_StartThreads();
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
    slot = slot != NULL ? slot_fit(slot, error) : code_new_slot(code, error);
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
    if (_PyPerfArena_Reserve(output->has_time, error) < 0
            || output->open(&generation, error) < 0) {
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
    const int mode = slots.output->mode;
    struct _PyPerfSlot *slot = code_find_slot(_PyPerfBase_FrameCode(frame));
    struct _PyPerfRegion region;
    if (slot == NULL || slot->announced_in[mode] == slots.early.generation
            || !_PyPerfEntry_InitEarly(&region, slot)) {
        return 0;
    }
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
    slots.has_ended |= _PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL;
    slots.extra_index = -1;
}
