/* A descriptor in a program that may close or replace it at any time. */

#ifndef Py_INTERNAL_PERF_FD_H
#define Py_INTERNAL_PERF_FD_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct stat;

/* A descriptor, and the file that it referred to when it was opened.  With
   number -1 and the rest zero it is closed and ready for use.  One thread at a
   time may use it.  No function here needs the GIL. */
struct _PyPerfFd {
    int number;                 /* -1: closed */
    dev_t device;
    ino_t inode;
    int64_t checked_at;         /* time of the last check, ns; 0: none */
    unsigned int changes_seen;  /* _PyPerfFd_Changes before that check */
};

/* Move the descriptor `number` out of the range that programs use.  Takes
   ownership of `number`.  Returns the new number, or `number` itself if the
   kernel has no other to give. */
extern int _PyPerfFd_Move(int number);

/* Store in *fd which file the descriptor refers to: the one that *status describes.
   The caller sets fd->number afterwards. */
extern void _PyPerfFd_SetFile(struct _PyPerfFd *fd, const struct stat *status);

/* Return whether *status describes the file that *fd was opened for. */
extern bool _PyPerfFd_IsFile(const struct _PyPerfFd *fd,
                             const struct stat *status);

/* Ask the kernel whether the descriptor is open and refers to that file.  Returns true
   and fills in *status if so, otherwise returns false. */
extern bool _PyPerfFd_Owns(const struct _PyPerfFd *fd, struct stat *status);

/* Do the same as _PyPerfFd_Owns(), and store the time for _PyPerfFd_IsChecked(). */
extern bool _PyPerfFd_Check(struct _PyPerfFd *fd, struct stat *status);

/* Return whether the last check is recent enough to rely on. */
extern bool _PyPerfFd_IsChecked(const struct _PyPerfFd *fd);

/* Close the descriptor if it is still ours, otherwise leave the number to the
   program. */
extern void _PyPerfFd_Close(struct _PyPerfFd *fd);

/* How often the program has closed or replaced descriptors.  Guarded by the GIL
   when it is written; any thread may read it. */
extern unsigned int _PyPerfFd_Changes;

/* The functions of the os module that close or replace descriptors call this
   afterwards, with the GIL.  Ours may be among those descriptors. */
static inline void
_PyPerfFd_NoteChange(void)
{
    _PyPerfFd_Changes++;
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_FD_H */
