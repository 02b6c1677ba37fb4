/* A file below /tmp (or wherever an output says) that only we write. */

#ifndef Py_INTERNAL_PERF_FILE_H
#define Py_INTERNAL_PERF_FILE_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_output.h"     // struct _PyPerfError
#include <sys/types.h>

struct _PyPerfFileBuffer;

/* Zeroed, with fd -1, it is ready for use.  The caller sees to it that one
   thread at a time uses it; no GIL needed. */
struct _PyPerfFile {
    int fd;                     /* -1: closed */
    pid_t pid;                  /* the process that opened it last; 0: none */
    int64_t looked_at;          /* when it was found to be ours last, ns */
    unsigned int changes_seen;  /* _PyPerfFd_Changes at that time */
    off_t limit;                /* RLIMIT_FSIZE at that time, bytes */
    dev_t device;               /* what it opened then: descriptors get closed */
    ino_t inode;                /*   and files replaced behind our back */
    off_t size;                 /* bytes, when it was looked at last */
    bool has_partial_entry;               /* behind these stands what could not be taken
                                   back, and has to go before anything is added */
    _PyPerfGeneration generation;     /* grows when the file starts afresh, or what has
                                   been gathered is lost */
    char path[1024];
    struct _PyPerfFileBuffer *buffer;   /* what waits; NULL: nothing shall */
};

/* The process's id.  Asks the kernel once in each process where that is possible. */
extern pid_t _PyPerfFile_GetPid(void);

/* Open `path` for appending.  The first opening by a process empties the file;
   later ones continue it if it is still the same one.  Refuses what is not a
   regular file of this user with a single name.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfFile_Open(struct _PyPerfFile *file, const char *path,
                            struct _PyPerfError *error);

/* Look whether the descriptor is still ours.  Brings file->size up to date. */
extern bool _PyPerfFile_OwnsDescriptor(struct _PyPerfFile *file);

/* Append `length` bytes, whole or not at all.  Opens the file again if the
   program has closed our descriptor.  Returns _PyPerfFile_APPENDED;
   _PyPerfFile_STARTED_AFRESH when what it opened again is a new, empty file (the
   old one is gone) and nothing has been written to it yet; or -1 with *error
   filled in. */
enum { _PyPerfFile_APPENDED = 0, _PyPerfFile_STARTED_AFRESH = 1 };
extern int _PyPerfFile_Append(struct _PyPerfFile *file, const void *bytes,
                              size_t length, struct _PyPerfError *error);

/* Gather what is appended from now on, and write it in larger pieces.  What has
   been gathered is lost if the process gets killed. */
extern void _PyPerfFile_StartBuffering(struct _PyPerfFile *file);

/* Whether nothing has been appended to it, and nothing waits. */
extern bool _PyPerfFile_IsEmpty(const struct _PyPerfFile *file);

/* Write what has been gathered, and the rest at once again.  Returns as
   _PyPerfFile_Append() does. */
extern int _PyPerfFile_StopBuffering(struct _PyPerfFile *file,
                                     struct _PyPerfError *error);

/* Append the first `size` bytes of the regular file at `path`, and a newline if
   they do not end with one; all or nothing.  With `of` the file must be the one
   that *of describes.  Returns as _PyPerfFile_Append() does. */
extern int _PyPerfFile_AppendFile(struct _PyPerfFile *file, const char *path,
                                  const struct _PyPerfFile *of,
                                  struct _PyPerfError *error);

extern void _PyPerfFile_Close(struct _PyPerfFile *file);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_FILE_H */
