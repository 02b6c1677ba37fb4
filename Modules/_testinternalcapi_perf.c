/* What _testinternalcapi offers to the tests of native profiling. */

#ifndef Py_BUILD_CORE_MODULE
#  define Py_BUILD_CORE_MODULE
#endif

#include "Python.h"

static PyObject *
write_perf_map_entry(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *address_object;
    unsigned int size;
    const char *name;
    if (!PyArg_ParseTuple(args, "OIs", &address_object, &size, &name)) {
        return NULL;
    }
    const void *address = PyLong_AsVoidPtr(address_object);
    if (address == NULL && PyErr_Occurred()) {
        return NULL;
    }
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = PyUnstable_WritePerfMapEntry(address, size, name);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(result);
}

static PyObject *
perf_map_state_init(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromLong(PyUnstable_PerfMapState_Init());
}

static PyObject *
perf_map_state_teardown(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    PyUnstable_PerfMapState_Fini();
    Py_RETURN_NONE;
}

static PyObject *
copy_perf_map_file(PyObject *Py_UNUSED(module), PyObject *path)
{
    PyObject *bytes;
    if (!PyUnicode_FSConverter(path, &bytes)) {
        return NULL;
    }
    int result = PyUnstable_CopyPerfMapFile(PyBytes_AS_STRING(bytes));
    Py_DECREF(bytes);
    return PyLong_FromLong(result);
}

static PyObject *
compile_perf_trampoline_entry(PyObject *Py_UNUSED(module), PyObject *code)
{
    if (!PyCode_Check(code)) {
        PyErr_Format(PyExc_TypeError, "expected a code object, not %.200s",
                     Py_TYPE(code)->tp_name);
        return NULL;
    }
    return PyLong_FromLong(
        PyUnstable_PerfTrampoline_CompileCode((PyCodeObject *)code));
}

static PyObject *
perf_trampoline_set_persist_after_fork(PyObject *Py_UNUSED(module),
                                       PyObject *flag)
{
    int enable = PyObject_IsTrue(flag);
    if (enable < 0) {
        return NULL;
    }
    return PyLong_FromLong(PyUnstable_PerfTrampoline_SetPersistAfterFork(enable));
}

PyMethodDef _PyTestInternalCapi_PerfMethods[] = {
    {"write_perf_map_entry", write_perf_map_entry, METH_VARARGS, NULL},
    {"perf_map_state_init", perf_map_state_init, METH_NOARGS, NULL},
    {"perf_map_state_teardown", perf_map_state_teardown, METH_NOARGS, NULL},
    {"copy_perf_map_file", copy_perf_map_file, METH_O, NULL},
    {"compile_perf_trampoline_entry", compile_perf_trampoline_entry, METH_O, NULL},
    {"perf_trampoline_set_persist_after_fork",
     perf_trampoline_set_persist_after_fork, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
