/* PyConfig.perf_profiling, from the command line and the environment.

       PYTHONPERFSUPPORT=1           -X perf         1   perf map
       PYTHON_PERF_JIT_SUPPORT=1     -X perf_jit     2   jitdump

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
     "-X perf: invalid value, expected -X perf, -X perf=1 or -X perf=0"},
    {_PyPerf_JITDUMP, L"perf_jit", "PYTHON_PERF_JIT_SUPPORT",
     "-X perf_jit: invalid value, expected -X perf_jit, -X perf_jit=1 or "
     "-X perf_jit=0"},
};

enum { NOT_GIVEN = -1, NO = 0, YES = 1, INVALID = 2 };

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
        option += length;
        if (*option == L'\0' || wcscmp(option, L"=1") == 0) {
            value = YES;
        }
        else if (wcscmp(option, L"=0") == 0) {
            value = NO;
        }
        else if (*option == L'=') {
            return INVALID;
        }
    }
    return value;
}

/* Return whether the environment variable `name` requests its mode. */
static bool
variable_is_set(const PyConfig *config, const char *name)
{
    const char *value = _Py_GetEnv(config->use_environment, name);
    return value != NULL && strcmp(value, "0") != 0;
}

PyStatus
_PyPerf_ReadConfig(PyConfig *config)
{
    if (config->perf_profiling > _PyPerf_JITDUMP) {
        return _PyStatus_ERR("PyConfig.perf_profiling: expected 0, 1 or 2");
    }
    if (config->perf_profiling >= 0) {
        return _PyStatus_OK();      // the embedding program has set it
    }
    int mode = _PyPerf_OFF;
    bool is_given = false;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(switches); i++) {
        switch (option_value(&config->xoptions, switches[i].option)) {
        case INVALID:
            return _PyStatus_ERR(switches[i].error);
        case YES:
            mode = switches[i].mode;
            is_given = true;
            break;
        case NO:
            is_given = true;
            break;
        }
    }
    for (size_t i = 0; !is_given && i < Py_ARRAY_LENGTH(switches); i++) {
        if (variable_is_set(config, switches[i].variable)) {
            mode = switches[i].mode;
        }
    }
    config->perf_profiling = mode;
    return _PyStatus_OK();
}
