/* The perf map: /tmp/perf-PID.map

       perf record -F 9999 -g python -X perf script.py
       perf report -g
       samply record python -X perf script.py

   When perf meets an address in executable memory that no file backs, it looks
   into /tmp/perf-PID.map for a line

       START SIZE NAME

   with START and SIZE in hexadecimal (Linux source tree,
   tools/perf/Documentation/jit-interface.txt).  perf reads the file when the
   report is made, so it outlives the process; a map has no notion of time, so
   an address that stands in it never gets a second meaning.

   The map is shared by all who make machine code in this process: our
   trampolines, and through the public functions any JIT compiler, on threads
   that need not hold the GIL.  One lock guards it.

   After fork() the child writes a map of its own.  The file that it inherits
   remains known for a while, as `inherited`: with "persist after fork" the
   child's map begins with a copy of it, as long as it was at the fork.  */

#include "Python.h"
#include "pycore_perf_file.h"
#include "pycore_perf_map.h"
#include "pycore_perf_text.h"
#include <pthread.h>

enum { DONE = 0, NOT_OPEN = -1, NO_LOCK = -2 };     // the public results

static struct {
    pthread_mutex_t lock;
    struct _PyPerfFile file;
    struct _PyPerfFile inherited;   // the parent's; pid 0: none
} map = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .file = {.fd = -1},
    .inherited = {.fd = -1},
};


// --- The file; the caller holds the lock -----------------------------------

/* If this process is a child that still has its parent's file: leave it. */
static void
map_leave_parent(void)
{
    if (map.file.pid != 0 && map.file.pid != _PyPerfFile_GetPid()) {
        map.inherited = map.file;
        _PyPerfFile_Close(&map.file);
        map.file = (struct _PyPerfFile){.fd = -1};
    }
}

static int
map_open(struct _PyPerfError *error)
{
    map_leave_parent();
    if (map.file.fd >= 0) {
        return 0;
    }
    char path[sizeof(map.file.path)];
    PyOS_snprintf(path, sizeof(path), "/tmp/perf-%ld.map",
                  (long)_PyPerfFile_GetPid());
    return _PyPerfFile_Open(&map.file, path, error);
}

static int
map_write(const struct _PyPerfBuffer *line, struct _PyPerfError *error)
{
    if (line->failed) {
        return _PyPerfError_Set(error, "announce a function", "", NULL, ENOMEM);
    }
    if (map_open(error) < 0) {
        return -1;
    }
    return _PyPerfFile_Append(&map.file, line->bytes, line->length, error);
}

static void
line_start(struct _PyPerfBuffer *line, const void *address, size_t size)
{
    _PyPerfBuffer_Init(line);
    _PyPerfBuffer_AppendHex(line, (uintptr_t)address);
    _PyPerfBuffer_Append(line, " ", 1);
    _PyPerfBuffer_AppendHex(line, size);
    _PyPerfBuffer_Append(line, " ", 1);
}


// --- The output of the front desk ------------------------------------------

static int
lock_failed(struct _PyPerfError *error, int number)
{
    return _PyPerfError_Set(error, "lock the perf map", "", NULL, number);
}

static int
output_open(_PyPerfEdition *edition, struct _PyPerfError *error)
{
    int number = pthread_mutex_lock(&map.lock);
    if (number != 0) {
        return lock_failed(error, number);
    }
    int result = map_open(error);
    *edition = map.file.edition;
    pthread_mutex_unlock(&map.lock);
    return result;
}

static int
output_announce(const struct _PyPerfRegion *region, _PyPerfEdition *edition,
                struct _PyPerfError *error)
{
    struct _PyPerfBuffer line;
    line_start(&line, region->address, region->size);
    _PyPerfBuffer_AppendSymbol(&line, region);
    _PyPerfBuffer_Append(&line, "\n", 1);

    int number = pthread_mutex_lock(&map.lock);
    int result;
    if (number != 0) {
        result = lock_failed(error, number);
    }
    else {
        result = map_write(&line, error);
        *edition = map.file.edition;
        pthread_mutex_unlock(&map.lock);
    }
    _PyPerfBuffer_Fini(&line);
    return result;
}

static int
output_reopen_in_child(bool keep, _PyPerfEdition *edition,
                       struct _PyPerfError *error)
{
    int number = pthread_mutex_lock(&map.lock);
    if (number != 0) {
        return lock_failed(error, number);
    }
    int result = map_open(error);
    if (result == 0 && keep && map.inherited.pid != 0) {
        result = _PyPerfFile_AppendFile(&map.file, map.inherited.path,
                                        &map.inherited, error);
        if (result == 0) {
            map.file.edition = map.inherited.edition;
        }
    }
    *edition = map.file.edition;
    map.inherited.pid = 0;
    pthread_mutex_unlock(&map.lock);
    return result;
}

const struct _PyPerfOutput _PyPerfMap_Output = {
    .name = "perf",
    .open = output_open,
    .announce = output_announce,
    .reopen_in_child = output_reopen_in_child,
    .close = PyUnstable_PerfMapState_Fini,
};


// --- fork ------------------------------------------------------------------

void
_PyPerfMap_BeforeFork(void)
{
    pthread_mutex_lock(&map.lock);
    _PyPerfFile_IsHeld(&map.file);      // the size that the child will know
}

void
_PyPerfMap_AfterForkParent(void)
{
    pthread_mutex_unlock(&map.lock);
}

void
_PyPerfMap_AfterForkChild(void)
{
    // The thread that may have held it is not in this process.
    map.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    map_leave_parent();
}


// --- The public functions --------------------------------------------------

int
PyUnstable_PerfMapState_Init(void)
{
    struct _PyPerfError error;
    if (pthread_mutex_lock(&map.lock) != 0) {
        return NO_LOCK;
    }
    int result = map_open(&error);
    pthread_mutex_unlock(&map.lock);
    return result < 0 ? NOT_OPEN : DONE;
}

int
PyUnstable_WritePerfMapEntry(const void *code_addr, unsigned int size,
                             const char *entry_name)
{
    struct _PyPerfError error;
    struct _PyPerfBuffer line;
    line_start(&line, code_addr, size);
    _PyPerfBuffer_AppendEscaped(&line, (struct _PyPerfText){
        .bytes = entry_name, .length = strlen(entry_name)});
    _PyPerfBuffer_Append(&line, "\n", 1);

    int result = NO_LOCK;
    if (pthread_mutex_lock(&map.lock) == 0) {
        result = map_write(&line, &error) < 0 ? NOT_OPEN : DONE;
        pthread_mutex_unlock(&map.lock);
    }
    _PyPerfBuffer_Fini(&line);
    return result;
}

int
PyUnstable_CopyPerfMapFile(const char *parent_filename)
{
    struct _PyPerfError error;
    if (pthread_mutex_lock(&map.lock) != 0) {
        return NO_LOCK;
    }
    int result = map_open(&error);
    if (result == 0) {
        result = _PyPerfFile_AppendFile(&map.file, parent_filename, NULL, &error);
    }
    pthread_mutex_unlock(&map.lock);
    return result < 0 ? NOT_OPEN : DONE;
}

void
PyUnstable_PerfMapState_Fini(void)
{
    if (pthread_mutex_lock(&map.lock) == 0) {
        map_leave_parent();
        _PyPerfFile_Close(&map.file);
        pthread_mutex_unlock(&map.lock);
    }
}
