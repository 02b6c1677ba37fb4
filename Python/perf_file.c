/* Files in /tmp that only this process writes: open, append, undo.

   The name of a perf map is known in advance, and any user may write to /tmp.  A file
   of this name may be a trap: a link to a file that we would ruin, a fifo that would
   make us wait for ever, a file of another user.  These are the rules:

   - Open without following links, without waiting and without emptying.  Then check
     what was opened.  Empty and write only a regular file of our own user with a
     single name.
   - A process empties a file once.  If it closes and opens the file again, it
     continues the file, provided that it is still the same one.  If somebody deletes
     the file, the process makes another.  If somebody empties it, the process writes
     everything again.  (A process of another container may have the same id and share
     /tmp.  It empties the file when it begins, so neither must do that repeatedly.)
   - Append each entry with one system call (O_APPEND).  There is no buffer, so neither
     SIGKILL nor fork() can lose or double an entry.  (While the interpreter starts,
     perf_buffer.c makes an exception.)
   - If the disk takes only a part of an entry, remove that part, at the latest
     before the next write.
   - Check the limit on file sizes before each write.  The kernel kills a process that
     reaches the limit, unless SIGXFSZ is ignored.

   perf_fd.c protects the descriptor from the program, and the program from us.  */

#include "Python.h"
#include "pycore_perf_file.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_LIMIT PY_SSIZE_T_MAX

_PyPerfGeneration
_PyPerfGeneration_Next(void)
{
    static _Atomic(_PyPerfGeneration) last;
    return atomic_fetch_add(&last, 1) + 1;
}


// --- Opening ---------------------------------------------------------------

/* Return why we must not write to the file that *status describes, or NULL if we
   may. */
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

/* Store the size of the file.  Bytes that must be removed do not count. */
static void
file_set_size(struct _PyPerfFile *file, const struct stat *status)
{
    if (!file->has_partial_entry) {
        file->size = status->st_size;
    }
}

bool
_PyPerfFile_OwnsDescriptor(struct _PyPerfFile *file)
{
    struct stat status;
    if (!_PyPerfFd_Check(&file->fd, &status)) {
        return false;
    }
    if (status.st_nlink == 0) {
        _PyPerfFd_Close(&file->fd);
        return false;
    }
    if (status.st_size == 0 && file->size > 0) {
        file->has_partial_entry = false;
        file->generation = _PyPerfGeneration_Next();
    }
    file_set_size(file, &status);
    return true;
}

/* Open the file at `path`, or make it.  Returns the descriptor, or -1 with *error
   filled in. */
static int
file_open_path(const char *path, struct _PyPerfError *error)
{
    int fd;
    do {
        fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW
                        | O_NONBLOCK | O_NOCTTY, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0) {
        return _PyPerfFd_Move(fd);
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
    int number = file_open_path(path, error);
    if (number < 0) {
        return -1;
    }
    struct stat status;
    if (fstat(number, &status) < 0) {
        _PyPerfError_Set(error, "open", path, NULL, errno);
        goto fail;
    }
    const char *reason = file_refusal(&status);
    if (reason != NULL) {
        _PyPerfError_Set(error, "open", path, reason, 0);
        goto fail;
    }
    if (file->pid == getpid() && _PyPerfFd_IsFile(&file->fd, &status)
            && status.st_size >= file->size) {
        file_set_size(file, &status);
    }
    else {
        // Do not truncate an empty file: on close(), ext4 syncs a truncated file.
        if ((status.st_size > 0 && ftruncate(number, 0) < 0)
                || fchmod(number, 0600) < 0) {
            _PyPerfError_Set(error, "empty", path, NULL, errno);
            goto fail;
        }
        file->size = 0;
        file->has_partial_entry = false;
        file->generation = _PyPerfGeneration_Next();
    }
    if (file->path != path) {
        PyOS_snprintf(file->path, sizeof(file->path), "%s", path);
    }
    _PyPerfFd_SetFile(&file->fd, &status);
    // Set the process id first: if another thread forks in between, the child must not
    // take the descriptor for its own.
    file->pid = getpid();
    atomic_thread_fence(memory_order_release);
    file->fd.number = number;
    return 0;

fail:
    close(number);
    return -1;
}

int
_PyPerfFile_Reclaim(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    if (_PyPerfFile_OwnsDescriptor(file)) {
        return 0;
    }
    file->fd.number = -1;           // the number belongs to the program now
    return _PyPerfFile_Open(file, file->path, error);
}

void
_PyPerfFile_Close(struct _PyPerfFile *file)
{
    _PyPerfFd_Close(&file->fd);
}


// --- Writing ---------------------------------------------------------------

/* Append the bytes.  Adds the number of bytes that were written to *written, also on
   failure. */
static int
file_write(struct _PyPerfFile *file, const char *bytes, size_t length,
           off_t *written, struct _PyPerfError *error)
{
    if ((off_t)length > file->limit - file->size - *written) {
        return _PyPerfError_Set(error, "write", file->path, NULL, EFBIG);
    }
    while (length > 0) {
        ssize_t n = write(file->fd.number, bytes, length);
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

/* Remove the last `written` bytes. */
static void
file_undo_write(struct _PyPerfFile *file, off_t written)
{
    struct stat status;
    if (written > 0 && (fstat(file->fd.number, &status) < 0
                        || ftruncate(file->fd.number, status.st_size - written) < 0)) {
        // Until it is removed, the partial entry is at least a separate line.
        ssize_t n = write(file->fd.number, "\n", 1);
        (void)n;
        file->has_partial_entry = true;
    }
}

/* Remove a partial entry that file_undo_write() could not remove. */
static int
file_remove_partial_entry(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    if (file->has_partial_entry && ftruncate(file->fd.number, file->size) < 0) {
        return _PyPerfError_Set(error, "remove a partial entry from", file->path,
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
            || limit.rlim_cur > NO_LIMIT) {
        return NO_LIMIT;
    }
    return (off_t)limit.rlim_cur;
}

/* Prepare the file for an entry.  Returns as _PyPerfFile_Append() does. */
static int
file_ensure_open(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    if (file->limit == NO_LIMIT && _PyPerfFd_IsChecked(&file->fd)) {
        return file_remove_partial_entry(file, error);
    }
    file->limit = size_limit();
    const _PyPerfGeneration generation = file->generation;
    if (_PyPerfFile_Reclaim(file, error) < 0) {
        return -1;
    }
    return file->generation == generation ? file_remove_partial_entry(file, error)
                                          : _PyPerfFile_STARTED_AFRESH;
}

int
_PyPerfFile_Append(struct _PyPerfFile *file, const void *bytes, size_t length,
                   struct _PyPerfError *error)
{
    off_t written = 0;
    int result = file_ensure_open(file, error);
    if (result != _PyPerfFile_APPENDED) {
        return result;
    }
    result = file_write(file, bytes, length, &written, error);
    if (result < 0 && error->number == EBADF) {
        file->fd.checked_at = 0;    // it was closed after the last check
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

/* Append `size` bytes from `source`, which is open at its beginning.  `action` is for
   errors.  Returns the last byte, a newline if there is none, or -1. */
static int
file_copy(struct _PyPerfFile *file, int source, off_t size, const char *action,
          off_t *written, struct _PyPerfError *error)
{
    char chunk[4 * 1024];           // threads may have small stacks
    unsigned char last = '\n';
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
            return _PyPerfError_Set(error, action, file->path, NULL, errno);
        }
        if (got == 0) {
            break;          // the source was truncated
        }
        if (file_write(file, chunk, (size_t)got, written, error) < 0) {
            return -1;
        }
        copied += got;
        last = (unsigned char)chunk[got - 1];
    }
    return last;
}

/* Append the first `size` bytes of a map, and a newline if they do not end with
   one. */
static int
file_copy_map(struct _PyPerfFile *file, int source, off_t size, off_t *written,
              struct _PyPerfError *error)
{
    const int last = file_copy(file, source, size, "read a map to copy into", written,
                               error);
    if (last < 0 || last == '\n') {
        return Py_MIN(last, 0);
    }
    return file_write(file, "\n", 1, written, error);
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
    else if (of != NULL && !_PyPerfFd_IsFile(&of->fd, &status)) {
        _PyPerfError_Set(error, "copy", path, "it has been replaced", 0);
    }
    else if ((result = file_ensure_open(file, error)) == _PyPerfFile_APPENDED) {
        if (_PyPerfFd_IsFile(&file->fd, &status)) {
            result = _PyPerfError_Set(error, "copy", path,
                                      "it is the map itself", 0);
        }
        else {
            result = file_copy_map(file, source,
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


// --- Another program is executed -------------------------------------------

bool
_PyPerfFile_Withdraw(struct _PyPerfFile *file)
{
    struct stat status;
    struct _PyPerfError ignored;
    return lstat(file->path, &status) == 0 && _PyPerfFd_IsFile(&file->fd, &status)
           && _PyPerfFile_Reclaim(file, &ignored) == 0 && unlink(file->path) == 0;
}

int
_PyPerfFile_PutBack(struct _PyPerfFile *file, struct _PyPerfError *error)
{
    static const char action[] = "read what to put back into";
    const int source = file->fd.number;
    const off_t size = file->size;
    const _PyPerfGeneration generation = file->generation;
    off_t written = 0;
    if (_PyPerfFile_Open(file, file->path, error) < 0) {
        return -1;
    }
    const int result = lseek(source, 0, SEEK_SET) < 0
        ? _PyPerfError_Set(error, action, file->path, NULL, errno)
        : file_copy(file, source, size, action, &written, error);
    close(source);
    if (result < 0) {
        file_undo_write(file, written);
        return -1;
    }
    file->size = written;
    file->generation = generation;
    return 0;
}
