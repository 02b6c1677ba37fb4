/* The one line on stderr that says why profiling is off.

   Profiling runs inside somebody else's program.  If anything fails (memory, a file, a
   limit), the program continues, profiling is switched off, and the user sees one line:

   python: perf profiling is off: cannot open /tmp/perf-42.map: it is a symbolic link

   The line is written to descriptor 2 in one call, not through sys.stderr.  That is
   Python code, which may be half initialized, replaced, or the very function that is
   being profiled.  Three cases need care:

   - The process was started without a standard error, and descriptor 2 is a file of
     the program by now.  Then sys.__stderr__ is None, and nothing is written.
   - Descriptor 2 is a pipe without a reader, and SIGPIPE is not ignored (yet).  The
     signal must not kill the program.
   - Descriptor 2 cannot be written to.  Then the line is lost, and nothing else.  */

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

/* Write to a descriptor that may be a pipe without a reader.  Failures are ignored. */
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
        // Consume the signal that we have raised.  If SIGPIPE is ignored there is none.
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
    PyObject *standard_error = PySys_GetObject("__stderr__");   // borrowed
    if (standard_error != Py_None) {
        _PyPerfError_WarnEarly(error);
    }
}

void
_PyPerfError_WarnEarly(const struct _PyPerfError *error)
{
    char line[2048];
    PyOS_snprintf(line, sizeof(line),
                  "python: perf profiling is off: cannot %s%s%s: %s\n",
                  error->action, error->path[0] != '\0' ? " " : "", error->path,
                  error->reason != NULL ? error->reason : strerror(error->number));
    int saved_errno = errno;
    write_without_sigpipe(STDERR_FILENO, line, strlen(line));
    errno = saved_errno;
}
