/* Files in /tmp that are ours alone.

   The name of a perf map is known in advance and /tmp belongs to everybody, so
   what lies there already may be a trap: a link to a file that we would ruin,
   a fifo that would hang us, a file of somebody else.  And the descriptor
   lives in a program that knows nothing of it and may close all descriptors
   it finds, then open its own files under the same numbers.  The rules:

   - Open without following links, without waiting, without emptying.  Look at
     what was opened.  Only a regular file of our own user with one name is
     emptied and written.
   - A process empties a file once.  If it closes and opens it again, the file
     is continued, provided that it is still the same one.
   - Keep the descriptor out of the range that programs use, and look at what
     it refers to before we write.  If it is no longer ours, leave it alone and
     open the file again.  A look costs half as much as the write, so in a burst
     of writes it is good for 100 microseconds, unless os.close(), os.closerange()
     or os.dup2() were called meanwhile.  A C library that closes descriptors
     would have to open five hundred others in that time before one of them got
     our number.
   - Write with one call, to the end (O_APPEND).  Nothing waits in a buffer, so
     neither SIGKILL nor fork() can lose or double anything.  If the disk takes
     only a part, the part is taken back, at the latest before the next write.
     The limit on file sizes is ours to respect: where SIGXFSZ is not ignored,
     running into it kills.
   - While the interpreter starts up, before it runs anything of the program, what
     is to be written is gathered and written in few pieces: two hundred calls
     would make it start noticeably later.  */

#include "Python.h"
#include "pycore_perf_file.h"
#include "pycore_perf_os.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* Programs count on getting the lowest free numbers, list them up to their limit
   and close them.  Our number is beyond the limit, or, where that cannot be or
   would make the kernel's table large, at least high. */
#define FIRST_DESCRIPTOR 512
#define LARGEST_LIMIT 32768

#define LOOK_INTERVAL 100000        // nanoseconds

unsigned int _PyPerfFd_Changes;

_PyPerfGeneration
_PyPerfGeneration_Next(void)
{
    static atomic_uint_fast64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}



// --- The process -----------------------------------------------------------

/* The process's id is cached where a child finds 0: in a page that the kernel
   wipes when the process is copied, in whatever way.  Where there are no such pages
   the kernel is asked each time. */
static _Atomic(pid_t *) known_pid;
static pid_t unknown_pid;           // known_pid points here: there is no page

static pid_t *
pid_cache_new(void)
{
#ifdef MADV_WIPEONFORK
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    const int no_advice = -1;
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return &unknown_pid;
    }
    // Emulators (qemu-user 7) accept all advice and follow none.
    if (madvise(page, size, MADV_WIPEONFORK) == 0
            && madvise(page, size, no_advice) < 0) {
        return page;
    }
    munmap(page, size);
#endif
    return &unknown_pid;
}

pid_t
_PyPerfFile_GetPid(void)
{
    pid_t *cache = atomic_load_explicit(&known_pid, memory_order_acquire);
    if (cache == NULL) {
        cache = pid_cache_new();
        atomic_store_explicit(&known_pid, cache, memory_order_release);
    }
    if (cache == &unknown_pid) {
        return getpid();
    }
    if (*cache == 0) {
        *cache = getpid();
    }
    return *cache;
}


// --- Opening ---------------------------------------------------------------

/* Why we do not write to the file that *status describes, or NULL if we do. */
static const char *
file_refusal(const struct stat *status)
{
    if (S_ISLNK(status->st_mode)) {
        return "it is a symbolic link";
    }
    if (!S_ISREG(status->st_mode)) {
        return "it is not a regular file";
    }
    if (status->st_uid != geteuid()) {
        return "it belongs to another user";
    }
    if (status->st_nlink > 1) {
        return "it has another name (a hard link)";
    }
    return NULL;
}

static bool
file_is_same(const struct _PyPerfFile *file, const struct stat *status)
{
    return status->st_dev == file->device && status->st_ino == file->inode;
}

bool
_PyPerfFile_OwnsDescriptor(struct _PyPerfFile *file)
{
    struct stat status;
    if (file->fd < 0 || fstat(file->fd, &status) < 0
            || !file_is_same(file, &status)) {
        return false;
    }
    if (!file->has_partial_entry) {
        file->size = status.st_size;
    }
    return true;
}

/* Duplicate `fd` to a number of at least `minimum`.  Returns -1 if it has none. */
static int
descriptor_duplicate(int fd, rlim_t minimum)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, (int)minimum);
}

/* The same for a number beyond the process's limit, which is raised for a
   moment: loops that end at the limit do not find it, and open() will not give
   the number to anybody else. */
static int
descriptor_duplicate_beyond(int fd, const struct rlimit *limit)
{
    const rlim_t minimum = Py_MAX(limit->rlim_cur, FIRST_DESCRIPTOR);
    const struct rlimit raised = {
        .rlim_cur = minimum + 8,
        .rlim_max = Py_MAX(limit->rlim_max, minimum + 8),   // root may
    };
    if (limit->rlim_cur > LARGEST_LIMIT
            || setrlimit(RLIMIT_NOFILE, &raised) < 0) {
        return -1;
    }
    int high = descriptor_duplicate(fd, minimum);
    setrlimit(RLIMIT_NOFILE, limit);
    return high;
}

/* Move `fd` to where it is in nobody's way.  Returns its new number. */
static int
descriptor_move(int fd)
{
    struct rlimit limit;
    int high = -1;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        high = descriptor_duplicate_beyond(fd, &limit);
        if (high < 0) {
            high = descriptor_duplicate(
                fd, Py_MIN(limit.rlim_cur / 4 * 3, FIRST_DESCRIPTOR));
        }
    }
    if (high < 0) {
        return fd;
    }
    close(fd);
    return high;
}

static int
descriptor_open(const char *path, struct _PyPerfError *error)
{
    int fd;
    do {
        fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW
                        | O_NONBLOCK | O_NOCTTY, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0) {
        return descriptor_move(fd);
    }
    struct stat status;
    int number = errno;
    const char *reason = NULL;
    if (lstat(path, &status) == 0) {
        reason = file_refusal(&status);
    }
    return _PyPerfError_Set(error, "open", path, reason, number);
}

int
_PyPerfFile_Open(struct _PyPerfFile *file, const char *path,
                 struct _PyPerfError *error)
{
    int fd = descriptor_open(path, error);
    if (fd < 0) {
        return -1;
    }
    struct stat status;
    if (fstat(fd, &status) < 0) {
        _PyPerfError_Set(error, "open", path, NULL, errno);
        goto fail;
    }
    const char *reason = file_refusal(&status);
    if (reason != NULL) {
        _PyPerfError_Set(error, "open", path, reason, 0);
        goto fail;
    }
    if (file->pid == _PyPerfFile_GetPid() && file_is_same(file, &status)
            && status.st_size >= file->size) {
        if (!file->has_partial_entry) {
            file->size = status.st_size;
        }
    }
    else {
        // Not if it is empty: ext4 syncs files that were emptied on close().
        if ((status.st_size > 0 && ftruncate(fd, 0) < 0)
                || fchmod(fd, 0600) < 0) {
            _PyPerfError_Set(error, "empty", path, NULL, errno);
            goto fail;
        }
        if (file->buffer != NULL) {
            _PyPerfFile_StartBuffering(file);   // without what waits: it is of
                                                //   the generation before
        }
        file->size = 0;
        file->has_partial_entry = false;
        file->generation = _PyPerfGeneration_Next();
    }
    file->fd = fd;
    file->pid = _PyPerfFile_GetPid();
    file->device = status.st_dev;
    file->inode = status.st_ino;
    if (file->path != path) {
        PyOS_snprintf(file->path, sizeof(file->path), "%s", path);
    }
    return 0;

fail:
    close(fd);
    return -1;
}

void
_PyPerfFile_Close(struct _PyPerfFile *file)
{
    struct _PyPerfError ignored;
    _PyPerfFile_StopBuffering(file, &ignored);
    if (_PyPerfFile_OwnsDescriptor(file)) {
        close(file->fd);
    }
    file->fd = -1;
}


// --- Writing ---------------------------------------------------------------

/* Append the bytes; *written counts those that got there, also on failure. */
static int
file_write(struct _PyPerfFile *file, const char *bytes, size_t length,
           off_t *written, struct _PyPerfError *error)
{
    if ((off_t)length > file->limit - file->size - *written) {
        return _PyPerfError_Set(error, "write", file->path, NULL, EFBIG);
    }
    while (length > 0) {
        ssize_t n = write(file->fd, bytes, length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return _PyPerfError_Set(error, "write", file->path, NULL,
                                    n < 0 ? errno : ENOSPC);
        }
        bytes += n;
        length -= (size_t)n;
        *written += n;
    }
    return 0;
}

/* Take back the last `written` bytes. */
static void
file_undo_write(struct _PyPerfFile *file, off_t written)
{
    struct stat status;
    if (written > 0 && (fstat(file->fd, &status) < 0
                        || ftruncate(file->fd, status.st_size - written) < 0)) {
        // Until then a reader finds a line, at least, that has an end.
        ssize_t n = write(file->fd, "\n", 1);
        (void)n;
        file->has_partial_entry = true;
    }
}

/* Take back what could not be taken back at the time. */
static int
file_remove_partial_entry(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    if (file->has_partial_entry && ftruncate(file->fd, file->size) < 0) {
        return _PyPerfError_Set(error, "take a torn entry out of", file->path,
                                NULL, errno);
    }
    file->has_partial_entry = false;
    return 0;
}

static off_t
size_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY
            || limit.rlim_cur > PY_SSIZE_T_MAX) {
        return PY_SSIZE_T_MAX;
    }
    return (off_t)limit.rlim_cur;
}

/* See to it that the descriptor is ours.  Returns as _PyPerfFile_Append(). */
static int
file_ensure_open(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    int64_t now = _PyPerfOS_Now();
    if (file->fd >= 0 && now - file->looked_at < LOOK_INTERVAL
            && file->changes_seen == _PyPerfFd_Changes
            && file->limit == PY_SSIZE_T_MAX) {
        return file_remove_partial_entry(file, error);
    }
    file->looked_at = now;
    file->changes_seen = _PyPerfFd_Changes;
    file->limit = size_limit();
    if (_PyPerfFile_OwnsDescriptor(file)) {
        return file_remove_partial_entry(file, error);
    }
    _PyPerfGeneration generation = file->generation;
    file->fd = -1;      // the number is the program's now
    if (_PyPerfFile_Open(file, file->path, error) < 0) {
        return -1;
    }
    return file->generation == generation ? file_remove_partial_entry(file, error)
                                    : _PyPerfFile_STARTED_AFRESH;
}

/* Append at once.  Returns as _PyPerfFile_Append(). */
static int
file_append(struct _PyPerfFile *file, const void *bytes, size_t length,
            struct _PyPerfError *error)
{
    off_t written = 0;
    int result = file_ensure_open(file, error);
    if (result != _PyPerfFile_APPENDED) {
        return result;
    }
    result = file_write(file, bytes, length, &written, error);
    if (result < 0 && error->number == EBADF) {
        file->looked_at = 0;        // closed since we looked
        result = file_ensure_open(file, error);
        if (result != _PyPerfFile_APPENDED) {
            return result;
        }
        result = file_write(file, bytes, length, &written, error);
    }
    if (result < 0) {
        file_undo_write(file, written);
        return -1;
    }
    file->size += written;
    return _PyPerfFile_APPENDED;
}

struct _PyPerfFileBuffer {
    size_t length;                  // bytes
    size_t count;                   // pieces
    char bytes[16 * 1024];
    uint16_t lengths[1024];         // of the pieces
};

void
_PyPerfFile_StartBuffering(struct _PyPerfFile *file)
{
    if (file->buffer == NULL) {
        file->buffer = PyMem_RawMalloc(sizeof(*file->buffer));
    }
    if (file->buffer != NULL) {   // else do without
        file->buffer->length = 0;
        file->buffer->count = 0;
    }
}

static int
file_flush(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    struct _PyPerfFileBuffer *buffer = file->buffer;
    if (buffer->length == 0 || file->pid != _PyPerfFile_GetPid()) {
        return _PyPerfFile_APPENDED;
    }
    int result = file_append(file, buffer->bytes, buffer->length, error);
    // If there is no room for all of it: as many pieces as there is room for.
    const char *piece = buffer->bytes;
    for (size_t i = 0; result < 0 && i < buffer->count; i++) {
        if (file_append(file, piece, buffer->lengths[i], error) < 0) {
            break;
        }
        piece += buffer->lengths[i];
    }
    if (result < 0) {
        file->generation = _PyPerfGeneration_Next();      // some of it is lost
    }
    buffer->length = 0;
    buffer->count = 0;
    return result;
}

bool
_PyPerfFile_IsEmpty(const struct _PyPerfFile *file)
{
    return file->size == 0
           && (file->buffer == NULL || file->buffer->length == 0);
}

int
_PyPerfFile_StopBuffering(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    int result = _PyPerfFile_APPENDED;
    if (file->buffer != NULL) {
        result = file_flush(file, error);
        PyMem_RawFree(file->buffer);
        file->buffer = NULL;
    }
    return result;
}

int
_PyPerfFile_Append(struct _PyPerfFile *file, const void *bytes, size_t length,
                   struct _PyPerfError *error)
{
    struct _PyPerfFileBuffer *buffer = file->buffer;
    if (buffer == NULL) {
        return file_append(file, bytes, length, error);
    }
    if (length > sizeof(buffer->bytes) - buffer->length
            || buffer->count == Py_ARRAY_LENGTH(buffer->lengths)) {
        int result = file_flush(file, error);
        if (result != _PyPerfFile_APPENDED) {
            return result;
        }
    }
    if (length > sizeof(buffer->bytes)) {
        return file_append(file, bytes, length, error);
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    buffer->lengths[buffer->count++] = (uint16_t)length;
    return _PyPerfFile_APPENDED;
}

/* Append `size` bytes from `source`, which is open at its beginning, and a
   newline if they do not end with one. */
static int
file_copy(struct _PyPerfFile *file, int source, off_t size, off_t *written,
          struct _PyPerfError *error)
{
    char chunk[4 * 1024];           // threads may have small stacks
    char last = '\n';
    off_t copied = 0;
    while (copied < size) {
        size_t wanted = sizeof(chunk);
        if ((off_t)wanted > size - copied) {
            wanted = (size_t)(size - copied);
        }
        ssize_t got = read(source, chunk, wanted);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return _PyPerfError_Set(error, "read a map to copy into",
                                    file->path, NULL, errno);
        }
        if (got == 0) {
            break;          // it has become shorter meanwhile
        }
        if (file_write(file, chunk, (size_t)got, written, error) < 0) {
            return -1;
        }
        copied += got;
        last = chunk[got - 1];
    }
    return last == '\n' ? 0 : file_write(file, "\n", 1, written, error);
}

int
_PyPerfFile_AppendFile(struct _PyPerfFile *file, const char *path,
                       const struct _PyPerfFile *of, struct _PyPerfError *error)
{
    int result = -1;
    off_t written = 0;
    int source;
    do {
        source = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (source < 0 && errno == EINTR);
    struct stat status;
    if (source < 0 || fstat(source, &status) < 0) {
        _PyPerfError_Set(error, "open", path, NULL, errno);
    }
    else if (!S_ISREG(status.st_mode)) {
        _PyPerfError_Set(error, "copy", path, "it is not a regular file", 0);
    }
    else if (of != NULL && !file_is_same(of, &status)) {
        _PyPerfError_Set(error, "copy", path, "it has been replaced", 0);
    }
    else if ((result = file_ensure_open(file, error)) == _PyPerfFile_APPENDED) {
        if (file_is_same(file, &status)) {
            result = _PyPerfError_Set(error, "copy", path,
                                      "it is the map itself", 0);
        }
        else {
            result = file_copy(file, source,
                               of != NULL ? of->size : status.st_size,
                               &written, error);
            if (result < 0) {
                file_undo_write(file, written);
                written = 0;
            }
            file->size += written;
        }
    }
    if (source >= 0) {
        close(source);
    }
    return result;
}
