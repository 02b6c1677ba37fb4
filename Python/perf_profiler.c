/* The profiler: every Python function gets an address of its own.

   Native profilers see machine code.  All Python functions are run by one C
   function, so to a profiler they are all the same:

       before                              with the trampolines

       _PyEval_EvalFrameDefault            _PyEval_EvalFrameDefault
       _PyEval_Vector                      _PyPerf_EnterEvalLoop
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

   State that belongs together stands in `profiler`.  It is guarded by the GIL.  A
   code object finds its slot in co_extra.  It keeps it for life: when profiling
   is switched off and on again, when another kind of file is chosen, and in a
   forked child.  What changes then is the generation: a function whose slot was
   announced in another generation of the file than the one being written is
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
#include "pycore_perf_asm.h"         // _PyPerfTrampoline_Code
#include "pycore_perf_file.h"        // _PyPerfFile_GetPid()
#include "pycore_perf_jitdump.h"
#include "pycore_perf_map.h"
#include "pycore_perf_profiler.h"
#include "pycore_perf_record.h"
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
    _PyPerfGeneration generation;         // the one being written
    int mode;                       // the index of the open output
    pid_t pid;                      // the process that opened the output
    bool persist_after_fork;
    bool is_buffering;                   // the output may write later
} profiler = {
    .extra_index = -1,
};


// --- Switching off ---------------------------------------------------------

static bool
interpreter_is_active(const PyInterpreterState *interp)
{
    return interp->eval_frame == _PyPerfProfiler_EvalFrame;
}

static void
interpreter_deactivate(PyInterpreterState *interp)
{
    if (interpreter_is_active(interp)) {
        _PyInterpreterState_SetEvalFrameFunc(interp, _PyEval_EvalFrameDefault);
    }
}

static void
profiler_close(void)
{
    if (profiler.mode != _PyPerf_OFF) {
        outputs[profiler.mode]->close();
        profiler.mode = _PyPerf_OFF;
    }
}

/* Close the output if no interpreter is profiled any longer. */
static void
profiler_close_unused(void)
{
    for (PyInterpreterState *interp = PyInterpreterState_Head();
            interp != NULL; interp = PyInterpreterState_Next(interp)) {
        if (interpreter_is_active(interp)) {
            return;
        }
    }
    profiler_close();
}

/* Something is missing: tell it, and let the program run on without us. */
static void
profiler_fail(const struct _PyPerfError *error)
{
    for (PyInterpreterState *interp = PyInterpreterState_Head();
            interp != NULL; interp = PyInterpreterState_Next(interp)) {
        interpreter_deactivate(interp);
    }
    profiler_close();
    _PyPerfError_Warn(error);
}

// --- From the code object to its slot --------------------------------------

/* The slot of `code`, or NULL if it has none. */
static struct _PyPerfSlot *
code_slot(PyCodeObject *code)
{
    void *extra = NULL;
    _PyCode_GetExtra((PyObject *)code, profiler.extra_index, &extra);
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

/* `generation` is being written.  Where that is another one than before, what has
   been announced does not stand in it. */
static void
profiler_set_generation(_PyPerfGeneration generation)
{
    if (generation != profiler.generation) {
        profiler.generation = generation;
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
        &_PyPerf_Pool, outputs[profiler.mode]->has_time, error);
    if (slot == NULL) {
        return NULL;
    }
    if (_PyCode_SetExtra((PyObject *)code, profiler.extra_index, slot) < 0) {
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
    if (slot->announced_in[profiler.mode] == profiler.generation) {
        code->_co_perf_slot = slot->number;
        return 0;
    }
    _PyPerfGeneration generation = profiler.generation;
    int result;
    if (text_from_unicode(&region.qualname, code->co_qualname, &qualname) < 0
        || text_from_unicode(&region.filename, code->co_filename, &filename) < 0)
    {
        result = _PyPerfError_Set(error, "announce a function", "", NULL, ENOMEM);
    }
    else {
        result = outputs[profiler.mode]->announce(&region, &generation, error);
        profiler_set_generation(generation);
    }
    if (result == 0) {
        code->_co_perf_slot = slot->number;
        slot->announced_in[profiler.mode] = generation;
        slot->is_final |= !outputs[profiler.mode]->has_time;
    }
    Py_XDECREF(qualname);
    Py_XDECREF(filename);
    return result;
}


/* Let the output gather what is announced, or write what it has gathered. */
static void
profiler_set_buffering(bool on)
{
    struct _PyPerfError error;
    profiler.is_buffering = on;
    if (profiler.mode != _PyPerf_OFF) {
        _PyPerfGeneration generation = profiler.generation;
        if (outputs[profiler.mode]->set_buffering(on, &generation, &error) < 0) {
            profiler_fail(&error);
        }
        profiler_set_generation(generation);
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
    _PyPerfGeneration generation;         // that the parent wrote
    struct _PyPerfError *error;
};

/* Announce what the parent had announced (a visitor of slots). */
static int
slot_announce_inherited(struct _PyPerfSlot *slot, void *data)
{
    struct inherited *inherited = data;
    if (slot->code == NULL
            || slot->announced_in[profiler.mode] != inherited->generation)
    {
        return 0;
    }
    return slot_announce(slot, inherited->error);
}

/* Open the output of a child and announce what must stand in it. */
static int
profiler_reopen_in_child(PyThreadState *tstate, struct _PyPerfError *error)
{
    struct inherited inherited = {.generation = profiler.generation, .error = error};
    _PyPerfGeneration generation = profiler.generation;
    if (outputs[profiler.mode]->reopen_in_child(profiler.persist_after_fork,
                                                &generation, error) < 0) {
        return -1;
    }
    profiler_set_generation(generation);
    if (profiler.persist_after_fork && generation != inherited.generation
            && _PyPerfArena_Visit(&_PyPerf_Pool, slot_announce_inherited,
                                  &inherited) < 0) {
        return -1;
    }
    return stack_announce(tstate, error);
}

/* This process is a child. */
static void
profiler_start_child(PyThreadState *tstate)
{
    struct _PyPerfError error;
    profiler.pid = _PyPerfFile_GetPid();
    _PyPerfArena_Seal(&_PyPerf_Pool);
    if (profiler.mode != _PyPerf_OFF && profiler_reopen_in_child(tstate, &error) < 0) {
        profiler_fail(&error);
    }
}

void
_PyPerfFork_Before(void)
{
    if (profiler.is_buffering) {
        profiler_set_buffering(false);
    }
    _PyPerfMap_BeforeFork();
}

void
_PyPerfFork_AfterInParent(void)
{
    _PyPerfMap_AfterForkParent();
}

void
_PyPerfFork_AfterInChild(PyThreadState *tstate)
{
    _PyPerfMap_AfterForkChild();
    profiler_start_child(tstate);
}


// --- The evaluator ---------------------------------------------------------

bool
_PyPerfSlots_EnsureAnnounced(PyThreadState *tstate, PyCodeObject *code)
{
    struct _PyPerfError error;
    PyObject *type, *value, *traceback;
    _PyErr_Fetch(tstate, &type, &value, &traceback);
    if (profiler.pid != _PyPerfFile_GetPid()) {
        profiler_start_child(tstate);       // forked without our hooks
    }
    if (profiler.mode != _PyPerf_OFF) {
        const _PyPerfGeneration generation = profiler.generation;
        struct _PyPerfSlot *slot = code_slot(code);
        if (slot == NULL) {
            slot = code_new_slot(code, &error);
        }
        if (slot == NULL || slot_announce(slot, &error) < 0
                || (profiler.generation != generation
                    && all_stacks_announce(&error) < 0)) {
            profiler_fail(&error);
        }
    }
    _PyErr_Restore(tstate, type, value, traceback);
    return profiler.mode != _PyPerf_OFF;
}

void
_PyPerfProfiler_StopOnLowStack(void)
{
    struct _PyPerfError error;
    _PyPerfError_Set(&error, "go on", "", "the recursion is so deep that the C "
                     "stack is nearly used up", 0);
    profiler_fail(&error);
}

/* Run a frame as if the trampoline of its function, which has a name, called. */
static inline PyObject *
eval_announced_frame(PyThreadState *tstate, _PyInterpreterFrame *frame,
                     int throwflag)
{
    const unsigned int slot = frame->f_code->_co_perf_slot;
    return _PyPerf_EnterEvalLoop(tstate, frame, throwflag,
                              _PyPerf_Pool.return_addresses[slot]);
}

static Py_NO_INLINE PyObject *
eval_unannounced_frame(PyThreadState *tstate, _PyInterpreterFrame *frame,
                       int throwflag)
{
    return _PyPerfSlots_EnsureAnnounced(tstate, frame->f_code)
           ? eval_announced_frame(tstate, frame, throwflag)
           : _PyEval_EvalFrameDefault(tstate, frame, throwflag);
}

/* Run a frame.  What is rare stays out of line: this function ends with a jump,
   and then neither takes stack nor stands between the frames that profilers see. */
PyObject *
_PyPerfProfiler_EvalFrame(PyThreadState *tstate, _PyInterpreterFrame *frame,
                            int throwflag)
{
    return code_is_announced(frame->f_code)
           ? eval_announced_frame(tstate, frame, throwflag)
           : eval_unannounced_frame(tstate, frame, throwflag);
}


bool
_PyPerfProfiler_MustHandOver(PyThreadState *tstate)
{
    return false;
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
interpreter_ensure_extra(PyInterpreterState *interp)
{
    if (!interp->perf_has_extra) {
        Py_ssize_t index = _PyEval_RequestCodeExtraIndex(slot_release);
        if (index < 0 || (profiler.extra_index >= 0 && index != profiler.extra_index)) {
            return false;
        }
        profiler.extra_index = index;
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
    if (!interpreter_ensure_extra(interp)) {
        return "cannot activate the perf trampoline: other extensions use its "
               "place in code objects";
    }
    return NULL;
}

static int
profiler_open(int mode, struct _PyPerfError *error)
{
    profiler_close();
    _PyPerfGeneration generation = profiler.generation;
    if (_PyPerfArena_Reserve(&_PyPerf_Pool, error) < 0
            || outputs[mode]->open(&generation, error) < 0) {
        return -1;
    }
    profiler_set_generation(generation);
    profiler.mode = mode;
    profiler.pid = _PyPerfFile_GetPid();
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
    if (profiler.mode != mode && profiler_open(mode, &error) < 0) {
        profiler_fail(&error);
        return;
    }
    _PyInterpreterState_SetEvalFrameFunc(interp, _PyPerfProfiler_EvalFrame);
}

int
_PyPerfProfiler_Activate(PyThreadState *tstate, int mode)
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
_PyPerfProfiler_Deactivate(PyThreadState *tstate)
{
    interpreter_deactivate(tstate->interp);
    profiler_close_unused();
}

int
_PyPerfProfiler_IsActive(PyThreadState *tstate)
{
    return interpreter_is_active(tstate->interp);
}

void
_PyPerfProfiler_EvaluatorChanges(PyInterpreterState *interp,
                                   _PyFrameEvalFunction evaluator)
{
    if (interpreter_is_active(interp) && evaluator != _PyPerfProfiler_EvalFrame) {
        // Eval loops that run look whose functions they may inline.
        _PyPerfArena_Visit(&_PyPerf_Pool, slot_forget, NULL);
    }
}

int
_PyPerfProfiler_ModeFromName(const char *name)
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
_PyPerfProfiler_InitInterpreter(PyThreadState *tstate)
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
        profiler_set_buffering(true);
    }
}

void
_PyPerfProfiler_InterpreterIsReady(void)
{
    if (profiler.is_buffering) {
        profiler_set_buffering(false);
    }
}

void
_PyPerfProfiler_ExtensionIsLoaded(void)
{
    _PyPerfArena_Register(&_PyPerf_Pool);
}

/* Take a slot from its code object (a visitor of slots). */
static int
slot_take_back(struct _PyPerfSlot *slot, void *Py_UNUSED(data))
{
    if (slot->code != NULL) {
        // Which releases it.
        _PyCode_SetExtra((PyObject *)slot->code, profiler.extra_index, NULL);
    }
    return 0;
}

void
_PyPerfProfiler_FiniInterpreter(PyThreadState *tstate)
{
    _PyPerfProfiler_Deactivate(tstate);
    if (_Py_IsMainInterpreter(tstate->interp)) {
        // The code objects of frozen modules do not die: the next interpreter
        // of this process gets them without what they had here.
        if (tstate->interp->perf_has_extra) {
            _PyPerfArena_Visit(&_PyPerf_Pool, slot_take_back, NULL);
        }
        profiler.extra_index = -1;
        _PyPerfMap_Close();
    }
}


// --- What the public functions do (perf_capi.c) -----------------------------

int
_PyPerfProfiler_CompileCode(PyThreadState *tstate, PyCodeObject *code)
{
    if (!interpreter_is_active(tstate->interp)
            || code_is_announced(code)) {
        return 0;
    }
    return _PyPerfSlots_EnsureAnnounced(tstate, code) ? 0 : -1;
}

void
_PyPerfFork_SetPersist(bool persist)
{
    profiler.persist_after_fork = persist;
}
