/* Functions of _testinternalcapi for the tests of native profiling.

   Tests call the public functions of native profiling through this file.  It also has
   a small profiler that follows frame records: in the calling thread, or in a signal
   handler at short intervals or after each instruction.  So tests can check the stack
   at every instruction, which no external profiler can.  */

#ifndef Py_BUILD_CORE_MODULE
#  define Py_BUILD_CORE_MODULE
#endif

#include "Python.h"

/* The profiler uses timers and signal contexts of Linux. */
#if defined(PY_HAVE_PERF_TRAMPOLINE) && defined(__linux__)
#  define HAVE_PROFILER
#  include "pycore_perf_arch.h"
#  include "pycore_perf_base.h"
#  include <dlfcn.h>
#  include <link.h>
#  include <pthread.h>
#  include <sched.h>
#  include <signal.h>
#  include <stdatomic.h>
#  include <stdbool.h>
#  include <sys/mman.h>
#  include <sys/syscall.h>
#  include <sys/uio.h>
#  include <time.h>
#  include <ucontext.h>
#  include <unistd.h>
#endif


// --- The public functions --------------------------------------------------

static PyObject *
write_perf_map_entry(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *address_object, *size_object;
    const char *name;
    if (!PyArg_ParseTuple(args, "OO!s", &address_object, &PyLong_Type, &size_object,
                          &name)) {
        return NULL;
    }
    const void *address = PyLong_AsVoidPtr(address_object);
    if (address == NULL && PyErr_Occurred()) {
        return NULL;
    }
    const size_t size = PyLong_AsSize_t(size_object);
    if (size == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = PyUnstable_WritePerfMapEntry(address, size, name);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(result);
}

static PyObject *
perf_map_state_init(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromLong(PyUnstable_PerfMapState_Init());
}

static PyObject *
perf_map_state_teardown(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    PyUnstable_PerfMapState_Fini();
    Py_RETURN_NONE;
}

static PyObject *
copy_perf_map_file(PyObject *Py_UNUSED(module), PyObject *path)
{
    PyObject *bytes;
    if (!PyUnicode_FSConverter(path, &bytes)) {
        return NULL;
    }
    int result = PyUnstable_CopyPerfMapFile(PyBytes_AS_STRING(bytes));
    Py_DECREF(bytes);
    return PyLong_FromLong(result);
}

/* CPython 3.12 and later have functions of these names, which take the results of the
   public functions as it does. */
#if PY_VERSION_HEX < 0x030c0000

static PyObject *
compile_perf_trampoline_entry(PyObject *Py_UNUSED(module), PyObject *code)
{
    if (!PyCode_Check(code)) {
        PyErr_Format(PyExc_TypeError, "expected a code object, not %.200s",
                     Py_TYPE(code)->tp_name);
        return NULL;
    }
    return PyLong_FromLong(
        PyUnstable_PerfTrampoline_CompileCode((PyCodeObject *)code));
}

static PyObject *
perf_trampoline_set_persist_after_fork(PyObject *Py_UNUSED(module),
                                       PyObject *flag)
{
    int enable = PyObject_IsTrue(flag);
    if (enable < 0) {
        return NULL;
    }
    return PyLong_FromLong(PyUnstable_PerfTrampoline_SetPersistAfterFork(enable));
}

#endif


#ifdef HAVE_PROFILER

// --- Following frame records -----------------------------------------------

/* These macros differ from processor to processor.  CONTEXT_PC, CONTEXT_SP and
   CONTEXT_FP find the program counter, the stack pointer and the frame pointer in a
   signal handler.  ADDRESS_MASK has the bits of a return address that are the address.
   STEP_FLAG, in CONTEXT_FLAGS, makes a thread trap after each instruction.  CONTEXT_RA
   is the return address of a leaf function.  It is defined where a leaf function may
   save the frame pointer in place of the return address: on riscv64, with gcc before
   version 14. */
#if defined(__x86_64__)
#  define CONTEXT_PC(CONTEXT) ((CONTEXT)->uc_mcontext.gregs[REG_RIP])
#  define CONTEXT_SP(CONTEXT) ((CONTEXT)->uc_mcontext.gregs[REG_RSP])
#  define CONTEXT_FP(CONTEXT) ((CONTEXT)->uc_mcontext.gregs[REG_RBP])
#  define CONTEXT_FLAGS(CONTEXT) ((CONTEXT)->uc_mcontext.gregs[REG_EFL])
#  define STEP_FLAG 0x100
#  define CONTEXT_RA(CONTEXT) 0
#  define ADDRESS_MASK UINTPTR_MAX
#elif defined(__aarch64__)
#  define CONTEXT_PC(CONTEXT) ((CONTEXT)->uc_mcontext.pc)
#  define CONTEXT_SP(CONTEXT) ((CONTEXT)->uc_mcontext.sp)
#  define CONTEXT_FP(CONTEXT) ((CONTEXT)->uc_mcontext.regs[29])
#  define CONTEXT_RA(CONTEXT) 0
#  define ADDRESS_MASK (((uintptr_t)1 << 48) - 1)   // no authentication code
#elif defined(__riscv)
#  define CONTEXT_PC(CONTEXT) ((CONTEXT)->uc_mcontext.__gregs[REG_PC])
#  define CONTEXT_SP(CONTEXT) ((CONTEXT)->uc_mcontext.__gregs[REG_SP])
#  define CONTEXT_FP(CONTEXT) ((CONTEXT)->uc_mcontext.__gregs[REG_S0])
#  define CONTEXT_RA(CONTEXT) ((CONTEXT)->uc_mcontext.__gregs[REG_RA])
#  define ADDRESS_MASK UINTPTR_MAX
#else
#  error "add the registers of this processor"
#endif

struct record {
    uintptr_t caller;
    uintptr_t return_address;
};

/* The bytes [low, high). */
struct range {
    uintptr_t low;
    uintptr_t high;
};

static bool
range_has(const struct range *range, uintptr_t address)
{
    return address >= range->low && address < range->high;
}

enum walk_end {
    WALK_NULL,                      // the last record has no caller
    WALK_OUTSIDE,                   // the next record is not on the stack
    WALK_MISALIGNED,
    WALK_FALLING,                   // the next record is not above the last
    WALK_FULL,                      // the array is full
};

static const char *const walk_end_names[] = {
    "null", "outside", "misaligned", "falling", "full",
};

struct walk {
    uintptr_t *addresses;           // return addresses, leaf first
    size_t max;                     // size of the array
    size_t count;
    enum walk_end end;
    uintptr_t last;                 // the frame pointer that was not followed
};

/* Return the record that a frame pointer refers to. */
static uintptr_t
record_at(uintptr_t frame_pointer)
{
    return frame_pointer - _PyPerfArch_RECORDS_BELOW * sizeof(struct record);
}

/* Follow the records from the one at the frame pointer, by the rules of the arm64
   kernel, which are the strictest.  Async-signal-safe. */
static void
walk_from(struct walk *walk, const struct range *stack, uintptr_t frame_pointer)
{
    uintptr_t previous = 0;
    for (walk->count = 0; ; walk->count++) {
        uintptr_t at = record_at(frame_pointer);
        walk->last = frame_pointer;
        if (frame_pointer == 0) {
            walk->end = WALK_NULL;
        }
        else if (at < stack->low || at > stack->high - sizeof(struct record)) {
            walk->end = WALK_OUTSIDE;
        }
        else if (at % 8 != 0) {
            walk->end = WALK_MISALIGNED;
        }
        else if (at <= previous) {
            walk->end = WALK_FALLING;
        }
        else if (walk->count == walk->max) {
            walk->end = WALK_FULL;
        }
        else {
            const volatile struct record *record = (const struct record *)at;
            walk->addresses[walk->count] = record->return_address & ADDRESS_MASK;
            frame_pointer = record->caller;
            previous = at;
            continue;
        }
        return;
    }
}

/* Find the C stack of the calling thread.  Returns 0, or -1 if it is unknown. */
static int
stack_of_thread(struct range *stack)
{
    static _Thread_local struct range known;
    pthread_attr_t attributes;
    if (known.high != 0) {
        *stack = known;             // asking for the main thread's is slow
        return 0;
    }
    void *low;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return -1;
    }
    int result = pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    if (result != 0) {
        return -1;
    }
    known = (struct range){(uintptr_t)low, (uintptr_t)low + size};
    *stack = known;
    return 0;
}

static int
visit_interpreter(struct dl_phdr_info *info, size_t Py_UNUSED(size), void *data)
{
    struct range *text = data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X)) {
            continue;
        }
        struct range segment = {.low = info->dlpi_addr + header->p_vaddr};
        segment.high = segment.low + header->p_memsz;
        if (range_has(&segment, (uintptr_t)PyEval_EvalCode)) {
            *text = segment;
            return 1;
        }
    }
    return 0;
}

/* The machine code of the interpreter.  Whether it has frame pointers depends on its
   build. */
static struct range
interpreter_text(void)
{
    struct range text = {0, 0};
    dl_iterate_phdr(visit_interpreter, &text);
    return text;
}

/* Return whether this address is in a function of a foreign library, which may use the
   frame pointer for other purposes. */
static bool
address_is_foreign(uintptr_t address)
{
    struct range text = interpreter_text();
    Dl_info info;
    return !range_has(&text, address) && dladdr((void *)address, &info) != 0;
}

static PyObject *
addresses_as_list(const uintptr_t *addresses, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *address = PyLong_FromVoidPtr((void *)addresses[i]);
        if (address == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, address);
        }
    }
    return list;
}

/* Return whether the walk ended where a chain may end: at a record without a caller,
   or in a foreign function.  The value that a foreign function has in the frame pointer
   may look like a record, once. */
static bool
walk_is_whole(const struct walk *walk)
{
    const uintptr_t *end = walk->addresses + walk->count;
    return walk->end == WALK_NULL
           || (walk->end != WALK_FULL
               && ((walk->count > 0 && address_is_foreign(end[-1]))
                   || (walk->count > 1 && address_is_foreign(end[-2]))));
}

/* perf_walk_stack([size]): return the list of the return addresses on the C stack.
   `size` is the number of bytes of the stack above this function.  The default is all
   of the thread's stack.  Raises RuntimeError if the chain is broken. */
static PyObject *
perf_walk_stack(PyObject *Py_UNUSED(module), PyObject *args)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    struct range stack;
    Py_ssize_t size = 0;
    if (!PyArg_ParseTuple(args, "|n", &size)) {
        return NULL;
    }
    if (size > 0) {
        stack = (struct range){here, here + (size_t)size};
    }
    else if (stack_of_thread(&stack) < 0 || !range_has(&stack, here)) {
        PyErr_SetString(PyExc_RuntimeError, "this is not the thread's own stack");
        return NULL;
    }
    struct walk walk = {.max = 100000};
    // Threads may do this at the same time, and some have small stacks.
    walk.addresses = PyMem_RawMalloc(walk.max * sizeof(*walk.addresses));
    if (walk.addresses == NULL) {
        return PyErr_NoMemory();
    }
    stack.low = record_at(here);
    walk_from(&walk, &stack, here);
    PyObject *result = walk_is_whole(&walk)
        ? addresses_as_list(walk.addresses, walk.count)
        : PyErr_Format(
            PyExc_RuntimeError, "broken after %zu records: %s: %p, return address %p",
            walk.count, walk_end_names[walk.end], (void *)walk.last,
            walk.count == 0 ? NULL : (void *)walk.addresses[walk.count - 1]);
    PyMem_RawFree(walk.addresses);
    return result;
}


// --- Sampling --------------------------------------------------------------

/* A profiler within the process.  Signals interrupt the threads that have requested
   it, at short intervals or, if the processor can do that, after each instruction.
   The handler follows the chain and stores it. */

#define SAMPLE_MAX 256              // addresses; also Python frames
#define SAMPLE_THREADS 16

/* A Python frame, as the interpreter knows it. */
struct sampled_frame {
    PyCodeObject *code;             // borrowed
    const _Py_CODEUNIT *last;       // the instruction that it has begun last
};

struct sample {
    uintptr_t pc;
    uintptr_t last;
    uint32_t count;
    uint8_t end;                    // an enum walk_end
    bool stored;
    uintptr_t addresses[SAMPLE_MAX];
    uint32_t frame_count;
    struct sampled_frame frames[SAMPLE_MAX];
};

static struct {
    long interval;                  // in microseconds; 0: each instruction
    struct range text;
    struct sample *samples;         // mapped
    size_t capacity;
    bool has_frames;                // store Python frames, too
    int copies;                     // a file for read_safely(), or -1
    atomic_size_t used;             // may exceed the capacity
    atomic_int handling;
    atomic_bool is_on;
    int signal;
    timer_t timers[SAMPLE_THREADS];
    int timer_count;
} sampler;

/* With the initial-exec model the first use allocates no memory. */
static _Thread_local struct {
    struct range stack;             // zero: the thread is not sampled
    const struct sample *last;      // that was stored
    timer_t timer;
} sampled_thread __attribute__((tls_model("initial-exec")));

/* Return whether the chain equals the last one that was stored. */
static bool
walk_is_old(const struct walk *walk, uintptr_t pc)
{
    const struct sample *last = sampled_thread.last;
    return last != NULL && last->count == walk->count && last->end == walk->end
           && range_has(&sampler.text, pc) == range_has(&sampler.text, last->pc)
           && memcmp(last->addresses, walk->addresses,
                     walk->count * sizeof(uintptr_t)) == 0;
}

/* Copy `size` bytes from `from`.  Returns false if there is no such memory.  qemu-user
   has no process_vm_readv().  There the bytes go through a file; each thread has a
   place of its own in it. */
static bool
read_safely(void *to, const void *from, size_t size)
{
    if (sampler.copies < 0) {
        const struct iovec here = {.iov_base = to, .iov_len = size};
        const struct iovec there = {.iov_base = (void *)from, .iov_len = size};
        return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)size;
    }
    off_t place = (off_t)syscall(SYS_gettid) * 4096;
    return pwrite(sampler.copies, from, size, place) == (ssize_t)size
           && pread(sampler.copies, to, size, place) == (ssize_t)size;
}

/* Prepare read_safely().  Returns -1 with errno set if that is not possible. */
static int
read_safely_init(void)
{
    char from = 1, to = 0;
    sampler.copies = -1;
    if (!read_safely(&to, &from, 1) && errno == ENOSYS) {
        sampler.copies = memfd_create("perf_sample", MFD_CLOEXEC);
        return sampler.copies < 0 ? -1 : 0;
    }
    return 0;
}

static void
read_safely_fini(void)
{
    if (sampler.copies >= 0) {
        close(sampler.copies);
    }
}

/* Store the Python frames of the calling thread.  The eval loop lets the thread refer
   to a _PyCFrame a few instructions before it stores the frame there.  So a pointer may
   be what an earlier function has left in that place. */
static void
store_frames(struct sample *sample)
{
    const PyThreadState *tstate = PyGILState_GetThisThreadState();
    const _PyInterpreterFrame *next = _PyPerfBase_TopFrame(tstate);
    _PyInterpreterFrame frame;
    PyCodeObject code;
    uint32_t count = 0;
    while (next != NULL && count < SAMPLE_MAX
           && read_safely(&frame, next, offsetof(_PyInterpreterFrame, localsplus))
           && read_safely(&code, _PyPerfBase_FrameCode(&frame), sizeof(code))
           && Py_IS_TYPE(&code, &PyCode_Type)) {
        sample->frames[count++] = (struct sampled_frame){
            .code = _PyPerfBase_FrameCode(&frame),
            .last = _PyPerfBase_LastInstruction(&frame),
        };
        next = _PyPerfBase_OuterFrame(&frame);
    }
    sample->frame_count = count;
}

static void
store_sample(const struct walk *walk, uintptr_t pc)
{
    size_t index = atomic_fetch_add(&sampler.used, 1);
    if (index >= sampler.capacity) {
        return;
    }
    struct sample *sample = &sampler.samples[index];
    sample->pc = pc;
    sample->last = walk->last;
    sample->count = (uint32_t)walk->count;
    sample->end = (uint8_t)walk->end;
    memcpy(sample->addresses, walk->addresses, walk->count * sizeof(uintptr_t));
    if (sampler.has_frames) {
        store_frames(sample);
    }
    sample->stored = true;
    sampled_thread.last = sample;
}

/* Let the timer of the calling thread interrupt it once, after the interval.  A timer
   that repeats itself would stop the program where a sample takes longer than the
   interval: the next signal would be there before the program's next instruction. */
static int
sampler_set_timer(void)
{
    const struct itimerspec setting = {
        .it_value.tv_sec = sampler.interval / 1000000,
        .it_value.tv_nsec = sampler.interval % 1000000 * 1000,
    };
    return timer_settime(sampled_thread.timer, 0, &setting, NULL);
}

/* Walk the stack of the interrupted function. */
static void
walk_from_context(struct walk *walk, const struct range *stack, ucontext_t *context)
{
    uintptr_t frame_pointer = (uintptr_t)CONTEXT_FP(context);
    uintptr_t return_address = (uintptr_t)CONTEXT_RA(context);
    uintptr_t at = record_at(frame_pointer);
    if (return_address != 0 && at % 8 == 0 && at >= stack->low
        && at <= stack->high - sizeof(struct record)) {
        uintptr_t saved = ((const struct record *)at)->return_address;
        if (range_has(stack, saved)) {
            struct walk rest = {.addresses = walk->addresses + 1, .max = walk->max - 1};
            walk_from(&rest, stack, saved);
            walk->addresses[0] = return_address;
            walk->count = rest.count + 1;
            walk->end = rest.end;
            walk->last = rest.last;
            return;
        }
    }
    walk_from(walk, stack, frame_pointer);
}

/* The signal handler.  All memory that it uses exists already. */
static void
take_sample(int Py_UNUSED(signal), siginfo_t *Py_UNUSED(info), void *data)
{
    ucontext_t *context = data;
    int saved_errno = errno;
    atomic_fetch_add(&sampler.handling, 1);
    bool is_on = atomic_load(&sampler.is_on);
    struct range stack = sampled_thread.stack;
    uintptr_t sp = (uintptr_t)CONTEXT_SP(context);
    if (is_on && range_has(&stack, sp)) {
        uintptr_t addresses[SAMPLE_MAX];
        struct walk walk = {.addresses = addresses, .max = SAMPLE_MAX};
        uintptr_t pc = (uintptr_t)CONTEXT_PC(context);
        stack.low = sp;             // bytes below it are dead
        walk_from_context(&walk, &stack, context);
        if (sampler.interval != 0 || !walk_is_old(&walk, pc)) {
            store_sample(&walk, pc);
        }
    }
    if (is_on && sampler.interval != 0) {
        sampler_set_timer();        // fails only if it was deleted
    }
#ifdef STEP_FLAG
    if (sampler.interval == 0) {
        CONTEXT_FLAGS(context) &= ~STEP_FLAG;
        CONTEXT_FLAGS(context) |= is_on ? STEP_FLAG : 0;
    }
#endif
    atomic_fetch_sub(&sampler.handling, 1);
    errno = saved_errno;
}

/* Make a timer that interrupts the calling thread.  It also runs while the
   thread waits, because clocks of processor time are as coarse as the kernel's
   ticks. */
static int
sampler_start_timer(void)
{
    struct sigevent event = {
        .sigev_notify = SIGEV_THREAD_ID,
        .sigev_signo = sampler.signal,
        ._sigev_un._tid = (pid_t)syscall(SYS_gettid),
    };
    timer_t *timer = &sampler.timers[sampler.timer_count];
    if (sampler.timer_count == SAMPLE_THREADS) {
        errno = EAGAIN;
        return -1;
    }
    if (timer_create(CLOCK_MONOTONIC, &event, timer) < 0) {
        return -1;
    }
    sampler.timer_count++;
    sampled_thread.timer = *timer;
    return sampler_set_timer();
}

/* perf_sample_start(interval, capacity, frames=False): begin, and keep the first
   `capacity` samples.  The interval is in microseconds.  If it is 0, the handler
   follows the chain after each instruction, and keeps a chain that differs from the one
   before. With `frames`, it also keeps what the interpreter knows of the Python frames.
   The caller keeps their code objects alive. */
static PyObject *
perf_sample_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    long interval;
    Py_ssize_t capacity;
    int frames = 0;
    if (!PyArg_ParseTuple(args, "ln|p", &interval, &capacity, &frames)) {
        return NULL;
    }
#ifndef STEP_FLAG
    if (interval == 0) {
        PyErr_SetString(PyExc_NotImplementedError, "no single steps here");
        return NULL;
    }
#endif
    if (interval < 0 || capacity <= 0 || sampler.samples != NULL) {
        PyErr_SetString(PyExc_ValueError, "out of range, or started already");
        return NULL;
    }
    if (read_safely_init() < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    void *samples = mmap(NULL, (size_t)capacity * sizeof(struct sample),
                         PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (samples == MAP_FAILED) {
        read_safely_fini();
        return PyErr_NoMemory();
    }
    sampler.samples = samples;
    sampler.capacity = (size_t)capacity;
    sampler.has_frames = frames != 0;
    sampler.interval = interval;
    sampler.signal = interval == 0 ? SIGTRAP : SIGPROF;
    sampler.text = interpreter_text();
    sampler.timer_count = 0;
    atomic_store(&sampler.used, 0);
    atomic_store(&sampler.is_on, true);
    struct sigaction action = {
        .sa_sigaction = take_sample,
        .sa_flags = SA_SIGINFO | SA_RESTART,
    };
    sigaction(sampler.signal, &action, NULL);
    Py_RETURN_NONE;
}

/* perf_sample_thread(): sample the calling thread from now on. */
static PyObject *
perf_sample_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    struct range stack;
    if (stack_of_thread(&stack) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "this thread's stack is unknown");
        return NULL;
    }
    sampled_thread.last = NULL;
    sampled_thread.stack = stack;
    int result = sampler.interval == 0 ? raise(sampler.signal)
                                       : sampler_start_timer();
    if (result != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

/* perf_sample_count(): return the number of samples. */
static PyObject *
perf_sample_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromSize_t(Py_MIN(atomic_load(&sampler.used), sampler.capacity));
}

static PyObject *
frames_as_list(const struct sample *sample)
{
    PyObject *list = PyList_New((Py_ssize_t)sample->frame_count);
    for (uint32_t i = 0; list != NULL && i < sample->frame_count; i++) {
        const struct sampled_frame *frame = &sample->frames[i];
        size_t size;
        const char *bytecode = _PyPerfBase_Bytecode(frame->code, &size);
        PyObject *pair = Py_BuildValue("On", frame->code,
                                       (const char *)frame->last - bytecode);
        if (pair == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
        }
    }
    return list;
}

/* perf_sample_stop(): end, and return the samples: tuples of the program counter,
   the list of the return addresses, leaf first, and how the chain ended, "null",
   "outside" (the stack), "misaligned", "falling" or "full".  If frames were kept, there
   is a fourth item: their list, leaf first, as pairs of the code object and the offset
   of the instruction that was begun last, in bytes, or -2 before the first one. */
static PyObject *
perf_sample_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    atomic_store(&sampler.is_on, false);
    while (sampler.timer_count > 0) {
        timer_delete(sampler.timers[--sampler.timer_count]);
    }
    if (sampler.samples == NULL) {
        return PyList_New(0);
    }
    // A signal may still be pending, so the handler remains.
    while (atomic_load(&sampler.handling) != 0) {
        sched_yield();
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < sampler.capacity
                       && sampler.samples[i].stored; i++) {
        const struct sample *sample = &sampler.samples[i];
        PyObject *item = Py_BuildValue(
            sampler.has_frames ? "NNsN" : "NNs", PyLong_FromVoidPtr((void *)sample->pc),
            addresses_as_list(sample->addresses, sample->count),
            walk_end_names[sample->end],
            sampler.has_frames ? frames_as_list(sample) : NULL);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    munmap(sampler.samples, sampler.capacity * sizeof(struct sample));
    sampler.samples = NULL;
    read_safely_fini();
    return list;
}

#endif  /* HAVE_PROFILER */


PyMethodDef _PyTestInternalCapi_PerfMethods[] = {
    {"write_perf_map_entry", write_perf_map_entry, METH_VARARGS, NULL},
    {"perf_map_state_init", perf_map_state_init, METH_NOARGS, NULL},
    {"perf_map_state_teardown", perf_map_state_teardown, METH_NOARGS, NULL},
    {"copy_perf_map_file", copy_perf_map_file, METH_O, NULL},
#if PY_VERSION_HEX < 0x030c0000
    {"compile_perf_trampoline_entry", compile_perf_trampoline_entry, METH_O, NULL},
    {"perf_trampoline_set_persist_after_fork",
     perf_trampoline_set_persist_after_fork, METH_O, NULL},
#endif
#ifdef HAVE_PROFILER
    {"perf_walk_stack", perf_walk_stack, METH_VARARGS, NULL},
    {"perf_sample_start", perf_sample_start, METH_VARARGS, NULL},
    {"perf_sample_thread", perf_sample_thread, METH_NOARGS, NULL},
    {"perf_sample_count", perf_sample_count, METH_NOARGS, NULL},
    {"perf_sample_stop", perf_sample_stop, METH_NOARGS, NULL},
#endif
    {NULL, NULL, 0, NULL},
};
