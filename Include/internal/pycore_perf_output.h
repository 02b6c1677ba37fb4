/* The interface between the profiler and a file format.

   The profiler opens an output, announces one region of code after the other, reopens
   the output in a forked child, and closes it.  The perf map and the jitdump are the
   two outputs.  Neither depends on the other, on code objects, or on the arena. */

#ifndef Py_INTERNAL_PERF_OUTPUT_H
#define Py_INTERNAL_PERF_OUTPUT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_error.h"      // struct _PyPerfError
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The modes.  Each one but 0 has an output.  PyConfig.perf_profiling is a mode, plus
   _PyPerf_CALLS if each Python function is to be really called, or _PyPerf_LINES if
   records are to tell the line. */
enum {
    _PyPerf_OFF = 0,
    _PyPerf_MAP = 1,
    _PyPerf_JITDUMP = 2,
    _PyPerf_OUTPUTS,                /* how many modes there are */
    _PyPerf_CALLS = 4,
    _PyPerf_LINES = 8,
    _PyPerf_FLAGS = _PyPerf_CALLS | _PyPerf_LINES
};

/* Text that need not end with a NUL: UTF-8, except that lone surrogates are
   encoded like other characters ("surrogatepass").  Borrowed. */
struct _PyPerfText {
    const char *bytes;
    size_t length;
};

/* Addresses of one line, one after the other. */
struct _PyPerfLine {
    size_t start;                   /* bytes from line_address */
    int line;                       /* -1: none */
};

/* The machine code of one function, and the addresses of its bytecode instructions. */
struct _PyPerfRegion {
    const void *address;            /* NULL: only the instructions */
    size_t size;                    /* bytes; the last eight are never executed,
                                       and their value has no meaning */
    bool is_narrow;                 /* unwind information does not fit after it */
    struct _PyPerfText qualname;
    struct _PyPerfText filename;
    int first_line;                 /* of the definition, from 1 */

    const void *line_address;       /* where those of the instructions begin; NULL: no
                                       lines.  Nobody reads or executes what is there */
    size_t line_size;               /* bytes; 150 more after them are not used by
                                       other functions */
    const struct _PyPerfLine *lines;    /* sorted; the first starts at 0 */
    size_t line_count;              /* at least 1 */
};

/* What has been written to a file since it was last empty.  A function that was
   announced in one generation must be announced again in any other.  Numbers are
   unique in the process and begin with 1. */
typedef uint32_t _PyPerfGeneration;

/* Return a new number.  Any thread, no GIL needed.  (perf_file.c) */
extern _PyPerfGeneration _PyPerfGeneration_Next(void);

/* The functions return 0, or -1 with *error filled in.  The caller stores the current
   generation in *generation.  If a function begins a new generation, it stores that
   one there, also when it fails.  The caller holds the GIL. */
struct _PyPerfOutput {
    /* The mode that uses this output. */
    int mode;

    /* What sys.activate_stack_trampoline() calls the mode. */
    const char *name;

    /* Whether its entries have timestamps.  Then an address can be announced for a
       different function after the first one has died. */
    bool has_time;

    /* Open the file of this process. */
    int (*open)(_PyPerfGeneration *generation, struct _PyPerfError *error);

    /* With `on`, later entries may be buffered.  Otherwise flush the buffer, and write
       each later entry at once. */
    int (*set_buffering)(bool on, _PyPerfGeneration *generation,
                         struct _PyPerfError *error);

    /* Write the entry of one region, whole or not at all.  The output must have been
       opened in this process: the caller has compared the process id. */
    int (*announce)(const struct _PyPerfRegion *region,
                    _PyPerfGeneration *generation, struct _PyPerfError *error);

    /* In a forked child: leave the parent's file alone and open the child's.  With
       `keep`, an output may copy what the parent's file contained at the fork; the
       generation is the same then.  If it fails, it can be called again.  This
       function and `announce` are also called without the GIL, in a child that C
       code has just forked.  They must not wait for a lock or allocate memory there
       (perf_fork.c). */
    int (*reopen_in_child)(bool keep, _PyPerfGeneration *generation,
                           struct _PyPerfError *error);

    /* After reopen_in_child, when the child runs the program: let profilers find the
       file.  NULL if they find it by its name.  Also called without the GIL. */
    int (*publish)(_PyPerfGeneration *generation, struct _PyPerfError *error);

    /* In a child that is about to execute another program: remove the file, unless
       others have written entries to it, or profilers rely on it.  Returns whether it
       is removed.  Then no other function may be called before put_back. */
    bool (*withdraw)(void);

    /* The program was not executed: make the file again, with the same content and
       generation. */
    int (*put_back)(struct _PyPerfError *error);

    /* Flush the buffer and close the file, which remains.  Cannot fail. */
    void (*close)(void);
};

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_OUTPUT_H */
