/* A file below /tmp, or wherever an output says, that only this process writes. */

#ifndef Py_INTERNAL_PERF_FILE_H
#define Py_INTERNAL_PERF_FILE_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_fd.h"
#include "pycore_perf_output.h"     // struct _PyPerfError
#include <sys/types.h>

/* With fd.number -1 and the rest zero it is closed and ready for use.  One thread
   at a time may use it.  No function here needs the GIL. */
struct _PyPerfFile {
    struct _PyPerfFd fd;
    pid_t pid;                  /* the process that opened it last; 0: none */
    off_t limit;                /* RLIMIT_FSIZE when fd was checked, bytes */
    off_t size;                 /* bytes: at the last check, and appended since */
    bool has_partial_entry;     /* after `size` bytes there is a part of an entry
                                   that could not be removed; it must go before
                                   anything is appended */
    _PyPerfGeneration generation;   /* changes when the file is emptied, or when
                                   something that was announced is lost */
    char path[1024];
};

/* Open the file at `path` for appending.  The first opening by a process empties
   the file and begins a new generation.  Later ones continue the file if it is
   still the same one.  Refuses what is not a regular file of this user with a
   single name.  Copies `path`.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfFile_Open(struct _PyPerfFile *file, const char *path,
                            struct _PyPerfError *error);

/* Return whether the descriptor still refers to the file, and the file has a name.
   Updates file->size.  Begins a new generation if the file was emptied, and closes it
   if it was deleted. */
extern bool _PyPerfFile_OwnsDescriptor(struct _PyPerfFile *file);

/* Open the file again if the program has closed our descriptor or taken its number.
   Updates file->size.  If the old file is gone, a new, empty one is open, and the
   generation is a different one.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfFile_Reclaim(struct _PyPerfFile *file, struct _PyPerfError *error);

/* Append `length` bytes with one write, whole or not at all.  Opens the file again
   if the program has closed our descriptor.
   Returns _PyPerfFile_APPENDED, or -1 with *error filled in.  Returns
   _PyPerfFile_STARTED_AFRESH if the old file is gone.  Then a new, empty one is open,
   and nothing has been written to it. */
enum { _PyPerfFile_APPENDED = 0, _PyPerfFile_STARTED_AFRESH = 1 };
extern int _PyPerfFile_Append(struct _PyPerfFile *file, const void *bytes,
                              size_t length, struct _PyPerfError *error);

/* Append the contents of the regular file at `path`, and a newline if they do not end
   with one.  All or nothing.  If `of` is not NULL, `path` must be the file that *of
   describes, and only its first of->size bytes are copied.
   Returns as _PyPerfFile_Append() does. */
extern int _PyPerfFile_AppendFile(struct _PyPerfFile *file, const char *path,
                                  const struct _PyPerfFile *of,
                                  struct _PyPerfError *error);

/* Remove the file, because this process is about to execute another program.  The
   content remains until then.  If the program is not executed, the caller calls
   _PyPerfFile_PutBack() before any other function.
   Returns whether the file is removed.  It is not if the path leads to a different file
   by now, or if removing is refused. */
extern bool _PyPerfFile_Withdraw(struct _PyPerfFile *file);

/* Make a file with the content of the one that was removed.  Its generation is the
   same.  Returns 0, or -1 with *error filled in. */
extern int _PyPerfFile_PutBack(struct _PyPerfFile *file, struct _PyPerfError *error);

/* Close the descriptor if it is still ours.  Cannot fail. */
extern void _PyPerfFile_Close(struct _PyPerfFile *file);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_FILE_H */
