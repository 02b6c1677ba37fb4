/* What the profiler knows of a file format: it can be opened, told of one
   region of code after the other, started afresh in a forked child, and
   closed.  The perf map and the jitdump are two implementations; neither
   knows the other, nor code objects, nor where the code's memory comes from. */

#ifndef Py_INTERNAL_PERF_OUTPUT_H
#define Py_INTERNAL_PERF_OUTPUT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text that need not end with a NUL: UTF-8, except that lone surrogates are
   encoded like other characters ("surrogatepass").  Borrowed. */
struct _PyPerfText {
    const char *bytes;
    size_t length;
};

/* One function's machine code, as an output announces it. */
struct _PyPerfRegion {
    const void *address;
    size_t size;                    /* bytes; the last eight are never executed,
                                       their value means nothing */
    struct _PyPerfText qualname;
    struct _PyPerfText filename;
    int first_line;                 /* of the definition, from 1 */
};

/* Why something failed, for the one line that the user sees:
   "cannot ACTION PATH: REASON".  Static strings but for the path. */
struct _PyPerfError {
    const char *action;             /* "open", "write", "make memory executable" */
    char path[1024];                /* "" where no file is concerned */
    const char *reason;             /* NULL: strerror(number) */
    int number;                     /* errno */
};

/* A file that starts afresh is a new generation.  What has been announced in one
   generation stands there and need not be announced again; in any other it must
   be.  Numbers are unique in the process and begin with 1. */
typedef uint64_t _PyPerfGeneration;

extern _PyPerfGeneration _PyPerfGeneration_Next(void);

/* How many kinds of output there may be, with "off", which is number 0. */
#define _PyPerf_OUTPUTS 3

/* All of these return 0, or -1 with *error filled in, and say in *generation
   which generation is being written afterwards. */
struct _PyPerfOutput {
    /* The name that sys.activate_stack_trampoline() takes. */
    const char *name;

    /* Whether its entries have a time, so that an address may be announced for
       another function when its first one has died. */
    bool has_time;

    int (*open)(_PyPerfGeneration *generation, struct _PyPerfError *error);

    /* With `gather` what is announced from now on may be written later; without,
       what has not been written is, and the rest at once again. */
    int (*set_buffering)(bool on, _PyPerfGeneration *generation,
                  struct _PyPerfError *error);

    /* Announce one region, whole or not at all. */
    int (*announce)(const struct _PyPerfRegion *region,
                    _PyPerfGeneration *generation, struct _PyPerfError *error);

    /* In a forked child: leave the parent's file alone and open the child's.
       With `keep` the child's file begins with what the parent's held at the
       fork, and is of the same generation. */
    int (*reopen_in_child)(bool keep, _PyPerfGeneration *generation,
                           struct _PyPerfError *error);

    void (*close)(void);
};

/* Fill in *error.  Returns -1, so that callers can return it on. */
extern int _PyPerfError_Set(struct _PyPerfError *error, const char *action,
                            const char *path, const char *reason, int number);

/* Tell the user, in one line on stderr, that profiling is off and why.  The
   caller holds the GIL. */
extern void _PyPerfError_Warn(const struct _PyPerfError *error);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_OUTPUT_H */
