/* The descriptor of our file, in a program that does not know about it.

   A program may close every descriptor that it finds, as daemons and shells do,
   and then open its own files.  The kernel gives the lowest free numbers, so one
   of those files may get the number that was ours.  If we wrote to it, we would
   ruin it.  Two things protect the program and us:

   - The number is above the limit on descriptors, if that is possible.  No file of
     the program gets it, and loops over all numbers up to the limit do not find it.
     Otherwise it is high.  The kernel gives low numbers first, so a file of the
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

/* Below the limit our number is at least this, or three quarters of a smaller limit. */
#define FIRST_DESCRIPTOR 512

/* The largest limit that our number may be above.  The kernel's table of descriptors is
   as long as the highest number, and each fork() copies it. */
#define LARGEST_LIMIT 4096

#define CHECK_INTERVAL 100000       // nanoseconds

unsigned int _PyPerfFd_Changes;


// --- The number ------------------------------------------------------------

/* Duplicate the descriptor to the first free number from `minimum`.  Returns the new
   number, or -1. */
static int
fd_duplicate(int number, rlim_t minimum)
{
    return fcntl(number, F_DUPFD_CLOEXEC, (int)minimum);
}

/* Duplicate the descriptor to a number above the limit.  The kernel does not refuse it
   if the limit is raised meanwhile.  Another thread might see the raised limit, set a
   different one, or pass it on to a child, so this is not done if there can be one.
   Returns the new number, or -1. */
static int
fd_duplicate_above(int number, const struct rlimit *limit)
{
    const rlim_t minimum = Py_MAX(limit->rlim_cur, FIRST_DESCRIPTOR);
    struct rlimit raised = *limit;
    // Some room, because descriptors above the limit may be open already.
    raised.rlim_cur = Py_MIN(limit->rlim_max, minimum + 8);
    if (raised.rlim_cur <= minimum || minimum > LARGEST_LIMIT
            || !_PyPerfOS_IsSingleThreaded()
            || setrlimit(RLIMIT_NOFILE, &raised) < 0) {
        return -1;
    }
    const int high = fd_duplicate(number, minimum);
    setrlimit(RLIMIT_NOFILE, limit);
    return high;
}

int
_PyPerfFd_Move(int number)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return number;
    }
    int high = fd_duplicate_above(number, &limit);
    if (high < 0) {
        high = fd_duplicate(number, Py_MIN(limit.rlim_cur / 4 * 3, FIRST_DESCRIPTOR));
    }
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
