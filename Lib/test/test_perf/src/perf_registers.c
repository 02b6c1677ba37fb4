/* A C function that holds numbers in registers while it calls Python.

   test_late.py calls it.  When the Python function is handed over, it returns with
   registers that the interpreter has restored itself.  There are as many numbers as
   any processor has registers for them that a call preserves.  */

#include "Python.h"

/* call(function, times): call a function again and again.  After each call each number
   changes in its own way, so the compiler keeps it in a register.  Returns them all. */
static PyObject *
call(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function;
    int times;
    if (!PyArg_ParseTuple(args, "Oi", &function, &times)) {
        return NULL;
    }
    double a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
    double g = 0, h = 0, i = 0, j = 0, k = 0, l = 0;
    unsigned int m = 0, n = 0, o = 0, p = 0, q = 0, r = 0;
    unsigned int s = 0, t = 0, u = 0, v = 0, w = 0, x = 0;
    while (times-- > 0) {
        PyObject *result = PyObject_CallNoArgs(function);
        if (result == NULL) {
            return NULL;
        }
        Py_DECREF(result);
        a += 1, b += 2, c += 3, d += 4, e += 5, f += 6;
        g += 7, h += 8, i += 9, j += 10, k += 11, l += 12;
        m = 3 * m + 1, n = 3 * n + 2, o = 3 * o + 3, p = 3 * p + 4;
        q = 3 * q + 5, r = 3 * r + 6, s = 3 * s + 7, t = 3 * t + 8;
        u = 3 * u + 9, v = 3 * v + 10, w = 3 * w + 11, x = 3 * x + 12;
    }
    return Py_BuildValue("(dddddddddddd)(IIIIIIIIIIII)", a, b, c, d, e, f, g, h, i, j,
                         k, l, m, n, o, p, q, r, s, t, u, v, w, x);
}

static PyMethodDef methods[] = {
    {"call", call, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "perf_registers",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit_perf_registers(void)
{
    return PyModule_Create(&module);
}
