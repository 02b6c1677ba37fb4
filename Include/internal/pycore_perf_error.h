/* Why profiling failed. */

#ifndef Py_INTERNAL_PERF_ERROR_H
#define Py_INTERNAL_PERF_ERROR_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* The parts of the one line that the user sees: "cannot ACTION PATH: REASON".  All
   strings but the path are static. */
struct _PyPerfError {
    const char *action;             /* "open", "write", "make memory executable" */
    char path[1024];                /* "" if no file is concerned */
    const char *reason;             /* NULL: strerror(number) */
    int number;                     /* errno */
};

/* Fill in *error.  Copies `path`, shortened if it is too long.  Returns -1, so that
   callers can return the result.  No GIL needed. */
extern int _PyPerfError_Set(struct _PyPerfError *error, const char *action,
                            const char *path, const char *reason, int number);

/* Write one line to stderr: profiling is off, and why.  Needs the GIL. */
extern void _PyPerfError_Warn(const struct _PyPerfError *error);

/* The same before there is an interpreter.  No GIL needed. */
extern void _PyPerfError_WarnEarly(const struct _PyPerfError *error);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_ERROR_H */
