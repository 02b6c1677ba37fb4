/* The public C functions of native profiling (unstable tier).

   Include/cpython/perfmaps.h declares and documents them.  Each one only calls
   the part that does the work: perf_map.c for the perf map, perf_profiler.c and
   its neighbours for the trampolines.  This file is the same on all platforms.
   Where there are no trampolines, the functions that it calls are in
   perf_stub.c.  */

#include "Python.h"
#include "pycore_perf_base.h"       // _PyPerfBase_EntrySize
#include "pycore_perf_fork.h"
#include "pycore_perf_map.h"
#include "pycore_perf_profiler.h"
#include "pycore_pystate.h"         // _PyThreadState_GET()


// --- The perf map ----------------------------------------------------------

int
PyUnstable_PerfMapState_Init(void)
{
    return _PyPerfMap_Open();
}

int
PyUnstable_WritePerfMapEntry(const void *code_addr, _PyPerfBase_EntrySize size,
                             const char *entry_name)
{
    return _PyPerfMap_WriteEntry(code_addr, size, (struct _PyPerfText){
        .bytes = entry_name, .length = strlen(entry_name)});
}

int
PyUnstable_CopyPerfMapFile(const char *parent_filename)
{
    return _PyPerfMap_CopyFile(parent_filename);
}

void
PyUnstable_PerfMapState_Fini(void)
{
    _PyPerfMap_Close();
}


// --- The trampolines -------------------------------------------------------

int
PyUnstable_PerfTrampoline_CompileCode(PyCodeObject *code)
{
    return _PyPerfProfiler_CompileCode(_PyThreadState_GET(), code);
}

int
PyUnstable_PerfTrampoline_SetPersistAfterFork(int enable)
{
    return _PyPerfFork_SetPersist(enable != 0) ? _PyPerfBase_PERSIST_IS_SET : 0;
}
