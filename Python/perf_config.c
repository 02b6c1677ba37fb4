/* PyConfig.perf_profiling: from the environment and the command line.

       PYTHONPERFSUPPORT=1           -X perf         1   perf map
       PYTHON_PERF_JIT_SUPPORT=1     -X perf_jit     2   jitdump

   What stands on the command line wins over the environment: -X perf=0 switches
   off what a variable has switched on.  Where both kinds are asked for it is
   jitdump, which does everything that the map does.  A variable that is empty
   or "0" does not count; neither does any with -E or -I.  */

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

enum { UNSAID = -1, NO = 0, YES = 1, INVALID = 2 };

/* What the last -X `name` says. */
static int
option_value(const PyWideStringList *xoptions, const wchar_t *name)
{
    size_t length = wcslen(name);
    int value = UNSAID;
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
        return _PyStatus_OK();      // the embedding program has decided
    }
    int asked = _PyPerf_OFF;
    bool said = false;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(switches); i++) {
        switch (option_value(&config->xoptions, switches[i].option)) {
        case INVALID:
            return _PyStatus_ERR(switches[i].error);
        case YES:
            asked = switches[i].mode;
            said = true;
            break;
        case NO:
            said = true;
            break;
        }
    }
    for (size_t i = 0; !said && i < Py_ARRAY_LENGTH(switches); i++) {
        if (variable_is_set(config, switches[i].variable)) {
            asked = switches[i].mode;
        }
    }
    config->perf_profiling = asked;
    return _PyStatus_OK();
}
