/* The perf map, /tmp/perf-PID.map: an output of the profiler, and the functions that
   the public ones call (perf_capi.c).  Any thread may call these functions, with or
   without the GIL. */

#ifndef Py_INTERNAL_PERF_MAP_H
#define Py_INTERNAL_PERF_MAP_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_output.h"

extern const struct _PyPerfOutput _PyPerfMap_Output;

/* Called around fork().  Between the first and one of the others no other thread
   writes to the map, so the child knows how long its parent's file was. */
extern void _PyPerfMap_BeforeFork(void);
extern void _PyPerfMap_AfterForkParent(void);
extern void _PyPerfMap_AfterForkChild(void);

/* The results of the functions below that return an int. */
enum {
    _PyPerfMap_DONE = 0,
    _PyPerfMap_NOT_OPEN = -1,   /* the map cannot be opened or written; it holds
                                   nothing of what was to be written */
    _PyPerfMap_NO_LOCK = -2,    /* the lock that guards the map failed */
};

/* Open the map unless it is open. */
extern int _PyPerfMap_Open(void);

/* Append an entry: the `size` bytes of code at `address` have this name.  Opens the
   map if it is closed.  Escapes what would break the line.  Copies `name`. */
extern int _PyPerfMap_WriteEntry(const void *address, size_t size,
                                 struct _PyPerfText name);

/* Append the entries of the map at `path`, all or nothing.  Opens the map if it is
   closed. */
extern int _PyPerfMap_CopyFile(const char *path);

/* Close the map.  The file remains.  Cannot fail. */
extern void _PyPerfMap_Close(void);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_MAP_H */
