/* sys.activate_stack_trampoline(), sys.deactivate_stack_trampoline() and
   sys.is_stack_trampoline_active().

   These functions check their arguments and raise exceptions.  perf_profiler.c does the
   work, and perf_stub.c on platforms without trampolines.  */

#include "Python.h"
#include "pycore_perf_output.h"     // _PyPerf_CALLS
#include "pycore_perf_profiler.h"
#include "pycore_perf_sys.h"
#include "pycore_pystate.h"         // _PyThreadState_GET()

PyDoc_STRVAR(activate_doc,
"activate_stack_trampoline($module, backend, /, *, lines=False,\n"
"                          calls=False)\n"
"--\n"
"\n"
"Make Python functions visible to native profilers.\n"
"\n"
"  backend\n"
"    The kind of file with the names for profilers: \"perf\" means\n"
"    /tmp/perf-PID.map, and \"perf_jit\" means /tmp/jit-PID.dump, which also\n"
"    contains what they need to unwind stacks without frame pointers.\n"
"  lines\n"
"    Show the line that each Python function executes.\n"
"  calls\n"
"    Really call each Python function through its trampoline.  That is slower,\n"
"    and is for tools that follow calls, as callgrind does.  Excludes lines.\n"
"\n"
"Functions that are called from now on appear by name in the stacks that\n"
"perf, samply and other profilers record of this process.  On Linux,\n"
"functions that are already running appear, too.");

static PyObject *
sys_activate_stack_trampoline(PyObject *Py_UNUSED(module), PyObject *args,
                              PyObject *kwargs)
{
    static char *names[] = {"", "lines", "calls", NULL};
    PyObject *backend;
    int lines = 0, calls = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$pp:activate_stack_trampoline",
                                     names, &backend, &lines, &calls)) {
        return NULL;
    }
    if (!PyUnicode_Check(backend)) {
        PyErr_Format(PyExc_TypeError,
                     "activate_stack_trampoline() argument must be str, not %.200s",
                     Py_TYPE(backend)->tp_name);
        return NULL;
    }
    int mode = -1;
    Py_ssize_t length;
    const char *name = PyUnicode_AsUTF8AndSize(backend, &length);
    if (name == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    else if (strlen(name) == (size_t)length) {
        mode = _PyPerfProfiler_ModeFromName(name);
    }
    if (mode < 0) {
        PyErr_Format(PyExc_ValueError, "invalid backend: %U", backend);
        return NULL;
    }
    if (lines && calls) {
        PyErr_SetString(PyExc_ValueError, "lines and calls exclude each other");
        return NULL;
    }
    const int flags = (lines ? _PyPerf_LINES : 0) | (calls ? _PyPerf_CALLS : 0);
    if (_PyPerfProfiler_Activate(_PyThreadState_GET(), mode | flags) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(deactivate_doc,
"deactivate_stack_trampoline($module, /)\n"
"--\n"
"\n"
"Stop making Python functions visible to native profilers.\n"
"\n"
"The file remains, so names in existing recordings remain valid.");

static PyObject *
sys_deactivate_stack_trampoline(PyObject *Py_UNUSED(module),
                                PyObject *Py_UNUSED(ignored))
{
    _PyPerfProfiler_Deactivate(_PyThreadState_GET());
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_active_doc,
"is_stack_trampoline_active($module, /)\n"
"--\n"
"\n"
"Return whether Python functions are visible to native profilers.");

static PyObject *
sys_is_stack_trampoline_active(PyObject *Py_UNUSED(module),
                               PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(_PyPerfProfiler_IsActive(_PyThreadState_GET()));
}

PyMethodDef _PyPerf_SysMethods[] = {
    {"activate_stack_trampoline",
     (PyCFunction)(void (*)(void))sys_activate_stack_trampoline,
     METH_VARARGS | METH_KEYWORDS, activate_doc},
    {"deactivate_stack_trampoline", sys_deactivate_stack_trampoline,
     METH_NOARGS, deactivate_doc},
    {"is_stack_trampoline_active", sys_is_stack_trampoline_active,
     METH_NOARGS, is_active_doc},
    {NULL, NULL, 0, NULL},
};
