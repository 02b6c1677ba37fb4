/* Entries that wait in memory while the interpreter starts. */

#ifndef Py_INTERNAL_PERF_BUFFER_H
#define Py_INTERNAL_PERF_BUFFER_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_file.h"

struct _PyPerfBufferBlock;

/* All zero: nothing is buffered.  It belongs to one file, which each function
   takes besides.  One thread at a time may use both.  No function here needs the
   GIL. */
struct _PyPerfBuffer {
    struct _PyPerfBufferBlock *block;   /* NULL: entries are written at once */
};

/* Let entries that are appended from now on wait.  They are written in larger
   pieces, and lost if the process is killed before.  Without memory for it they
   are written at once as before. */
extern void _PyPerfBuffer_Start(struct _PyPerfBuffer *buffer);

/* Write what waits, and each later entry at once.  Returns as
   _PyPerfFile_Append() does. */
extern int _PyPerfBuffer_Stop(struct _PyPerfBuffer *buffer,
                              struct _PyPerfFile *file,
                              struct _PyPerfError *error);

/* Append an entry of `length` bytes to the file, now or later.  Returns as
   _PyPerfFile_Append() does. */
extern int _PyPerfBuffer_Append(struct _PyPerfBuffer *buffer,
                                struct _PyPerfFile *file, const void *bytes,
                                size_t length, struct _PyPerfError *error);

/* Return whether nothing has been appended to the file, and nothing waits. */
extern bool _PyPerfBuffer_IsEmpty(const struct _PyPerfBuffer *buffer,
                                  const struct _PyPerfFile *file);

/* Forget what waits, and write each later entry at once: in a forked child, whose
   parent writes those entries. */
extern void _PyPerfBuffer_Drop(struct _PyPerfBuffer *buffer);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_BUFFER_H */
