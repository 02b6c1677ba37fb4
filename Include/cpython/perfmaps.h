/* The perf map and the perf trampolines: the public part (unstable tier).

   A perf map is the text file /tmp/perf-PID.map with the names of machine code that
   the process has generated.  Native profilers read it.  Each line is
   "START SIZE NAME\n", with START and SIZE in hexadecimal (Linux source tree,
   tools/perf/Documentation/jit-interface.txt).

   CPython 3.12 and later declare these functions in cpython/sysmodule.h, where the size
   of an entry is an unsigned int.  There this header only documents them.

   Any thread may call the functions marked [map], with or without the GIL.  They set
   no exception.  Those that return an int return
      0   if it is done
     -1   if a file cannot be opened, read or written; then the map holds no part of
          what was to be written
     -2   if the lock that guards the map cannot be acquired  */

#ifndef Py_LIMITED_API
#ifndef Py_PERFMAPS_H
#define Py_PERFMAPS_H
#if PY_VERSION_HEX < 0x030c0000
#ifdef __cplusplus
extern "C" {
#endif

/* Open the map unless it is open.  The first opening in a process empties the file.
   Later ones continue it.  [map] */
PyAPI_FUNC(int) PyUnstable_PerfMapState_Init(void);

/* Append one entry: the `size` bytes of code at `code_addr` have the name
   `entry_name`.  Opens the map if it is closed.  The name is UTF-8 and ends with a NUL.
   Characters that would break the line are written as escapes.  The name is copied.
   Each entry is written by one write(2).  [map] */
PyAPI_FUNC(int) PyUnstable_WritePerfMapEntry(
    const void *code_addr,
    size_t size,
    const char *entry_name);

/* Close the map.  The file remains, because profilers read it later.  [map] */
PyAPI_FUNC(void) PyUnstable_PerfMapState_Fini(void);

/* Append the entries of the map at `parent_filename`, all or nothing.  Opens the map
   of this process if it is closed.  [map] */
PyAPI_FUNC(int) PyUnstable_CopyPerfMapFile(const char *parent_filename);

/* Make a trampoline for `code` and announce it, without running the code.  Borrows the
   reference.  Needs the GIL.
   Returns 0 if that is done, if there was a trampoline already, or if profiling is off.
   Returns -1 if there is no trampoline, with no exception set.  Then a line on stderr
   says why. */
PyAPI_FUNC(int) PyUnstable_PerfTrampoline_CompileCode(PyCodeObject *code);

/* Set what the map of a child of os.fork() begins with.  0 (the default): only the
   functions on the child's stack.  Any other number: everything that the parent has
   announced.  Needs the GIL.
   Returns 0.  CPython 3.13: returns 1, or 0 on platforms without trampolines,
   where nothing was set. */
PyAPI_FUNC(int) PyUnstable_PerfTrampoline_SetPersistAfterFork(int enable);

#ifdef __cplusplus
}
#endif
#endif  /* PY_VERSION_HEX */
#endif  /* !Py_PERFMAPS_H */
#endif  /* !Py_LIMITED_API */
