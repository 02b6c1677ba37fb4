/* PyConfig.perf_profiling, from the command line and the environment.

       PYTHONPERFSUPPORT=1           -X perf         1   perf map
       PYTHON_PERF_JIT_SUPPORT=1     -X perf_jit     2   jitdump

   The value "lines" instead of 1 adds _PyPerf_LINES: the line of each Python function
   is shown.  "calls" adds _PyPerf_CALLS: each Python function is really called.  The
   two exclude each other.  An unknown value on the command line is a fatal error.  In
   the environment one line on stderr reports it, and profiling is off, also if the
   other variable switches it on.

   The command line wins over the environment: -X perf=0 switches off what a variable
   has switched on.  If both kinds are requested, the jitdump is used, because it does
   everything that the map does.  A variable that is empty or "0" has no effect.  With
   -E or -I no variable has.  */

#include "Python.h"
#include "pycore_initconfig.h"      // _Py_GetEnv()
#include "pycore_perf_config.h"
#include "pycore_perf_output.h"     // _PyPerf_MAP
#include <stdbool.h>

static const struct {
    int mode;
    const wchar_t *option;
    const char *variable;
    const char *error;
} switches[] = {
    {_PyPerf_MAP, L"perf", "PYTHONPERFSUPPORT",
     "-X perf: invalid value, expected -X perf, -X perf=1, -X perf=lines, "
     "-X perf=calls or -X perf=0"},
    {_PyPerf_JITDUMP, L"perf_jit", "PYTHON_PERF_JIT_SUPPORT",
     "-X perf_jit: invalid value, expected -X perf_jit, -X perf_jit=1, "
     "-X perf_jit=lines, -X perf_jit=calls or -X perf_jit=0"},
};

enum { NOT_GIVEN = -1, NO, YES, YES_LINES, YES_CALLS, INVALID };

/* What a value means, on the command line and in the environment. */
static const struct {
    const char *text;
    const wchar_t *wide_text;
    int value;
} values[] = {
    {"0", L"0", NO},
    {"1", L"1", YES},
    {"lines", L"lines", YES_LINES},
    {"calls", L"calls", YES_CALLS},
};

/* Return the value of an option, given what follows its name: nothing or "=VALUE".
   NOT_GIVEN if the option has a longer name. */
static int
option_meaning(const wchar_t *rest)
{
    if (*rest == L'\0') {
        return YES;
    }
    if (*rest != L'=') {
        return NOT_GIVEN;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(values); i++) {
        if (wcscmp(rest + 1, values[i].wide_text) == 0) {
            return values[i].value;
        }
    }
    return INVALID;
}

/* Return the value of the last option -X `name`, or INVALID if one of them has no
   valid value. */
static int
option_value(const PyWideStringList *xoptions, const wchar_t *name)
{
    size_t length = wcslen(name);
    int value = NOT_GIVEN;
    for (Py_ssize_t i = 0; i < xoptions->length; i++) {
        const wchar_t *option = xoptions->items[i];
        if (wcsncmp(option, name, length) != 0) {
            continue;
        }
        const int meaning = option_meaning(option + length);
        if (meaning == INVALID) {
            return INVALID;
        }
        if (meaning != NOT_GIVEN) {
            value = meaning;
        }
    }
    return value;
}

/* Return the value of the environment variable `name`.  NOT_GIVEN if it is not set or
   empty.  INVALID if its value is unknown, after one line on stderr. */
static int
variable_value(const PyConfig *config, const char *name)
{
    const char *text = _Py_GetEnv(config->use_environment, name);
    if (text == NULL) {
        return NOT_GIVEN;           // empty, too
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(values); i++) {
        if (strcmp(text, values[i].text) == 0) {
            return values[i].value;
        }
    }
    char action[64];
    struct _PyPerfError error;
    PyOS_snprintf(action, sizeof(action), "read %s", name);
    _PyPerfError_Set(&error, action, "",
                     "unknown value, expected 1, lines, calls or 0", 0);
    _PyPerfError_WarnEarly(&error);
    return INVALID;
}

/* Return whether a number greater than 0 is a value of PyConfig.perf_profiling. */
static bool
is_valid(int number)
{
    const int mode = number & ~_PyPerf_FLAGS;
    const int flags = number & _PyPerf_FLAGS;
    return (mode == _PyPerf_MAP || mode == _PyPerf_JITDUMP) && flags != _PyPerf_FLAGS;
}

/* Return `mode` as far as `value` requests it, otherwise `otherwise`. */
static int
mode_if_requested(int value, int mode, int otherwise)
{
    switch (value) {
    case YES:
        return mode;
    case YES_LINES:
        return mode | _PyPerf_LINES;
    case YES_CALLS:
        return mode | _PyPerf_CALLS;
    default:
        return otherwise;
    }
}

PyStatus
_PyPerf_ReadConfig(PyConfig *config)
{
    if (config->perf_profiling > 0 && !is_valid(config->perf_profiling)) {
        return _PyStatus_ERR("PyConfig.perf_profiling: "
                             "expected 0, 1, 2, 5, 6, 9 or 10");
    }
    if (config->perf_profiling >= 0) {
        return _PyStatus_OK();      // the embedding program has set it
    }
    int mode = _PyPerf_OFF;
    bool is_given = false;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(switches); i++) {
        const int value = option_value(&config->xoptions, switches[i].option);
        if (value == INVALID) {
            return _PyStatus_ERR(switches[i].error);
        }
        mode = mode_if_requested(value, switches[i].mode, mode);
        is_given |= value != NOT_GIVEN;
    }
    for (size_t i = 0; !is_given && i < Py_ARRAY_LENGTH(switches); i++) {
        const int value = variable_value(config, switches[i].variable);
        if (value == INVALID) {
            mode = _PyPerf_OFF;
            break;
        }
        mode = mode_if_requested(value, switches[i].mode, mode);
    }
    config->perf_profiling = mode;
    return _PyStatus_OK();
}
