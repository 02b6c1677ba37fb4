/* The one line that tells a user why there is no profile.

   Profiling is a guest in somebody's program.  Whatever it lacks, the program
   runs on, with the feature off and one line on stderr:

   python: perf profiling is off: cannot open /tmp/perf-42.map: it is a symbolic link

   The line goes to descriptor 2 in one write, past sys.stderr: that is Python
   code, which may be half initialized, replaced, or the function just being
   profiled.  Three things could go wrong with a descriptor, and must not:

   - The process was started without a standard error, and descriptor 2 is some
     file of the program's by now.  sys.__stderr__ is None then.
   - It is a pipe that nobody reads, and SIGPIPE is not ignored (yet).
   - It cannot be written.  Then the line is lost and nothing else is.  */

#include "Python.h"
#include "pycore_perf_error.h"
#include <signal.h>

int
_PyPerfError_Set(struct _PyPerfError *error, const char *action,
                 const char *path, const char *reason, int number)
{
    error->action = action;
    PyOS_snprintf(error->path, sizeof(error->path), "%s", path);
    error->reason = reason;
    error->number = number;
    return -1;
}

/* Write to a descriptor that may be a pipe without a reader. */
static void
write_without_sigpipe(int fd, const char *bytes, size_t length)
{
    sigset_t pipe_only, pending, previous;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &previous);
    if (write(fd, bytes, length) < 0 && errno == EPIPE
            && !sigismember(&pending, SIGPIPE)) {
        // Take the one that we have raised, unless SIGPIPE is ignored.
        int number;
        sigpending(&pending);
        if (sigismember(&pending, SIGPIPE)) {
            sigwait(&pipe_only, &number);
        }
    }
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
}

void
_PyPerfError_Warn(const struct _PyPerfError *error)
{
    char line[2048];
    PyObject *standard_error = PySys_GetObject("__stderr__");   // borrowed
    if (standard_error == Py_None) {
        return;
    }
    PyOS_snprintf(line, sizeof(line),
                  "python: perf profiling is off: cannot %s%s%s: %s\n",
                  error->action, error->path[0] != '\0' ? " " : "", error->path,
                  error->reason != NULL ? error->reason : strerror(error->number));
    int saved_errno = errno;
    write_without_sigpipe(STDERR_FILENO, line, strlen(line));
    errno = saved_errno;
}
