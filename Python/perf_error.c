/* The one line that tells a user why there is no profile.

   Profiling is a guest in somebody's program.  Whatever it lacks, the program
   runs on, with the feature off and one line on stderr:

       python: perf profiling is off: cannot open /tmp/perf-42.map: it is a symbolic link

   The line goes to descriptor 2 in one write, past sys.stderr: that is Python
   code, which may be half initialized, replaced, or the function just being
   profiled.  If nobody listens there, the line is lost and nothing else is.  */

#include "Python.h"
#include "pycore_perf_output.h"

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

void
_PyPerfError_Warn(const struct _PyPerfError *error)
{
    char line[1024];
    int saved_errno = errno;
    PyOS_snprintf(line, sizeof(line),
                  "python: perf profiling is off: cannot %s%s%s: %s\n",
                  error->action, error->path[0] != '\0' ? " " : "", error->path,
                  error->reason != NULL ? error->reason : strerror(error->number));
    ssize_t written = write(STDERR_FILENO, line, strlen(line));
    (void)written;
    errno = saved_errno;
}
