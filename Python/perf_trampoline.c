/* The front desk: every Python function gets an address of its own.

   Native profilers see machine code.  All Python functions are run by one C
   function, so to a profiler they are all the same:

       before                              with the trampolines

       _PyEval_EvalFrameDefault            _PyEval_EvalFrameDefault
       _PyEval_Vector                      _PyPerfRecord_Base
       ...                                 py::bar:/src/script.py
                                           py::foo:/src/script.py
                                           _PyEval_Vector
                                           ...

   A trampoline is a small piece of machine code that does nothing but call the
   eval loop.  It exists once for each code object, each copy at another address,
   so that a return address on the stack tells the functions apart.  When a code
   object is run for the first time it gets its copy (perf_arena.c), and the
   copy's address and the function's name are announced in a file that
   profilers read (perf_map.c, perf_jitdump.c).

   When profiling is on, the interpreter's frames are run by an evaluator of
   ours (PEP 523).  It has the stack look as if the trampoline had been called:
   see perf_record.c.

   State that belongs together stands in `desk`.  It is guarded by the GIL.  A
   code object finds its slot in co_extra.  It keeps it for life: when profiling
   is switched off and on again, when another kind of file is chosen, and in a
   forked child.  What changes then is the edition: a function whose slot was
   announced in another edition of the file than the one being written is
   announced again when it is called, or at once if it is on a stack.

   The slot's number stands in the code object itself (_co_perf_slot) for as long
   as its name stands in the file that is being written; with that number calls
   find the trampoline.  0 leads to where everything is looked at.

   When a code object dies no frame is in its trampoline any longer, for frames
   own their code objects.  Its slot is used for another one if all that has been
   announced of it has a time; what stands in a perf map stands there for ever.

   fork.  The child writes a file of its own.  Functions that are on its stack
   are announced there at once, for it will return into them.  With "persist"
   the child's file starts as a copy of the parent's.

   Failure.  The program runs on, one line on stderr says what is missing, and
   the evaluator is taken out.  */

#include "Python.h"
#include "pycore_ceval.h"           // _PyEval_EvalFrameDefault()
#include "pycore_frame.h"           // _PyInterpreterFrame
#include "pycore_interp.h"          // PyInterpreterState.eval_frame
#include "pycore_perf_arena.h"
#include "pycore_perf_file.h"        // _PyPerfFile_GetPid()
#include "pycore_perf_jitdump.h"
#include "pycore_perf_map.h"
#include "pycore_perf_trampoline.h"
#include "pycore_pyerrors.h"        // _PyErr_Fetch()
#include "pycore_pystate.h"         // _PyThreadState_GET()
#include "pycore_runtime.h"         // _PyRuntime
#include "pycore_unicodeobject.h"   // _PyUnicode_AsUTF8String()

/* Bytes from trampoline to trampoline.  jitdump images of neighbours must not
   overlap, and they are larger than the code. */
#define SLOT_SIZE 128

static const struct _PyPerfOutput *const outputs[_PyPerf_OUTPUTS] = {
    [_PyPerf_OFF] = NULL,           // none is open
    [_PyPerf_MAP] = &_PyPerfMap_Output,
    [_PyPerf_JITDUMP] = &_PyPerfJitdump_Output,
};

struct _PyPerfArenaPool _PyPerf_Pool = {.slot_size = SLOT_SIZE};

static struct {
    Py_ssize_t extra_index;         // of our slots in co_extra, in all
                                    //   interpreters, for they share the code
                                    //   objects of frozen modules; -1: none
    _PyPerfEdition edition;         // the one being written
    int mode;                       // the index of the open output
    pid_t pid;                      // the process that opened the output
    bool persist_after_fork;
    bool gathers;                   // the output may write later
} desk = {
    .extra_index = -1,
};


// --- Switching off ---------------------------------------------------------

static bool
interpreter_is_active(const PyInterpreterState *interp)
{
    return interp->eval_frame == _PyPerfTrampoline_EvalFrame;
}

static void
interpreter_deactivate(PyInterpreterState *interp)
{
    if (interpreter_is_active(interp)) {
        _PyInterpreterState_SetEvalFrameFunc(interp, _PyEval_EvalFrameDefault);
    }
}

static void
desk_close(void)
{
    if (desk.mode != _PyPerf_OFF) {
        outputs[desk.mode]->close();
        desk.mode = _PyPerf_OFF;
    }
}

/* Close the output if no interpreter is profiled any longer. */
static void
desk_close_unused(void)
{
    for (PyInterpreterState *interp = PyInterpreterState_Head();
            interp != NULL; interp = PyInterpreterState_Next(interp)) {
        if (interpreter_is_active(interp)) {
            return;
        }
    }
    desk_close();
}

/* Something is missing: tell it, and let the program run on without us. */
static void
desk_fail(const struct _PyPerfError *error)
{
    for (PyInterpreterState *interp = PyInterpreterState_Head();
            interp != NULL; interp = PyInterpreterState_Next(interp)) {
        interpreter_deactivate(interp);
    }
    desk_close();
    _PyPerfError_Warn(error);
}

// --- From the code object to its slot --------------------------------------

/* The slot of `code`, or NULL if it has none. */
static struct _PyPerfSlot *
code_slot(PyCodeObject *code)
{
    void *extra = NULL;
    _PyCode_GetExtra((PyObject *)code, desk.extra_index, &extra);
    return extra;
}

/* Whether `code` has a trampoline whose name stands in the current file. */
static inline bool
code_is_announced(const PyCodeObject *code)
{
    return code->_co_perf_slot != 0;
}

/* A function has to be announced again (a visitor of slots). */
static int
slot_forget(struct _PyPerfSlot *slot, void *Py_UNUSED(data))
{
    if (slot->code != NULL) {
        slot->code->_co_perf_slot = 0;
    }
    return 0;
}

/* `edition` is being written.  Where that is another one than before, what has
   been announced does not stand in it. */
static void
desk_set_edition(_PyPerfEdition edition)
{
    if (edition != desk.edition) {
        desk.edition = edition;
        _PyPerfArena_Visit(&_PyPerf_Pool, slot_forget, NULL);
    }
}

/* The code object that owned `extra`, a slot or NULL, has died (a freefunc). */
static void
slot_release(void *extra)
{
    struct _PyPerfSlot *slot = extra;
    if (slot != NULL) {
        slot->code = NULL;
        memset(slot->announced_in, 0, sizeof(slot->announced_in));
        if (!slot->is_final) {
            _PyPerfArena_FreeSlot(&_PyPerf_Pool, slot);
        }
    }
}

/* Give `code` a slot.  Returns NULL with *error filled in on failure. */
static struct _PyPerfSlot *
code_new_slot(PyCodeObject *code, struct _PyPerfError *error)
{
    struct _PyPerfSlot *slot = _PyPerfArena_NewSlot(
        &_PyPerf_Pool, outputs[desk.mode]->has_time, error);
    if (slot == NULL) {
        return NULL;
    }
    if (_PyCode_SetExtra((PyObject *)code, desk.extra_index, slot) < 0) {
        PyErr_Clear();
        _PyPerfArena_FreeSlot(&_PyPerf_Pool, slot);
        _PyPerfError_Set(error, "remember a trampoline", "", NULL, ENOMEM);
        return NULL;
    }
    slot->code = code;
    return slot;
}

/* Fill in *text with the characters of `string`.  *owner keeps them alive; the
   caller drops it.  Returns -1 when there is no memory. */
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

/* See to it that the name of the trampoline in `slot` stands in the file that is
   being written.  Returns -1 with *error filled in. */
static int
slot_announce(struct _PyPerfSlot *slot, struct _PyPerfError *error)
{
    PyCodeObject *code = slot->code;
    struct _PyPerfRegion region = {
        .address = slot->address,
        .size = _PyPerf_Pool.code_size,
        .first_line = code->co_firstlineno,
    };
    PyObject *qualname = NULL, *filename = NULL;
    if (slot->announced_in[desk.mode] == desk.edition) {
        code->_co_perf_slot = slot->number;
        return 0;
    }
    _PyPerfEdition edition = desk.edition;
    int result;
    if (text_from_unicode(&region.qualname, code->co_qualname, &qualname) < 0
        || text_from_unicode(&region.filename, code->co_filename, &filename) < 0)
    {
        result = _PyPerfError_Set(error, "announce a function", "", NULL, ENOMEM);
    }
    else {
        result = outputs[desk.mode]->announce(&region, &edition, error);
        desk_set_edition(edition);
    }
    if (result == 0) {
        code->_co_perf_slot = slot->number;
        slot->announced_in[desk.mode] = edition;
        slot->is_final |= !outputs[desk.mode]->has_time;
    }
    Py_XDECREF(qualname);
    Py_XDECREF(filename);
    return result;
}


/* Let the output gather what is announced, or write what it has gathered. */
static void
desk_gather(bool gather)
{
    struct _PyPerfError error;
    desk.gathers = gather;
    if (desk.mode != _PyPerf_OFF) {
        _PyPerfEdition edition = desk.edition;
        if (outputs[desk.mode]->gather(gather, &edition, &error) < 0) {
            desk_fail(&error);
        }
        desk_set_edition(edition);
    }
}


// --- Stacks ----------------------------------------------------------------

/* Announce what is on the stack of `tstate`, and what therefore will be returned
   into, where a file begins of which those functions know nothing. */
static int
stack_announce(PyThreadState *tstate, struct _PyPerfError *error)
{
    for (_PyInterpreterFrame *frame = tstate->cframe->current_frame;
            frame != NULL; frame = frame->previous) {
        struct _PyPerfSlot *slot = code_slot(frame->f_code);
        if (slot != NULL && !code_is_announced(slot->code)
                && slot_announce(slot, error) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
all_stacks_announce(struct _PyPerfError *error)
{
    int result = 0;
    // Threads come without the GIL, but not without this lock.
    PyThread_type_lock lock = _PyRuntime.interpreters.mutex;
    PyThread_acquire_lock(lock, WAIT_LOCK);
    for (PyInterpreterState *interp = PyInterpreterState_Head();
            interp != NULL; interp = PyInterpreterState_Next(interp)) {
        for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interp);
                tstate != NULL && result == 0; tstate = PyThreadState_Next(tstate)) {
            result = stack_announce(tstate, error);
        }
    }
    PyThread_release_lock(lock);
    return result;
}


// --- fork ------------------------------------------------------------------

struct inherited {
    _PyPerfEdition edition;         // that the parent wrote
    struct _PyPerfError *error;
};

/* Announce what the parent had announced (a visitor of slots). */
static int
slot_announce_inherited(struct _PyPerfSlot *slot, void *data)
{
    struct inherited *inherited = data;
    if (slot->code == NULL || slot->announced_in[desk.mode] != inherited->edition) {
        return 0;
    }
    return slot_announce(slot, inherited->error);
}

/* Open the output of a child and announce what must stand in it. */
static int
desk_reopen_in_child(PyThreadState *tstate, struct _PyPerfError *error)
{
    struct inherited inherited = {.edition = desk.edition, .error = error};
    _PyPerfEdition edition = desk.edition;
    if (outputs[desk.mode]->reopen_in_child(desk.persist_after_fork, &edition,
                                            error) < 0) {
        return -1;
    }
    desk_set_edition(edition);
    if (desk.persist_after_fork && edition != inherited.edition
            && _PyPerfArena_Visit(&_PyPerf_Pool, slot_announce_inherited,
                                  &inherited) < 0) {
        return -1;
    }
    return stack_announce(tstate, error);
}

/* This process is a child. */
static void
desk_start_child(PyThreadState *tstate)
{
    struct _PyPerfError error;
    desk.pid = _PyPerfFile_GetPid();
    _PyPerfArena_Seal(&_PyPerf_Pool);
    if (desk.mode != _PyPerf_OFF && desk_reopen_in_child(tstate, &error) < 0) {
        desk_fail(&error);
    }
}

void
_PyPerfTrampoline_BeforeFork(void)
{
    if (desk.gathers) {
        desk_gather(false);
    }
    _PyPerfMap_BeforeFork();
}

void
_PyPerfTrampoline_AfterForkParent(void)
{
    _PyPerfMap_AfterForkParent();
}

void
_PyPerfTrampoline_AfterForkChild(PyThreadState *tstate)
{
    _PyPerfMap_AfterForkChild();
    desk_start_child(tstate);
}


// --- The evaluator ---------------------------------------------------------

bool
_PyPerfTrampoline_Prepare(PyThreadState *tstate, PyCodeObject *code)
{
    struct _PyPerfError error;
    PyObject *type, *value, *traceback;
    _PyErr_Fetch(tstate, &type, &value, &traceback);
    if (desk.pid != _PyPerfFile_GetPid()) {
        desk_start_child(tstate);       // forked without our hooks
    }
    if (desk.mode != _PyPerf_OFF) {
        const _PyPerfEdition edition = desk.edition;
        struct _PyPerfSlot *slot = code_slot(code);
        if (slot == NULL) {
            slot = code_new_slot(code, &error);
        }
        if (slot == NULL || slot_announce(slot, &error) < 0
                || (desk.edition != edition && all_stacks_announce(&error) < 0)) {
            desk_fail(&error);
        }
    }
    _PyErr_Restore(tstate, type, value, traceback);
    return desk.mode != _PyPerf_OFF;
}

void
_PyPerfTrampoline_LeaveStack(void)
{
    struct _PyPerfError error;
    _PyPerfError_Set(&error, "go on", "", "the recursion is so deep that the C "
                     "stack is nearly used up", 0);
    desk_fail(&error);
}

/* Run a frame as if the trampoline of its function, which has a name, called. */
static inline PyObject *
eval_announced_frame(PyThreadState *tstate, _PyInterpreterFrame *frame,
                     int throwflag)
{
    const unsigned int slot = frame->f_code->_co_perf_slot;
    return _PyPerfRecord_Base(tstate, frame, throwflag,
                              _PyPerf_Pool.return_addresses[slot]);
}

static Py_NO_INLINE PyObject *
eval_unannounced_frame(PyThreadState *tstate, _PyInterpreterFrame *frame,
                       int throwflag)
{
    return _PyPerfTrampoline_Prepare(tstate, frame->f_code)
           ? eval_announced_frame(tstate, frame, throwflag)
           : _PyEval_EvalFrameDefault(tstate, frame, throwflag);
}

/* Run a frame.  What is rare stays out of line: this function ends with a jump,
   and then neither takes stack nor stands between the frames that profilers see. */
PyObject *
_PyPerfTrampoline_EvalFrame(PyThreadState *tstate, _PyInterpreterFrame *frame,
                            int throwflag)
{
    return code_is_announced(frame->f_code)
           ? eval_announced_frame(tstate, frame, throwflag)
           : eval_unannounced_frame(tstate, frame, throwflag);
}


// --- Switching on ----------------------------------------------------------

/* Whether the assembled code is what it should be: some linkers and post-link
   optimizers rewrite what they find in a text section. */
static bool
code_is_plausible(void)
{
    uint64_t number;
    if (_PyPerfTrampoline_CodeSize <= sizeof(number)
            || _PyPerfTrampoline_CodeSize > SLOT_SIZE) {
        return false;
    }
    memcpy(&number, _PyPerfTrampoline_Code + _PyPerfTrampoline_CodeSize
                    - sizeof(number), sizeof(number));
    return number == 0;
}

/* Get a place for our slots in the code objects that `interp` runs. */
static bool
interpreter_reserve_extra(PyInterpreterState *interp)
{
    if (!interp->perf_has_extra) {
        Py_ssize_t index = _PyEval_RequestCodeExtraIndex(slot_release);
        if (index < 0 || (desk.extra_index >= 0 && index != desk.extra_index)) {
            return false;
        }
        desk.extra_index = index;
        interp->perf_has_extra = 1;
    }
    return true;
}

/* Why profiling cannot be what `interp` does, and the exception for it, or NULL
   if it can. */
static const char *
interpreter_obstacle(PyInterpreterState *interp, PyObject **exception)
{
    if (!code_is_plausible()) {
        *exception = PyExc_ValueError;
        return "perf trampoline not available";
    }
    *exception = PyExc_RuntimeError;
    if (interp->eval_frame != NULL && !interpreter_is_active(interp)) {
        return "cannot activate the perf trampoline: another frame evaluator "
               "(PEP 523) is installed";
    }
    if (!interpreter_reserve_extra(interp)) {
        return "cannot activate the perf trampoline: other extensions use its "
               "place in code objects";
    }
    return NULL;
}

static int
desk_open(int mode, struct _PyPerfError *error)
{
    desk_close();
    _PyPerfEdition edition = desk.edition;
    if (_PyPerfArena_Reserve(&_PyPerf_Pool, error) < 0
            || outputs[mode]->open(&edition, error) < 0) {
        return -1;
    }
    desk_set_edition(edition);
    desk.mode = mode;
    desk.pid = _PyPerfFile_GetPid();
    return all_stacks_announce(error);
}

/* Start profiling where nothing stands in the way of it. */
static void
interpreter_activate(PyInterpreterState *interp, int mode)
{
    struct _PyPerfError error;
    _PyPerf_Pool.code = _PyPerfTrampoline_Code;
    _PyPerf_Pool.code_size = _PyPerfTrampoline_CodeSize;
    _PyPerf_Pool.return_offset = _PyPerfTrampoline_ReturnOffset;
    if (desk.mode != mode && desk_open(mode, &error) < 0) {
        desk_fail(&error);
        return;
    }
    _PyInterpreterState_SetEvalFrameFunc(interp, _PyPerfTrampoline_EvalFrame);
}

int
_PyPerfTrampoline_Activate(PyThreadState *tstate, int mode)
{
    PyObject *exception;
    const char *obstacle = interpreter_obstacle(tstate->interp, &exception);
    if (obstacle != NULL) {
        PyErr_SetString(exception, obstacle);
        return -1;
    }
    interpreter_activate(tstate->interp, mode);
    _PyPerfArena_Register(&_PyPerf_Pool);
    return 0;
}

void
_PyPerfTrampoline_Deactivate(PyThreadState *tstate)
{
    interpreter_deactivate(tstate->interp);
    desk_close_unused();
}

int
_PyPerfTrampoline_IsActive(PyThreadState *tstate)
{
    return interpreter_is_active(tstate->interp);
}

void
_PyPerfTrampoline_EvaluatorChanges(PyInterpreterState *interp,
                                   _PyFrameEvalFunction evaluator)
{
    if (interpreter_is_active(interp) && evaluator != _PyPerfTrampoline_EvalFrame) {
        // Eval loops that run look whose functions they may inline.
        _PyPerfArena_Visit(&_PyPerf_Pool, slot_forget, NULL);
    }
}

int
_PyPerfTrampoline_ModeFromName(const char *name)
{
    for (size_t mode = 1; mode < Py_ARRAY_LENGTH(outputs); mode++) {
        if (strcmp(outputs[mode]->name, name) == 0) {
            return (int)mode;
        }
    }
    return -1;
}


// --- The life of an interpreter --------------------------------------------

void
_PyPerfTrampoline_InitInterpreter(PyThreadState *tstate)
{
    int mode = tstate->interp->config.perf_profiling;
    if (mode == _PyPerf_OFF) {
        return;
    }
    PyObject *exception;
    const char *obstacle = interpreter_obstacle(tstate->interp, &exception);
    if (obstacle != NULL) {
        struct _PyPerfError error;
        _PyPerfError_Set(&error, "start", "", obstacle, 0);
        _PyPerfError_Warn(&error);
        return;
    }
    interpreter_activate(tstate->interp, mode);
    if (_Py_IsMainInterpreter(tstate->interp)) {
        desk_gather(true);
    }
}

void
_PyPerfTrampoline_InterpreterIsReady(void)
{
    if (desk.gathers) {
        desk_gather(false);
    }
}

void
_PyPerfTrampoline_ExtensionIsLoaded(void)
{
    _PyPerfArena_Register(&_PyPerf_Pool);
}

/* Take a slot from its code object (a visitor of slots). */
static int
slot_take_back(struct _PyPerfSlot *slot, void *Py_UNUSED(data))
{
    if (slot->code != NULL) {
        // Which releases it.
        _PyCode_SetExtra((PyObject *)slot->code, desk.extra_index, NULL);
    }
    return 0;
}

void
_PyPerfTrampoline_FiniInterpreter(PyThreadState *tstate)
{
    _PyPerfTrampoline_Deactivate(tstate);
    if (_Py_IsMainInterpreter(tstate->interp)) {
        // The code objects of frozen modules do not die: the next interpreter
        // of this process gets them without what they had here.
        if (tstate->interp->perf_has_extra) {
            _PyPerfArena_Visit(&_PyPerf_Pool, slot_take_back, NULL);
        }
        desk.extra_index = -1;
        PyUnstable_PerfMapState_Fini();
    }
}


// --- The public functions --------------------------------------------------

int
PyUnstable_PerfTrampoline_CompileCode(PyCodeObject *code)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (!interpreter_is_active(tstate->interp)
            || code_is_announced(code)) {
        return 0;
    }
    return _PyPerfTrampoline_Prepare(tstate, code) ? 0 : -1;
}

int
PyUnstable_PerfTrampoline_SetPersistAfterFork(int enable)
{
    desk.persist_after_fork = enable != 0;
    return 0;
}
