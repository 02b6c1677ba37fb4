/* Faults on demand.

   relink.py links the interpreter a second time, from the objects of the build.
   In the objects of our files, and only there, objcopy redirects each call that
   can fail to a function here:

       perf_map.o   pthread_mutex_lock  ->  perf_fault_pthread_mutex_lock
       perf_file.o  write               ->  perf_fault_write

   The function counts the call.  It calls the original function, unless this
   call must fail.  So the tested code needs no hook, and the rest of the
   interpreter meets no fault.

   The module _perf_faults says which call fails.  For faults while the
   interpreter starts, the environment says it:

       PERF_FAULTS=write:3:28              the third write() fails with ENOSPC
       PERF_FAULTS=write:3:28:forever      and so do all that follow
       PERF_FAULTS=write:1:28,ftruncate:1:5

   If a write fails with SHORT_WRITE, it takes half of the bytes, and the next
   write fails with ENOSPC.

   Releases are counted as well: of memory, mappings and descriptors.  The
   balance must be the same with a fault and without.  The program is aborted
   if a thread releases a lock that it has not taken.  In a program with
   AddressSanitizer, LeakSanitizer also checks the memory that is allocated
   here.  It does not check the rest of the interpreter, which keeps memory
   until the process ends.  */

#include "Python.h"
#include "pycore_code.h"
#include "pycore_ceval.h"
#include "pycore_unicodeobject.h"   // _PyUnicode_AsUTF8String()
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define SHORT_WRITE 1000            // no error number of any system

/* What can fail, with the names that the tests use. */
#define KINDS(KIND) \
    KIND(memory) \
    KIND(encode) \
    KIND(set_extra) \
    KIND(extra_index) \
    KIND(mmap) \
    KIND(mprotect) \
    KIND(madvise) \
    KIND(open) \
    KIND(close) \
    KIND(fstat) \
    KIND(lstat) \
    KIND(ftruncate) \
    KIND(fchmod) \
    KIND(read) \
    KIND(write) \
    KIND(fcntl) \
    KIND(getrlimit) \
    KIND(setrlimit) \
    KIND(unlink) \
    KIND(lseek) \
    KIND(atfork) \
    KIND(lock) \
    KIND(getattr_np) \
    KIND(dlopen) \
    KIND(dlsym) \
    KIND(dl_iterate)

enum kind {
#define KIND(NAME) NAME ## _KIND,
    KINDS(KIND)
#undef KIND
    KIND_COUNT
};

static struct {
    const char *name;
    atomic_uint calls;
    unsigned int turn;              // the call that fails, from 1; 0: none
    bool forever;
    int number;                     // errno
} kinds[KIND_COUNT] = {
#define KIND(NAME) {.name = #NAME},
    KINDS(KIND)
#undef KIND
};

static atomic_long blocks;
static atomic_long mappings;
static atomic_long descriptors;

/* The number of calls that failed, by kind, in this process and its forked
   children. */
static atomic_uint *hits;

static bool
fails(enum kind kind)
{
    const unsigned int call = atomic_fetch_add(&kinds[kind].calls, 1) + 1;
    const unsigned int turn = kinds[kind].turn;
    if (turn == 0 || call < turn || (call > turn && !kinds[kind].forever)) {
        return false;
    }
    atomic_fetch_add(&hits[kind], 1);
    errno = kinds[kind].number;
    return true;
}


// --- LeakSanitizer ---------------------------------------------------------

/* NULL without AddressSanitizer. */
#define IF_THERE __attribute__((weak))
extern void __lsan_disable(void) IF_THERE;
extern void __lsan_enable(void) IF_THERE;
extern int __lsan_do_recoverable_leak_check(void) IF_THERE;

/* Whether this thread must free what it allocates from now on. */
static void
watch_leaks(bool watch)
{
    if (__lsan_disable != NULL) {
        (watch ? __lsan_enable : __lsan_disable)();
    }
}


// --- Instead of the base's -------------------------------------------------

/* Since 3.12 these functions have other names. */
#if PY_VERSION_HEX >= 0x030c0000
#  define CODE_SET_EXTRA PyUnstable_Code_SetExtra
#  define REQUEST_EXTRA_INDEX PyUnstable_Eval_RequestCodeExtraIndex
#else
#  define CODE_SET_EXTRA _PyCode_SetExtra
#  define REQUEST_EXTRA_INDEX _PyEval_RequestCodeExtraIndex
#endif

#define REPLACED_(NAME) perf_fault_ ## NAME
#define REPLACED(NAME) REPLACED_(NAME)

extern void *perf_fault_PyMem_RawMalloc(size_t);
extern void *perf_fault_PyMem_RawCalloc(size_t, size_t);
extern void *perf_fault_PyMem_RawRealloc(void *, size_t);
extern void perf_fault_PyMem_RawFree(void *);
extern PyObject *perf_fault__PyUnicode_AsUTF8String(PyObject *, const char *);
extern int REPLACED(CODE_SET_EXTRA)(PyObject *, Py_ssize_t, void *);
extern Py_ssize_t REPLACED(REQUEST_EXTRA_INDEX)(freefunc);

void *
perf_fault_PyMem_RawMalloc(size_t size)
{
    watch_leaks(true);
    void *block = fails(memory_KIND) ? NULL : PyMem_RawMalloc(size);
    watch_leaks(false);
    blocks += block != NULL;
    return block;
}

void *
perf_fault_PyMem_RawCalloc(size_t count, size_t size)
{
    watch_leaks(true);
    void *block = fails(memory_KIND) ? NULL : PyMem_RawCalloc(count, size);
    watch_leaks(false);
    blocks += block != NULL;
    return block;
}

void *
perf_fault_PyMem_RawRealloc(void *old, size_t size)
{
    watch_leaks(true);
    void *block = fails(memory_KIND) ? NULL : PyMem_RawRealloc(old, size);
    watch_leaks(false);
    blocks += block != NULL && old == NULL;
    return block;
}

void
perf_fault_PyMem_RawFree(void *block)
{
    blocks -= block != NULL;
    PyMem_RawFree(block);
}

PyObject *
perf_fault__PyUnicode_AsUTF8String(PyObject *string, const char *errors)
{
    return fails(encode_KIND) ? PyErr_NoMemory()
                              : _PyUnicode_AsUTF8String(string, errors);
}

int
REPLACED(CODE_SET_EXTRA)(PyObject *code, Py_ssize_t index, void *extra)
{
    if (fails(set_extra_KIND)) {
        PyErr_NoMemory();
        return -1;
    }
    return CODE_SET_EXTRA(code, index, extra);
}

Py_ssize_t
REPLACED(REQUEST_EXTRA_INDEX)(freefunc release)
{
    return fails(extra_index_KIND) ? -1 : REQUEST_EXTRA_INDEX(release);
}


// --- Instead of the C library's --------------------------------------------

#define GOT_DESCRIPTOR(FD) (descriptors += (FD) >= 0)
#define GOT_MAPPING(PLACE) (mappings += (PLACE) != MAP_FAILED)
#include "perf_fault_calls.h"

extern int perf_fault_munmap(void *, size_t);
extern int perf_fault_mprotect(void *, size_t, int);
extern int perf_fault_madvise(void *, size_t, int);
extern int perf_fault_close(int);
extern int perf_fault_lstat(const char *, struct stat *);
extern int perf_fault_getrlimit(int, struct rlimit *);
extern int perf_fault_setrlimit(int, const struct rlimit *);
extern int perf_fault_unlink(const char *);
extern off_t perf_fault_lseek(int, off_t, int);
extern int perf_fault_pthread_atfork(void (*)(void), void (*)(void), void (*)(void));
extern int perf_fault_pthread_mutex_lock(pthread_mutex_t *);
extern int perf_fault_pthread_mutex_unlock(pthread_mutex_t *);
extern int perf_fault_pthread_getattr_np(pthread_t, pthread_attr_t *);
extern void *perf_fault_dlopen(const char *, int);
extern void *perf_fault_dlsym(void *, const char *);
extern int perf_fault_dl_iterate_phdr(
    int (*)(struct dl_phdr_info *, size_t, void *), void *);

int
perf_fault_munmap(void *memory, size_t size)
{
    mappings--;
    return munmap(memory, size);
}

int
perf_fault_mprotect(void *memory, size_t size, int protection)
{
    return fails(mprotect_KIND) ? -1 : mprotect(memory, size, protection);
}

int
perf_fault_madvise(void *memory, size_t size, int advice)
{
    return fails(madvise_KIND) ? -1 : madvise(memory, size, advice);
}

/* As on Linux: the descriptor is closed even if an error is reported. */
int
perf_fault_close(int fd)
{
    int result = close(fd);
    descriptors -= result == 0;
    return fails(close_KIND) ? -1 : result;
}

int
perf_fault_fstat(int fd, struct stat *status)
{
    return fails(fstat_KIND) ? -1 : fstat(fd, status);
}

int
perf_fault_lstat(const char *path, struct stat *status)
{
    return fails(lstat_KIND) ? -1 : lstat(path, status);
}

ssize_t
perf_fault_write(int fd, const void *bytes, size_t size)
{
    static atomic_bool was_short;
    if (fd == STDERR_FILENO) {
        return write(fd, bytes, size);      // the warning
    }
    if (was_short) {
        was_short = false;
        errno = ENOSPC;
        return -1;
    }
    if (!fails(write_KIND)) {
        return write(fd, bytes, size);
    }
    if (errno != SHORT_WRITE) {
        return -1;
    }
    was_short = true;
    return write(fd, bytes, (size + 1) / 2);
}

int
perf_fault_getrlimit(int resource, struct rlimit *limit)
{
    return fails(getrlimit_KIND) ? -1 : getrlimit(resource, limit);
}

int
perf_fault_setrlimit(int resource, const struct rlimit *limit)
{
    return fails(setrlimit_KIND) ? -1 : setrlimit(resource, limit);
}

int
perf_fault_unlink(const char *path)
{
    return fails(unlink_KIND) ? -1 : unlink(path);
}

off_t
perf_fault_lseek(int fd, off_t offset, int from)
{
    return fails(lseek_KIND) ? -1 : lseek(fd, offset, from);
}

int
perf_fault_pthread_atfork(void (*prepare)(void), void (*parent)(void),
                          void (*child)(void))
{
    return fails(atfork_KIND) ? errno : pthread_atfork(prepare, parent, child);
}

/* Whether this thread has taken the lock.  Our files have only one. */
static _Thread_local bool has_lock;

int
perf_fault_pthread_mutex_lock(pthread_mutex_t *lock)
{
    const int result = fails(lock_KIND) ? errno : pthread_mutex_lock(lock);
    has_lock |= result == 0;
    return result;
}

int
perf_fault_pthread_mutex_unlock(pthread_mutex_t *lock)
{
    if (!has_lock) {
        abort();
    }
    has_lock = false;
    return pthread_mutex_unlock(lock);
}

int
perf_fault_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{
    return fails(getattr_np_KIND) ? errno
                                  : pthread_getattr_np(thread, attributes);
}

void *
perf_fault_dlopen(const char *path, int flags)
{
    return fails(dlopen_KIND) ? NULL : dlopen(path, flags);
}

void *
perf_fault_dlsym(void *library, const char *name)
{
    return fails(dlsym_KIND) ? NULL : dlsym(library, name);
}

/* Fails by finding nothing. */
int
perf_fault_dl_iterate_phdr(int (*visit)(struct dl_phdr_info *, size_t, void *),
                           void *data)
{
    return fails(dl_iterate_KIND) ? 0 : dl_iterate_phdr(visit, data);
}


// --- The module ------------------------------------------------------------

static int
kind_from_name(const char *name, size_t length)
{
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        if (strlen(kinds[kind].name) == length
                && memcmp(kinds[kind].name, name, length) == 0) {
            return kind;
        }
    }
    return -1;
}

static void
kind_arm(int kind, unsigned int turn, int number, bool forever)
{
    kinds[kind].calls = 0;
    kinds[kind].turn = turn;
    kinds[kind].number = number;
    kinds[kind].forever = forever;
}

PyDoc_STRVAR(arm_doc,
"arm(kind, turn, errno, forever)\n--\n\n"
"Let the call of that turn, counted from now and from 1, fail.");

static PyObject *
faults_arm(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    const char *name;
    int turn, number, forever;
    if (!PyArg_ParseTuple(arguments, "siip", &name, &turn, &number, &forever)) {
        return NULL;
    }
    int kind = kind_from_name(name, strlen(name));
    if (kind < 0) {
        PyErr_SetString(PyExc_ValueError, name);
        return NULL;
    }
    kind_arm(kind, (unsigned int)turn, number, forever);
    Py_RETURN_NONE;
}

/* A dict from the names of the kinds to numbers. */
static PyObject *
dict_from_numbers(const unsigned int *numbers)
{
    PyObject *result = PyDict_New();
    for (int kind = 0; kind < KIND_COUNT && result != NULL; kind++) {
        PyObject *value = PyLong_FromUnsignedLong(numbers[kind]);
        if (value == NULL
                || PyDict_SetItemString(result, kinds[kind].name, value) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(value);
    }
    return result;
}

PyDoc_STRVAR(reset_doc,
"reset()\n--\n\n"
"From now on nothing fails.  Return the numbers of calls by kind.");

static PyObject *
faults_reset(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    unsigned int calls[KIND_COUNT];
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        calls[kind] = kinds[kind].calls;
        kind_arm(kind, 0, 0, false);
    }
    return dict_from_numbers(calls);
}

PyDoc_STRVAR(hits_doc,
"hits()\n--\n\n"
"Return how many calls have failed, by kind, in this process and those forked\n"
"from it since this was called last.");

static PyObject *
faults_hits(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    unsigned int numbers[KIND_COUNT];
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        numbers[kind] = atomic_exchange(&hits[kind], 0);
    }
    return dict_from_numbers(numbers);
}

PyDoc_STRVAR(balance_doc,
"balance()\n--\n\n"
"Return how many blocks of memory, mappings and descriptors are in use.");

static PyObject *
faults_balance(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("lll", (long)blocks, (long)mappings, (long)descriptors);
}

PyDoc_STRVAR(leaks_doc,
"leaks()\n--\n\n"
"Return whether there is memory that nothing points to, or None where there is\n"
"no LeakSanitizer.  It tells on stderr what memory that is.");

static PyObject *
faults_leaks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (__lsan_do_recoverable_leak_check == NULL) {
        Py_RETURN_NONE;
    }
    return PyBool_FromLong(__lsan_do_recoverable_leak_check());
}

static PyMethodDef methods[] = {
    {"arm", faults_arm, METH_VARARGS, arm_doc},
    {"reset", faults_reset, METH_NOARGS, reset_doc},
    {"hits", faults_hits, METH_NOARGS, hits_doc},
    {"balance", faults_balance, METH_NOARGS, balance_doc},
    {"leaks", faults_leaks, METH_NOARGS, leaks_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_perf_faults",
    .m_size = -1,
    .m_methods = methods,
};

static PyObject *
module_init(void)
{
    PyObject *m = PyModule_Create(&module);
    if (m != NULL
            && PyModule_AddIntConstant(m, "SHORT_WRITE", SHORT_WRITE) < 0) {
        Py_CLEAR(m);
    }
    return m;
}

static void
arm_from_environment(const char *wanted)
{
    while (wanted != NULL && *wanted != '\0') {
        const char *end = strchr(wanted, ':');
        unsigned int turn;
        int number, used = 0;
        int kind = end == NULL ? -1
                   : kind_from_name(wanted, (size_t)(end - wanted));
        if (kind < 0 || sscanf(end, ":%u:%d%n", &turn, &number, &used) != 2) {
            fprintf(stderr, "PERF_FAULTS: %s?\n", wanted);
            abort();
        }
        wanted = end + used;
        const bool forever = strncmp(wanted, ":forever", 8) == 0;
        wanted += forever ? 8 : 0;
        wanted += *wanted == ',';
        kind_arm(kind, turn, number, forever);
    }
}

/* Runs before main(), early enough to register the module. */
__attribute__((constructor)) static void
start(void)
{
    hits = mmap(NULL, KIND_COUNT * sizeof(*hits), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (hits == MAP_FAILED
            || PyImport_AppendInittab("_perf_faults", module_init) < 0) {
        abort();
    }
    arm_from_environment(getenv("PERF_FAULTS"));
    watch_leaks(false);
}
