"""Compiles the C and C++ extensions in src. This file has no tests."""

import os
import shlex
import shutil
import subprocess
import sysconfig

from test.test_perf import fixtures

# The tests give programs little C stack.  A frame of the eval loop takes a
# third of a kilobyte.  If it is compiled with -O0, it takes ten, profiled or
# not.
STACK_FACTOR = 16 if fixtures.optimization() == '0' else 1


def compiler(variable):
    """Return the words of the compiler that built the interpreter."""
    words = shlex.split(sysconfig.get_config_var(variable)
                        or {'CC': 'cc', 'CXX': 'g++'}[variable])
    if not shutil.which(words[0]):
        fixtures.tool_missing(f'no compiler: {shlex.join(words)}')
    return words


def compile_extension(variable, source, directory):
    """Compile one of the files in src into a shared library."""
    sources = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'src')
    name = os.path.splitext(source)[0]
    command = [*compiler(variable), '-O2', '-g', '-fPIC', '-shared',
               '-fno-omit-frame-pointer', '-fasynchronous-unwind-tables',
               '-pthread', '-Wall', '-Wextra', '-Werror',
               f'-DSTACK_FACTOR={STACK_FACTOR}',
               *(f'-I{sysconfig.get_path(path)}'
                 for path in ('include', 'platinclude')),
               os.path.join(sources, source),
               '-o', os.path.join(directory, f'{name}.so'), '-ldl']
    built = subprocess.run(command, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True)
    if built.returncode or built.stderr:
        raise AssertionError(f'{shlex.join(command)}: {built.stderr}')
