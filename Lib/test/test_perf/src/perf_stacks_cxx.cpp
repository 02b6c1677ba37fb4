/* C++ exceptions above, below and through Python functions, for test_stacks.py.
   Events are printed by write(2): they may occur without the GIL or at the end
   of the process. */

#include "Python.h"
#include <stdexcept>
#include <unistd.h>

namespace {

void
tell(const char *text)
{
    if (write(1, text, strlen(text)) < 0) {
        abort();
    }
}

/* Prints when it is destroyed. */
class Witness {
public:
    explicit Witness(const char *text) : text(text) {}
    Witness(const Witness &) = delete;
    Witness &operator=(const Witness &) = delete;
    ~Witness() { tell(text); }

private:
    const char *text;
};

[[noreturn, gnu::noinline]] void
fail(const char *what)
{
    Witness witness("fail() is left\n");
    throw std::runtime_error(what);
}

/* Call a Python function.  May be left by an exception of C++. */
PyObject *
call(PyObject *, PyObject *function)
{
    Witness witness("call() is left\n");
    return PyObject_CallNoArgs(function);
}

/* Throw, and catch it in the same function. */
PyObject *
throw_and_catch(PyObject *, PyObject *)
{
    try {
        fail("thrown and caught");
    }
    catch (const std::runtime_error &error) {
        return PyUnicode_FromString(error.what());
    }
}

/* Call a Python function, then throw past an object whose destructor also calls
   Python, and catch. */
PyObject *
call_then_throw(PyObject *, PyObject *function)
{
    class Caller {
    public:
        explicit Caller(PyObject *function) : function(function) {}
        ~Caller() { Py_XDECREF(PyObject_CallNoArgs(function)); }

    private:
        PyObject *function;
    };
    try {
        Caller caller(function);
        Py_XDECREF(PyObject_CallNoArgs(function));
        fail("thrown and caught");
    }
    catch (const std::runtime_error &) {
        return PyObject_CallNoArgs(function);
    }
}

/* Throw an exception out of the extension. */
PyObject *
throw_out(PyObject *, PyObject *)
{
    fail("thrown out");
}

/* Call a Python function and catch what is thrown through it.  The state of the
   interpreter is wrong after this, so end the process. */
PyObject *
call_and_catch(PyObject *, PyObject *function)
{
    try {
        return call(nullptr, function);
    }
    catch (const std::runtime_error &error) {
        tell(error.what());
        tell(": caught outside\n");
        _exit(3);
    }
}

PyMethodDef methods[] = {
    {"call", call, METH_O, nullptr},
    {"throw_and_catch", throw_and_catch, METH_NOARGS, nullptr},
    {"call_then_throw", call_then_throw, METH_O, nullptr},
    {"throw_out", throw_out, METH_NOARGS, nullptr},
    {"call_and_catch", call_and_catch, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "perf_stacks_cxx", nullptr, -1, methods,
    nullptr, nullptr, nullptr, nullptr,
};

}  // namespace

PyMODINIT_FUNC
PyInit_perf_stacks_cxx(void)
{
    return PyModule_Create(&module);
}
