/* The perf map and the perf trampolines: the public part (unstable tier).

   A perf map is the text file /tmp/perf-PID.map in which a program tells
   native profilers the names of machine code that it has made itself.  The
   format is the one of tools/perf/Documentation/jit-interface.txt in the
   Linux source tree: "START SIZE NAME\n", START and SIZE in hexadecimal.

   Results of the functions marked [map]:
      0   done
     -1   the map cannot be opened or written; nothing of the entry stands in it
     -2   the lock that guards the map cannot be had  */

#ifndef Py_LIMITED_API
#ifndef Py_PERFMAPS_H
#define Py_PERFMAPS_H
#ifdef __cplusplus
extern "C" {
#endif

/* Open the map, unless it is open.  The first opening in a process starts the
   file afresh; later ones continue it.  Any thread, no GIL needed.  [map] */
PyAPI_FUNC(int) PyUnstable_PerfMapState_Init(void);

/* Append one entry, opening the map if need be: `size` bytes of code at
   `code_addr` are called `entry_name` (UTF-8; characters that would break the
   line are written as escapes).  The name is copied.  Any thread, no GIL
   needed; one write(2) for each entry.  [map] */
PyAPI_FUNC(int) PyUnstable_WritePerfMapEntry(
    const void *code_addr,
    size_t size,
    const char *entry_name);

/* Close the map.  The file stays, for the profiler to read.  Any thread, no
   GIL needed. */
PyAPI_FUNC(void) PyUnstable_PerfMapState_Fini(void);

/* Append the entries of the map at `parent_filename` to ours, all or nothing.
   Any thread, no GIL needed.  [map] */
PyAPI_FUNC(int) PyUnstable_CopyPerfMapFile(const char *parent_filename);

/* Make and announce a trampoline for `code` now, without running it.  The
   caller holds the GIL and keeps its reference.  Returns 0 when done, when
   there was one already or when profiling is not active; -1 if there is none
   now (no exception is set). */
PyAPI_FUNC(int) PyUnstable_PerfTrampoline_CompileCode(PyCodeObject *code);

/* Decide what children of os.fork() do: 0 (the default) start with an empty
   file of their own, otherwise keep everything that the parent has announced.
   The caller holds the GIL.  Returns 0. */
PyAPI_FUNC(int) PyUnstable_PerfTrampoline_SetPersistAfterFork(int enable);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_PERFMAPS_H */
#endif  /* !Py_LIMITED_API */
