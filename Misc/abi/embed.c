/* A program with an interpreter in it, as one that was built for the unpatched release:
   Misc/build/abi.sh compiles it with the headers of the base, links it with the
   base's shared library and runs it with ours.

       embed PROGRAM_NAME SOURCE

   Run SOURCE.  The exit status is 0 if that succeeds and the memory around PyConfig
   is as it was.  */

#include <Python.h>
#include <stdio.h>
#include <string.h>

#define FENCE 64

static struct {
    unsigned char before[FENCE];
    PyConfig config;
    unsigned char after[FENCE];
} area;

static void
check(PyStatus status)
{
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
}

static int
is_intact(const char *step)
{
    for (size_t i = 0; i < FENCE; i++) {
        if (area.before[i] != 0xA5 || area.after[i] != 0xA5) {
            printf("%s writes beyond PyConfig\n", step);
            return 0;
        }
    }
    return 1;
}

int
main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    // What the program leaves unset is not zero.
    memset(&area, 0xA5, sizeof(area));
    PyConfig_InitPythonConfig(&area.config);
    if (!is_intact("PyConfig_InitPythonConfig()")) {
        return 1;
    }
    check(PyConfig_SetBytesString(&area.config, &area.config.program_name, argv[1]));
    check(Py_InitializeFromConfig(&area.config));
    if (!is_intact("Py_InitializeFromConfig()")) {
        return 1;
    }
    PyConfig_Clear(&area.config);
    int result = PyRun_SimpleString(argv[2]);
    return Py_FinalizeEx() < 0 || result < 0;
}
