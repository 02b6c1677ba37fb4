/* What the programs of test_stacks.py do to C stacks.

   Coroutine(function, copying)    runs a function on its own C stack, or on a
                                   part of the thread's stack that is copied
                                   away and back
   walk(), backtrace()             return addresses, leaf first
   watch_thread(), await_thread()  wait until a thread has ended completely
   hold_past_the_end()             a thread that outlives the interpreter

   It needs only the public headers.  The GIL guards all static variables,
   unless a comment says otherwise.  */

#define _GNU_SOURCE
#include "Python.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>


// --- What belongs to a stack -----------------------------------------------

/* What a thread state knows of the stack that it runs on.  On 3.11 a _PyCFrame is
   there too, a variable of the innermost eval loop. */
#if PY_VERSION_HEX < 0x030C0000
#  define HAVE_CFRAME 1
#  define FIELDS(FIELD) \
    FIELD(_PyCFrame *, cframe) \
    FIELD(int, recursion_remaining) \
    FIELD(int, trash_delete_nesting) \
    STACK_FIELDS(FIELD)
#else
#  define FIELDS(FIELD) \
    FIELD(struct _PyInterpreterFrame *, current_frame) \
    FIELD(int, py_recursion_remaining) \
    FIELD(int, c_recursion_remaining) \
    FIELD(PyObject *, delete_later) \
    STACK_FIELDS(FIELD)
#endif

#define STACK_FIELDS(FIELD) \
    FIELD(_PyErr_StackItem *, exc_info) \
    FIELD(PyObject *, context) \
    FIELD(_PyStackChunk *, datastack_chunk) \
    FIELD(PyObject **, datastack_top) \
    FIELD(PyObject **, datastack_limit)

struct python_state {
#define DECLARE(TYPE, NAME) TYPE NAME;
    FIELDS(DECLARE)
#undef DECLARE
};

/* Exchange it for *state.  This is done before the switch, when the frame of the next
   eval loop is not yet in its place. */
static void
python_state_swap(PyThreadState *tstate, struct python_state *state)
{
    struct python_state old;
#define SWAP(TYPE, NAME) old.NAME = tstate->NAME; tstate->NAME = state->NAME;
    FIELDS(SWAP)
#undef SWAP
    tstate->context_ver++;
    *state = old;
}

#ifdef HAVE_CFRAME
/* State of the thread that is in a _PyCFrame: copy it to the new one. */
static uint8_t use_tracing;
#endif

static void
python_state_leave(PyThreadState *tstate, struct python_state *state)
{
#ifdef HAVE_CFRAME
    use_tracing = tstate->cframe->use_tracing;
#endif
    python_state_swap(tstate, state);
}

static void
python_state_arrive(PyThreadState *tstate)
{
#ifdef HAVE_CFRAME
    tstate->cframe->use_tracing = use_tracing;
#else
    (void)tstate;
#endif
}

/* A part of the thread's stack that has been copied away. */
struct slice {
    char *low;
    size_t size;                // bytes
    char *bytes;
};

static void
slice_save(struct slice *slice, char *low, const char *high)
{
    slice->low = low;
    slice->size = high > low ? (size_t)(high - low) : 0;
    slice->bytes = realloc(slice->bytes, slice->size + 1);
    if (slice->bytes == NULL) {
        abort();
    }
    memcpy(slice->bytes, low, slice->size);
}

static void
slice_restore(const struct slice *slice)
{
    memcpy(slice->low, slice->bytes, slice->size);
}


// --- Coroutines ------------------------------------------------------------

/* The test defines it for interpreters that are not optimized. */
#ifndef STACK_FACTOR
#  define STACK_FACTOR 1
#endif

#define STACK_SIZE ((size_t)256 * 1024 * STACK_FACTOR)

struct coroutine {
    PyObject_HEAD
    PyObject *function;
    bool copying;
    bool started;
    bool finished;
    struct coroutine *outer;        // that ran when this one was resumed
    ucontext_t context;             // of this coroutine while it pauses
    ucontext_t resumer;             // of its resumer while it runs
    struct python_state state;      // of the one of the two that does not run
#ifdef HAVE_CFRAME
    _PyCFrame cframe;               // the outermost of this coroutine
#endif
    _PyErr_StackItem exc_info;
    const char *outermost;          // the address of its outermost C frame
    PyObject *type, *value, *traceback;

    char *stack;                    // STACK_SIZE bytes, or NULL when copying

    /* When copying: its part of the thread's stack is below `top`. While it
       runs, `covered` has what the resumer had there. */
    char *top;
    struct slice slice;
    struct slice covered;
};

static _Thread_local struct coroutine *running;

static void coroutine_leave(struct coroutine *self);

/* Run on the coroutine's stack, from its start to its end. */
static void
coroutine_main(void)
{
    struct coroutine *self = running;
    self->outermost = __builtin_frame_address(0);
    python_state_arrive(PyThreadState_Get());
    PyObject *result = PyObject_CallNoArgs(self->function);
    if (result == NULL) {
        PyErr_Fetch(&self->type, &self->value, &self->traceback);
    }
    Py_XDECREF(result);
    self->finished = true;
    coroutine_leave(self);
    abort();
}

static void
context_make(ucontext_t *context, char *stack, size_t size, void (*function)(void))
{
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = size;
    context->uc_link = NULL;
    makecontext(context, function, 0);
}

/* The copier has its own small stack, because code cannot overwrite the stack
   that it runs on. */
static struct {
    ucontext_t context;
    char stack[64 * 1024] __attribute__((aligned(16)));
    struct coroutine *coroutine;    // that is resumed or pauses
    char *low;                      // the end of the used stack
} copier;

static void
copier_resume(void)
{
    struct coroutine *self = copier.coroutine;
    if (!self->started) {
        self->started = true;
        self->top = copier.low;
        context_make(&self->context, self->top - 4096, 4096, coroutine_main);
    }
    slice_save(&self->covered, copier.low, self->top);
    slice_restore(&self->slice);
    setcontext(&self->context);
    abort();
}

static void
copier_pause(void)
{
    struct coroutine *self = copier.coroutine;
    slice_save(&self->slice, copier.low, self->top);
    slice_restore(&self->covered);
    setcontext(&self->resumer);
    abort();
}

/* Return an address below all of the caller's frame. */
static __attribute__((noinline)) char *
stack_low(void)
{
    char *low = (char *)__builtin_frame_address(0) - 256;
    return low - (uintptr_t)low % 16;
}

static __attribute__((noinline)) void
copier_call(struct coroutine *self, ucontext_t *from, void (*function)(void))
{
    copier.coroutine = self;
    copier.low = stack_low();
    context_make(&copier.context, copier.stack, sizeof(copier.stack), function);
    swapcontext(from, &copier.context);
}

/* Run a coroutine until it pauses or finishes. */
static void
coroutine_enter(struct coroutine *self)
{
    PyThreadState *tstate = PyThreadState_Get();
    self->outer = running;
    running = self;
    python_state_leave(tstate, &self->state);
    if (self->copying) {
        copier_call(self, &self->resumer, copier_resume);
    }
    else {
        if (!self->started) {
            self->started = true;
            context_make(&self->context, self->stack, STACK_SIZE, coroutine_main);
        }
        swapcontext(&self->resumer, &self->context);
    }
    python_state_arrive(tstate);
}

/* Continue the resumer of the running coroutine. */
static void
coroutine_leave(struct coroutine *self)
{
    PyThreadState *tstate = PyThreadState_Get();
    running = self->outer;
    python_state_leave(tstate, &self->state);
    if (self->copying) {
        copier_call(self, &self->context, copier_pause);
    }
    else {
        swapcontext(&self->context, &self->resumer);
    }
    python_state_arrive(tstate);
}

static PyObject *
coroutine_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *function;
    int copying;
    if (!PyArg_ParseTuple(args, "Op", &function, &copying)) {
        return NULL;
    }
    struct coroutine *self = (struct coroutine *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->function = Py_NewRef(function);
    self->copying = copying;
    if (!copying) {
        self->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (self->stack == MAP_FAILED) {
            self->stack = NULL;
            Py_DECREF(self);
            return PyErr_NoMemory();
        }
    }
    PyThreadState *tstate = PyThreadState_Get();
    self->state.exc_info = &self->exc_info;
#ifdef HAVE_CFRAME
    self->cframe.previous = &tstate->root_cframe;
    self->state.cframe = &self->cframe;
    self->state.recursion_remaining = tstate->recursion_limit;
#else
    self->state.py_recursion_remaining = tstate->py_recursion_limit;
    self->state.c_recursion_remaining = Py_C_RECURSION_LIMIT;
#endif
    return (PyObject *)self;
}

/* A coroutine that has not finished keeps all objects of its frames for ever. */
static void
coroutine_dealloc(struct coroutine *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObjectArenaAllocator allocator;
    PyObject_GetArenaAllocator(&allocator);
    _PyStackChunk *chunk = self->finished ? self->state.datastack_chunk : NULL;
    while (chunk != NULL) {
        _PyStackChunk *previous = chunk->previous;
        allocator.free(allocator.ctx, chunk, chunk->size);
        chunk = previous;
    }
    if (self->finished) {
        Py_XDECREF(self->state.context);
    }
    if (self->stack != NULL) {
        munmap(self->stack, STACK_SIZE);
    }
    free(self->slice.bytes);
    free(self->covered.bytes);
    Py_XDECREF(self->type);
    Py_XDECREF(self->value);
    Py_XDECREF(self->traceback);
    Py_XDECREF(self->function);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
coroutine_resume(struct coroutine *self, PyObject *Py_UNUSED(args))
{
    if (self->finished || self->outer != NULL || self == running) {
        PyErr_SetString(PyExc_RuntimeError, "it runs or has finished");
        return NULL;
    }
    Py_INCREF(self);
    coroutine_enter(self);
    self->outer = NULL;
    bool finished = self->finished;
    bool failed = self->type != NULL;
    PyErr_Restore(self->type, self->value, self->traceback);
    self->type = self->value = self->traceback = NULL;
    Py_DECREF(self);
    return failed ? NULL : PyBool_FromLong(!finished);
}

static PyObject *
pause_running(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    if (running == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "not in a coroutine");
        return NULL;
    }
    coroutine_leave(running);
    Py_RETURN_NONE;
}

static PyMethodDef coroutine_methods[] = {
    {"resume", (PyCFunction)coroutine_resume, METH_NOARGS,
     "Let it run.  Return whether it has paused and not finished."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot coroutine_slots[] = {
    {Py_tp_new, coroutine_new},
    {Py_tp_dealloc, coroutine_dealloc},
    {Py_tp_methods, coroutine_methods},
    {0, NULL},
};

static PyType_Spec coroutine_spec = {
    .name = "perf_stacks.Coroutine",
    .basicsize = sizeof(struct coroutine),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = coroutine_slots,
};


// --- Looking at stacks -----------------------------------------------------

static PyObject *
list_of_addresses(void **addresses, int count)
{
    PyObject *list = PyList_New(count);
    for (int i = 0; list != NULL && i < count; i++) {
        PyObject *number = PyLong_FromVoidPtr(addresses[i]);
        if (number == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, i, number);
        }
    }
    return list;
}

#define MOST_FRAMES 20000

static const char *
thread_stack_end(void)
{
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &low, &size);
        pthread_attr_destroy(&attributes);
    }
    return (const char *)low + size;
}

/* A frame pointer points at its record, {caller's frame pointer, return
   address}, or on riscv64 after it. */
#ifdef __riscv
#  define RECORD_OF(FRAME) ((FRAME) - 2)
#else
#  define RECORD_OF(FRAME) (FRAME)
#endif

/* Walk as profilers do: from frame record to frame record, up to the end of the
   thread's stack or to the outermost frame of the running coroutine. */
static __attribute__((noinline)) PyObject *
walk(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    static void *addresses[MOST_FRAMES];
    int count = 0;
    const char *end = running != NULL ? running->outermost : thread_stack_end();
    void **frame = __builtin_frame_address(0);
    while ((const char *)frame < end && count < MOST_FRAMES) {
        void **caller = RECORD_OF(frame)[0];
        addresses[count++] = RECORD_OF(frame)[1];
        if (caller <= frame || (uintptr_t)caller % sizeof(*caller) != 0) {
            break;
        }
        frame = caller;
    }
    return list_of_addresses(addresses, count);
}

static PyObject *
call_backtrace(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    static void *addresses[MOST_FRAMES];
    return list_of_addresses(addresses, backtrace(addresses, MOST_FRAMES));
}

static PyObject *
symbol(PyObject *Py_UNUSED(module), PyObject *number)
{
    void *address = PyLong_AsVoidPtr(number);
    if (address == NULL && PyErr_Occurred()) {
        return NULL;
    }
    Dl_info info;
    if (!dladdr(address, &info) || info.dli_sname == NULL) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeFSDefault(info.dli_sname);
}

static __attribute__((noinline)) PyObject *
frame_address(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromVoidPtr(__builtin_frame_address(0));
}


// --- Threads that end ------------------------------------------------------

static pthread_key_t watch_key;
static sem_t thread_ended;
static sem_t interpreter_ended;

/* Runs when the thread has been unwound, without the GIL. */
static void
watch_ended(void *Py_UNUSED(value))
{
    sem_post(&thread_ended);
}

static void
semaphore_wait(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0) {
    }
}

static PyObject *
watch_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    pthread_setspecific(watch_key, &watch_key);
    Py_RETURN_NONE;
}

static PyObject *
await_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    Py_BEGIN_ALLOW_THREADS
    semaphore_wait(&thread_ended);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
exit_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    PyEval_SaveThread();
    pthread_exit(NULL);
}

/* The last function that the interpreter calls (Py_AtExit). */
static void
let_thread_go_on(void)
{
    static const char message[] = "the thread has ended\n";
    sem_post(&interpreter_ended);
    semaphore_wait(&thread_ended);
    if (write(1, message, sizeof(message) - 1) < 0) {
        abort();
    }
}

/* The thread asks for the GIL when the interpreter has ended. */
static PyObject *
hold_past_the_end(PyObject *Py_UNUSED(module), PyObject *function)
{
    if (Py_AtExit(let_thread_go_on) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "Py_AtExit");
        return NULL;
    }
    PyObject *result = PyObject_CallNoArgs(function);
    Py_XDECREF(result);
    Py_BEGIN_ALLOW_THREADS
    semaphore_wait(&interpreter_ended);
    Py_END_ALLOW_THREADS
    abort();
}


// --- The module ------------------------------------------------------------

static PyMethodDef methods[] = {
    {"pause", pause_running, METH_NOARGS, NULL},
    {"walk", walk, METH_NOARGS, NULL},
    {"backtrace", call_backtrace, METH_NOARGS, NULL},
    {"symbol", symbol, METH_O, NULL},
    {"frame_address", frame_address, METH_NOARGS, NULL},
    {"watch_thread", watch_thread, METH_NOARGS, NULL},
    {"await_thread", await_thread, METH_NOARGS, NULL},
    {"exit_thread", exit_thread, METH_NOARGS, NULL},
    {"hold_past_the_end", hold_past_the_end, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "perf_stacks",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit_perf_stacks(void)
{
    sem_init(&thread_ended, 0, 0);
    sem_init(&interpreter_ended, 0, 0);
    if (pthread_key_create(&watch_key, watch_ended) != 0) {
        return PyErr_NoMemory();
    }
    PyObject *self = PyModule_Create(&module);
    PyObject *type = PyType_FromSpec(&coroutine_spec);
    if (self == NULL || type == NULL
            || PyModule_AddObjectRef(self, "Coroutine", type) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(self);
        return NULL;
    }
    Py_DECREF(type);
    return self;
}
