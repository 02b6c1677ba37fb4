/* Entries that wait in memory while the interpreter starts. */

#ifndef Py_INTERNAL_PERF_BUFFER_H
#define Py_INTERNAL_PERF_BUFFER_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_file.h"

struct _PyPerfBufferBlock;

/* The buffer of one file.  All zero: nothing is buffered.  The caller passes the file
   to each function that writes.  One thread at a time may use both.  No function here
   needs the GIL. */
struct _PyPerfBuffer {
    struct _PyPerfBufferBlock *block;   /* NULL: entries are written at once */
};

/* Buffer entries from now on.  They are written in larger pieces, and lost if the
   process is killed before.  If there is no memory for a buffer, entries are written at
   once as before. */
extern void _PyPerfBuffer_Start(struct _PyPerfBuffer *buffer);

/* Flush the buffer and free it.  Later entries are written at once.  Returns as
   _PyPerfFile_Append() does. */
extern int _PyPerfBuffer_Stop(struct _PyPerfBuffer *buffer,
                              struct _PyPerfFile *file,
                              struct _PyPerfError *error);

/* Append an entry of `length` bytes to the file, now or later.  Returns as
   _PyPerfFile_Append() does. */
extern int _PyPerfBuffer_Append(struct _PyPerfBuffer *buffer,
                                struct _PyPerfFile *file, const void *bytes,
                                size_t length, struct _PyPerfError *error);

/* Return whether the file is empty and nothing is buffered for it. */
extern bool _PyPerfBuffer_IsEmpty(const struct _PyPerfBuffer *buffer,
                                  const struct _PyPerfFile *file);

/* Free the buffer without writing it.  Later entries are written at once.  A forked
   child calls this, because its parent writes the buffered entries. */
extern void _PyPerfBuffer_Drop(struct _PyPerfBuffer *buffer);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_BUFFER_H */
