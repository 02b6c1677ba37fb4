/* The descriptor of our file, in a program that does not know about it.

   A program may close every descriptor that it finds, as daemons and shells do,
   and then open its own files.  The kernel gives the lowest free numbers, so one
   of those files may get the number that was ours.  If we wrote to it, we would
   ruin it.  Two things protect the program and us:

   - The number is high.  The kernel gives low numbers first, so a file of the
     program gets our number only after hundreds of others have been opened.
   - Before a write we ask the kernel which file the descriptor refers to.  If that
     is not ours, the number belongs to the program.  Then we do not touch it, and open
     our file again.  This check costs half as much as the write.  So it is valid for
     100 microseconds, unless os.close(), os.closerange() or os.dup2() are called.  */

#include "Python.h"
#include "pycore_perf_fd.h"
#include "pycore_perf_os.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* Our number is at least this, or three quarters of a smaller limit. */
#define FIRST_DESCRIPTOR 512

#define CHECK_INTERVAL 100000       // nanoseconds

unsigned int _PyPerfFd_Changes;


// --- The number ------------------------------------------------------------

int
_PyPerfFd_Move(int number)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return number;
    }
    const rlim_t minimum = Py_MIN(limit.rlim_cur / 4 * 3, FIRST_DESCRIPTOR);
    int high = fcntl(number, F_DUPFD_CLOEXEC, (int)minimum);
    if (high < 0) {
        return number;
    }
    close(number);
    return high;
}


// --- Whose it is -----------------------------------------------------------

void
_PyPerfFd_SetFile(struct _PyPerfFd *fd, const struct stat *status)
{
    fd->device = status->st_dev;
    fd->inode = status->st_ino;
}

bool
_PyPerfFd_IsFile(const struct _PyPerfFd *fd, const struct stat *status)
{
    return status->st_dev == fd->device && status->st_ino == fd->inode;
}

bool
_PyPerfFd_Owns(const struct _PyPerfFd *fd, struct stat *status)
{
    return fd->number >= 0 && fstat(fd->number, status) == 0
           && _PyPerfFd_IsFile(fd, status);
}

bool
_PyPerfFd_Check(struct _PyPerfFd *fd, struct stat *status)
{
    fd->checked_at = _PyPerfOS_Now();
    fd->changes_seen = _PyPerfFd_Changes;
    return _PyPerfFd_Owns(fd, status);
}

bool
_PyPerfFd_IsChecked(const struct _PyPerfFd *fd)
{
    return fd->number >= 0 && fd->changes_seen == _PyPerfFd_Changes
           && _PyPerfOS_Now() - fd->checked_at < CHECK_INTERVAL;
}

void
_PyPerfFd_Close(struct _PyPerfFd *fd)
{
    struct stat status;
    if (_PyPerfFd_Owns(fd, &status)) {
        close(fd->number);
    }
    fd->number = -1;
}
