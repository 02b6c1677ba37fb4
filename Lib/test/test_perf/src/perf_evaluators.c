/* An extension module with frame evaluators (PEP 523), as debuggers and compilers
   bring them.  It is compiled with the headers of the unpatched release.

   There are COUNT evaluators, numbered from 0, of a kind each:

       chain     calls the evaluator that was there when it was installed
       default   calls the interpreter's own eval loop, whatever was there
       copy      like chain, but runs frames of functions named "f" as copies: on
                 3.11 in memory of its own, on 3.13 in that of the thread; if DIRTY
                 is in the environment, in memory that was used before
       null      like chain, but for "broken": returns NULL and sets no exception
       other     like chain, but for "given": runs a frame of the function that
                 set_other() was given
       switch    like chain, but calls the function that set_hook() was given,
                 before it runs a frame of "switching"

   Each counts its calls by the names of the functions of the file that install()
   was called from.  Everything is guarded by the GIL. */

#define Py_BUILD_CORE_MODULE 1
#include <Python.h>
#include <internal/pycore_ceval.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_interp.h>

#define COUNT 3

enum kind {CHAIN, DEFAULT, COPY, NOTHING, OTHER, SWITCH, KINDS};

static const char *const kind_names[KINDS] = {
    "chain", "default", "copy", "null", "other", "switch",
};

static struct evaluator {
    enum kind kind;
    _PyFrameEvalFunction previous;
    PyObject *counts;               // name: number of calls
    PyObject *filename;             // of the functions that are counted
} evaluators[COUNT];

static PyObject *other_function;
static PyObject *hook;

/* Count a call.  An exception that is set stays so. */
static void
count_call(struct evaluator *evaluator, PyCodeObject *code)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyUnicode_Compare(code->co_filename, evaluator->filename) == 0) {
        PyObject *known = PyDict_GetItem(evaluator->counts, code->co_name);
        PyObject *next = PyLong_FromLong(known ? PyLong_AsLong(known) + 1 : 1);
        PyDict_SetItem(evaluator->counts, code->co_name, next);
        Py_DECREF(next);
    }
    PyErr_Restore(type, value, traceback);
}

#if PY_VERSION_HEX < 0x030C0000

#define CODE_OF(FRAME) ((FRAME)->f_code)
#define FUNCTION_OF(FRAME) ((FRAME)->f_func)

/* The caller of an evaluator clears the frame. */
#define END_FRAME(TSTATE, FRAME) ((void)(TSTATE), (void)(FRAME))

/* Make a frame that runs this function, with the first `nlocals` of the locals, in
   memory of our own. */
static _PyInterpreterFrame *
new_frame(PyThreadState *Py_UNUSED(tstate), PyFunctionObject *function,
          PyObject **locals, int nlocals)
{
    PyCodeObject *code = (PyCodeObject *)function->func_code;
    size_t size = sizeof(void *) * (size_t)(FRAME_SPECIALS_SIZE + code->co_nlocalsplus
                                            + code->co_stacksize);
    _PyInterpreterFrame *frame = malloc(size);
    if (getenv("DIRTY") != NULL) {
        memset(frame, 1, sizeof(void *) * FRAME_SPECIALS_SIZE);
    }
    Py_INCREF(function);
    _PyFrame_InitializeSpecials(frame, function, NULL, code->co_nlocalsplus);
    for (int i = 0; i < code->co_nlocalsplus; i++) {
        frame->localsplus[i] = i < nlocals ? locals[i] : NULL;
        Py_XINCREF(frame->localsplus[i]);
    }
    return frame;
}

static void
free_frame(_PyInterpreterFrame *frame)
{
    for (int i = 0; i < frame->stacktop; i++) {
        Py_XDECREF(frame->localsplus[i]);
    }
    Py_DECREF(frame->f_func);
    Py_DECREF(frame->f_code);
    free(frame);
}

#else   // 3.13

#define CODE_OF(FRAME) ((PyCodeObject *)(FRAME)->f_executable)
#define FUNCTION_OF(FRAME) ((PyFunctionObject *)(FRAME)->f_funcobj)

/* The evaluator clears the frame and takes it off the thread's stack of frames.  An
   eval loop does it, so only evaluators that call none need this. */
#define END_FRAME(TSTATE, FRAME) _PyEval_FrameClearAndPop(TSTATE, FRAME)

/* Make a frame that runs this function, with these arguments.  An eval loop pops it
   from the thread's stack of frames, so it must be there. */
static _PyInterpreterFrame *
new_frame(PyThreadState *tstate, PyFunctionObject *function, PyObject **arguments,
          int count)
{
    PyCodeObject *code = (PyCodeObject *)function->func_code;
    if (getenv("DIRTY") != NULL && _PyThreadState_HasStackSpace(tstate,
                                                                code->co_framesize)) {
        memset(tstate->datastack_top, 1, sizeof(void *) * (size_t)code->co_framesize);
    }
    for (int i = 0; i < count; i++) {
        Py_INCREF(arguments[i]);
    }
    Py_INCREF(function);
    return _PyEvalFramePushAndInit(tstate, function, NULL, arguments, (size_t)count,
                                   NULL);
}

static void
free_frame(_PyInterpreterFrame *Py_UNUSED(frame))
{
}

#endif

/* Run another frame, with the first `count` of the locals, in the place of the one that
   we were given. */
static PyObject *
run_instead(struct evaluator *evaluator, PyThreadState *tstate,
            _PyInterpreterFrame *given, PyFunctionObject *function, int count)
{
    _PyInterpreterFrame *frame = new_frame(tstate, function, given->localsplus, count);
    PyObject *result = frame == NULL ? NULL : evaluator->previous(tstate, frame, 0);
    free_frame(frame);
    END_FRAME(tstate, given);
    return result;
}

static PyObject *
evaluate(struct evaluator *evaluator, PyThreadState *tstate,
         _PyInterpreterFrame *frame, int throwflag)
{
    PyCodeObject *code = CODE_OF(frame);
    const char *name = PyUnicode_AsUTF8(code->co_name);
    count_call(evaluator, code);
    switch (evaluator->kind) {
    case DEFAULT:
        return _PyEval_EvalFrameDefault(tstate, frame, throwflag);
    case COPY:
        if (strcmp(name, "f") == 0) {
            return run_instead(evaluator, tstate, frame, FUNCTION_OF(frame),
                               code->co_argcount);
        }
        break;
    case NOTHING:
        if (strcmp(name, "broken") == 0) {
            END_FRAME(tstate, frame);
            return NULL;
        }
        break;
    case OTHER:
        if (strcmp(name, "given") == 0) {
            return run_instead(evaluator, tstate, frame,
                               (PyFunctionObject *)other_function, 0);
        }
        break;
    case SWITCH:
        if (strcmp(name, "switching") == 0) {
            PyObject *result = PyObject_CallNoArgs(hook);
            if (result == NULL) {
                END_FRAME(tstate, frame);
                return NULL;
            }
            Py_DECREF(result);
        }
        break;
    default:
        break;
    }
    return evaluator->previous(tstate, frame, throwflag);
}

/* The three functions that the interpreter calls. */
#define EVALUATOR(NUMBER) \
    static PyObject * \
    evaluate_##NUMBER(PyThreadState *tstate, _PyInterpreterFrame *frame, \
                      int throwflag) \
    { \
        return evaluate(&evaluators[NUMBER], tstate, frame, throwflag); \
    }

EVALUATOR(0)
EVALUATOR(1)
EVALUATOR(2)

static const _PyFrameEvalFunction functions[COUNT] = {
    evaluate_0, evaluate_1, evaluate_2,
};

static struct evaluator *
evaluator_of(int number)
{
    if (number < 0 || number >= COUNT) {
        PyErr_SetString(PyExc_IndexError, "no such evaluator");
        return NULL;
    }
    return &evaluators[number];
}

/* install(number, kind) */
static PyObject *
install(PyObject *Py_UNUSED(module), PyObject *args)
{
    int number;
    const char *name;
    if (!PyArg_ParseTuple(args, "is", &number, &name)) {
        return NULL;
    }
    struct evaluator *evaluator = evaluator_of(number);
    if (evaluator == NULL) {
        return NULL;
    }
    int kind = 0;
    while (kind < KINDS && strcmp(kind_names[kind], name) != 0) {
        kind++;
    }
    if (kind == KINDS) {
        return PyErr_Format(PyExc_ValueError, "unknown kind: %s", name);
    }
    PyCodeObject *code = PyFrame_GetCode(PyEval_GetFrame());
    Py_XSETREF(evaluator->filename, Py_NewRef(code->co_filename));
    Py_DECREF(code);
    if (evaluator->counts == NULL) {
        evaluator->counts = PyDict_New();
    }
    PyInterpreterState *interp = PyInterpreterState_Get();
    evaluator->kind = (enum kind)kind;
    evaluator->previous = _PyInterpreterState_GetEvalFrameFunc(interp);
    _PyInterpreterState_SetEvalFrameFunc(interp, functions[number]);
    Py_RETURN_NONE;
}

/* remove(number): the evaluator before it becomes the interpreter's. */
static PyObject *
remove_evaluator(PyObject *Py_UNUSED(module), PyObject *arg)
{
    struct evaluator *evaluator = evaluator_of((int)PyLong_AsLong(arg));
    if (evaluator == NULL) {
        return NULL;
    }
    _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(),
                                         evaluator->previous);
    Py_RETURN_NONE;
}

/* reset(): the interpreter's own eval loop runs all frames again. */
static PyObject *
reset(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(),
                                         _PyEval_EvalFrameDefault);
    Py_RETURN_NONE;
}

/* is_current(number): whether it is the interpreter's evaluator. */
static PyObject *
is_current(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int number = (int)PyLong_AsLong(arg);
    if (evaluator_of(number) == NULL) {
        return NULL;
    }
    return PyBool_FromLong(_PyInterpreterState_GetEvalFrameFunc(
                               PyInterpreterState_Get()) == functions[number]);
}

/* counts(number): a dictionary, number of calls by name; a copy. */
static PyObject *
counts(PyObject *Py_UNUSED(module), PyObject *arg)
{
    struct evaluator *evaluator = evaluator_of((int)PyLong_AsLong(arg));
    if (evaluator == NULL) {
        return NULL;
    }
    return evaluator->counts ? PyDict_Copy(evaluator->counts) : PyDict_New();
}

static PyObject *
set_other(PyObject *Py_UNUSED(module), PyObject *function)
{
    Py_XSETREF(other_function, Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyObject *
set_hook(PyObject *Py_UNUSED(module), PyObject *function)
{
    Py_XSETREF(hook, Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"install", install, METH_VARARGS, NULL},
    {"remove", remove_evaluator, METH_O, NULL},
    {"reset", reset, METH_NOARGS, NULL},
    {"is_current", is_current, METH_O, NULL},
    {"counts", counts, METH_O, NULL},
    {"set_other", set_other, METH_O, NULL},
    {"set_hook", set_hook, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "perf_evaluators", .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit_perf_evaluators(void)
{
    return PyModule_Create(&definition);
}
