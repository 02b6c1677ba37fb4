/* A program that starts and ends an interpreter again and again.

       perf_embed MODE ROUNDS PROGRAM_NAME SOURCE

   MODE is the value of PyConfig.perf_profiling.  The exit status is that of the
   first round that fails.  */

#include "Python.h"
#include <stdio.h>
#include <stdlib.h>

static void
check(PyStatus status)
{
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
}

static int
round_run(int mode, char *program_name, char *source)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.perf_profiling = mode;
    config.parse_argv = 0;
    check(PyConfig_SetBytesString(&config, &config.program_name, program_name));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    int result = PyRun_SimpleString(source);
    return Py_FinalizeEx() < 0 || result < 0;
}

int
main(int argc, char **argv)
{
    if (argc != 5) {
        return 2;
    }
    for (int i = atoi(argv[2]); i > 0; i--) {
        if (round_run(atoi(argv[1]), argv[3], argv[4]) != 0) {
            return 1;
        }
    }
    return 0;
}
