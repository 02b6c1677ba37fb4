/* The perf map: /tmp/perf-PID.map

       perf record -F 9999 -g python -X perf script.py
       perf report -g
       samply record python -X perf script.py

   When perf finds an address in executable memory that no file backs, it reads
   /tmp/perf-PID.map and searches it for a line

       START SIZE NAME

   with START and SIZE in hexadecimal (Linux source tree,
   tools/perf/Documentation/jit-interface.txt).  perf reads the file when it makes
   the report, so the file outlives the process.  A map has no notion of time, so
   an address in it never gets a second name.

   The trampolines share the map with every JIT compiler in this process that calls
   the public functions, on any thread, with or without the GIL.  One lock guards
   the map.

   After fork() the child writes its own map.  Until it has opened that, `inherited`
   describes the parent's file.  With "persist after fork" the child's map begins with a
   copy of what the parent's file contained at the fork.

   C code may fork without the hooks of os.fork(), on any thread, while another thread
   runs a function of this file.  So each function compares process ids.  In a child it
   initializes the lock again and opens the child's own file, whatever state the child
   has inherited.  This depends on the order of some stores (test_raw_fork).  */

#include "Python.h"
#include "pycore_perf_buffer.h"
#include "pycore_perf_file.h"
#include "pycore_perf_map.h"
#include "pycore_perf_text.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    _Atomic(pid_t) lock_owner;      // id of the process whose threads use the lock
    struct _PyPerfFile file;
    struct _PyPerfBuffer buffer;    // entries for that file
    struct _PyPerfFile inherited;   // the parent's; pid 0: none
    bool is_locked_for_fork;        // by _PyPerfMap_BeforeFork(); the GIL protects this
    bool has_foreign;               // the file has entries from the public functions
} map = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .file = {.fd = {.number = -1}},
    .inherited = {.fd = {.number = -1}},
};


// --- The lock --------------------------------------------------------------

/* Initialize the lock again if this process is a child that has inherited it.  A thread
   of the parent may have held it, and the child does not have that thread.

   The first thread of the child that calls this initializes the lock, and other threads
   wait.  Meanwhile lock_owner is the negative id of the child.  If the child forks at
   that moment, the id differs in the new child, which starts again. */
static void
lock_renew(void)
{
    const pid_t pid = getpid();
    pid_t owner = atomic_load(&map.lock_owner);
    while (owner != pid) {
        if (owner == -pid) {
            sched_yield();
            owner = atomic_load(&map.lock_owner);
        }
        else if (atomic_compare_exchange_strong(&map.lock_owner, &owner, -pid)) {
            map.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
            atomic_store(&map.lock_owner, pid);
            owner = pid;
        }
    }
}

/* Take the lock.  Returns 0, or an error number if that fails. */
static int
lock_take(void)
{
    lock_renew();
    return pthread_mutex_lock(&map.lock);
}

static void
lock_drop(void)
{
    pthread_mutex_unlock(&map.lock);
}


// --- The file (the caller holds the lock) ----------------------------------

/* Append the entries of the map at `path`.  `of` is explained at
   _PyPerfFile_AppendFile().  Returns 0, or -1 with *error filled in. */
static int
map_copy(const char *path, const struct _PyPerfFile *of,
         struct _PyPerfError *error)
{
    int result;
    do {
        result = _PyPerfFile_AppendFile(&map.file, path, of, error);
    } while (result == _PyPerfFile_STARTED_AFRESH);
    return result;
}

/* If this process is a child that still has its parent's file, close that file.
   map.file.pid remains the parent's until a file is opened, so a child that is
   forked within this function does it again. */
static void
map_leave_parent(void)
{
    if (map.file.pid != 0 && map.file.pid != map.lock_owner) {
        map.inherited = map.file;
        map.has_foreign = false;
        _PyPerfBuffer_Drop(&map.buffer);
        _PyPerfFile_Close(&map.file);
    }
}

/* Open the map of this process unless it is open.  Returns 0, or -1 with *error
   filled in. */
static int
map_open(struct _PyPerfError *error)
{
    map_leave_parent();
    if (map.file.fd.number >= 0) {
        return 0;
    }
    char path[sizeof(map.file.path)];
    PyOS_snprintf(path, sizeof(path), "/tmp/perf-%ld.map",
                  (long)map.lock_owner);
    return _PyPerfFile_Open(&map.file, path, error);
}

/* Append whole lines, opening the map if need be.  Returns 0, or -1 with *error filled
   in. */
static int
map_write(const struct _PyPerfTextWriter *text, struct _PyPerfError *error)
{
    if (text->failed) {
        return _PyPerfError_Set(error, "announce a function", "", NULL, ENOMEM);
    }
    int result;
    do {
        if (map_open(error) < 0) {
            return -1;
        }
        result = _PyPerfBuffer_Append(&map.buffer, &map.file, text->bytes,
                                      text->length, error);
    } while (result == _PyPerfFile_STARTED_AFRESH);
    return result;
}

/* Append the first two fields of a line.  The caller appends the name and the
   newline. */
static void
append_range(struct _PyPerfTextWriter *text, const void *address, size_t size)
{
    _PyPerfTextWriter_AppendHex(text, (uintptr_t)address, ' ');
    _PyPerfTextWriter_AppendHex(text, size, ' ');
}

/* A name that is in the text already. */
struct symbol {
    size_t start;
    size_t length;                  // 0: it is not there yet
};

/* Append the name of a function.  Formats it once. */
static void
append_symbol(struct _PyPerfTextWriter *text, const struct _PyPerfRegion *region,
              struct symbol *symbol)
{
    if (symbol->length == 0) {
        symbol->start = text->length;
        _PyPerfTextWriter_AppendSymbol(text, region);
        symbol->length = text->length - symbol->start;
    }
    else {
        _PyPerfTextWriter_AppendAgain(text, symbol->start, symbol->length);
    }
}

/* Append an entry for each run of instructions of one line. */
static void
append_lines(struct _PyPerfTextWriter *text, const struct _PyPerfRegion *region,
             struct symbol *symbol)
{
    for (size_t i = 0; i < region->line_count; i++) {
        const struct _PyPerfLine *line = &region->lines[i];
        const size_t end = i + 1 < region->line_count ? region->lines[i + 1].start
                                                      : region->line_size;
        append_range(text, (const char *)region->line_address + line->start,
                     end - line->start);
        append_symbol(text, region, symbol);
        if (line->line == -1) {
            _PyPerfTextWriter_Append(text, "\n", 1);
        }
        else {
            _PyPerfTextWriter_Append(text, ":", 1);
            _PyPerfTextWriter_AppendDecimal(text, (uintptr_t)line->line, '\n');
        }
    }
}


// --- The output of the profiler ------------------------------------------

static int
lock_failed(struct _PyPerfError *error, int number)
{
    return _PyPerfError_Set(error, "lock the perf map", "", NULL, number);
}

static int
output_open(_PyPerfGeneration *generation, struct _PyPerfError *error)
{
    int number = lock_take();
    if (number != 0) {
        return lock_failed(error, number);
    }
    int result = map_open(error);
    *generation = map.file.generation;
    lock_drop();
    return result;
}

static int
output_set_buffering(bool on, _PyPerfGeneration *generation, struct _PyPerfError *error)
{
    int number = lock_take();
    if (number != 0) {
        return lock_failed(error, number);
    }
    int result = 0;
    map_leave_parent();
    if (on) {
        _PyPerfBuffer_Start(&map.buffer);
    }
    else if (_PyPerfBuffer_Stop(&map.buffer, &map.file, error) < 0) {
        result = -1;
    }
    *generation = map.file.generation;
    lock_drop();
    return result;
}

static int
output_announce(const struct _PyPerfRegion *region, _PyPerfGeneration *generation,
                struct _PyPerfError *error)
{
    struct _PyPerfTextWriter text;
    struct symbol symbol = {0, 0};
    _PyPerfTextWriter_Init(&text);
    if (region->address != NULL) {
        append_range(&text, region->address, region->size);
        append_symbol(&text, region, &symbol);
        _PyPerfTextWriter_Append(&text, "\n", 1);
    }
    if (region->line_address != NULL) {
        append_lines(&text, region, &symbol);
    }

    // The output was opened in this process, so lock_renew() is not needed.
    int number = pthread_mutex_lock(&map.lock);
    int result;
    if (number != 0) {
        result = lock_failed(error, number);
    }
    else {
        result = map_write(&text, error);
        *generation = map.file.generation;
        lock_drop();
    }
    _PyPerfTextWriter_Fini(&text);
    return result;
}

static int
output_reopen_in_child(bool keep, _PyPerfGeneration *generation,
                       struct _PyPerfError *error)
{
    int number = lock_take();
    if (number != 0) {
        return lock_failed(error, number);
    }
    int result = map_open(error);
    if (result == 0 && keep && map.inherited.pid != 0) {
        result = map_copy(map.inherited.path, &map.inherited, error);
        if (result == 0) {
            map.file.generation = map.inherited.generation;
        }
    }
    if (result == 0) {
        map.inherited.pid = 0;
    }
    *generation = map.file.generation;
    lock_drop();
    return result;
}

/* Remove the map.  Keep the lock if that is done: other threads must not write. */
static bool
output_withdraw(void)
{
    if (lock_take() != 0) {
        return false;
    }
    if (!map.has_foreign && _PyPerfFile_Withdraw(&map.file)) {
        return true;
    }
    lock_drop();
    return false;
}

static int
output_put_back(struct _PyPerfError *error)
{
    int result = _PyPerfFile_PutBack(&map.file, error);
    lock_drop();
    return result;
}

void
_PyPerfMap_Close(void)
{
    struct _PyPerfError ignored;
    if (lock_take() == 0) {
        map_leave_parent();
        _PyPerfBuffer_Stop(&map.buffer, &map.file, &ignored);
        _PyPerfFile_Close(&map.file);
        lock_drop();
    }
}

const struct _PyPerfOutput _PyPerfMap_Output = {
    .mode = _PyPerf_MAP,
    .name = "perf",
    .open = output_open,
    .set_buffering = output_set_buffering,
    .announce = output_announce,
    .reopen_in_child = output_reopen_in_child,
    .withdraw = output_withdraw,
    .put_back = output_put_back,
    .close = _PyPerfMap_Close,
};


// --- fork ------------------------------------------------------------------

void
_PyPerfMap_BeforeFork(void)
{
    map.is_locked_for_fork = lock_take() == 0;
    if (map.is_locked_for_fork) {
        _PyPerfFile_OwnsDescriptor(&map.file);      // updates the size
    }
}

void
_PyPerfMap_AfterForkParent(void)
{
    if (map.is_locked_for_fork) {
        lock_drop();
    }
}

void
_PyPerfMap_AfterForkChild(void)
{
    if (lock_take() == 0) {
        map_leave_parent();
        lock_drop();
    }
}


// --- What the public functions do (perf_capi.c) -----------------------------

int
_PyPerfMap_Open(void)
{
    struct _PyPerfError error;
    if (lock_take() != 0) {
        return _PyPerfMap_NO_LOCK;
    }
    int result = map_open(&error);
    lock_drop();
    return result < 0 ? _PyPerfMap_NOT_OPEN : _PyPerfMap_DONE;
}

int
_PyPerfMap_WriteEntry(const void *address, size_t size, struct _PyPerfText name)
{
    struct _PyPerfError error;
    struct _PyPerfTextWriter line;
    _PyPerfTextWriter_Init(&line);
    append_range(&line, address, size);
    _PyPerfTextWriter_AppendEscaped(&line, name);
    _PyPerfTextWriter_Append(&line, "\n", 1);

    int result = _PyPerfMap_NO_LOCK;
    if (lock_take() == 0) {
        result = map_write(&line, &error) < 0 ? _PyPerfMap_NOT_OPEN
                                              : _PyPerfMap_DONE;
        map.has_foreign = true;
        lock_drop();
    }
    _PyPerfTextWriter_Fini(&line);
    return result;
}

int
_PyPerfMap_CopyFile(const char *path)
{
    struct _PyPerfError error;
    if (lock_take() != 0) {
        return _PyPerfMap_NO_LOCK;
    }
    int result = map_open(&error);
    if (result == 0) {
        result = map_copy(path, NULL, &error);
        map.has_foreign = true;
    }
    lock_drop();
    return result < 0 ? _PyPerfMap_NOT_OPEN : _PyPerfMap_DONE;
}
