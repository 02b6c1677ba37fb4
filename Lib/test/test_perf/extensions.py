"""Compiles the C and C++ extensions in src. This file has no tests."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
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


def release_headers():
    """Return the directory of the headers of the unpatched release.

    They are in its source beside that of the interpreter, or installed by the
    distribution if it has the same version.
    """
    source = os.path.realpath(sysconfig.get_config_var('srcdir') or '.')
    version = '%d.%d' % sys.version_info[:2]
    for path in (os.path.join(source, '..', '..', f'{version}-base', 'src', 'Include'),
                 f'/usr/include/python{version}'):
        try:
            with open(os.path.join(path, 'patchlevel.h'), encoding='utf-8') as file:
                if f'"{platform.python_version()}' in file.read():
                    return os.path.normpath(path)
        except OSError:
            pass
    fixtures.tool_missing('no headers of the unpatched release')


def compile_for_release(source, directory):
    """Compile an extension module in src for the unpatched release."""
    name = os.path.splitext(source)[0]
    sources = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'src')
    command = [*compiler('CC'), '-O2', '-g', '-fPIC', '-shared',
               '-Wall', '-Wextra', '-Werror', f'-I{release_headers()}',
               # Its functions are on the stack while they call others.
               '-fno-omit-frame-pointer', '-fno-optimize-sibling-calls',
               # For pyconfig.h, which the source does not have.
               f'-I{os.path.dirname(sysconfig.get_config_h_filename())}',
               os.path.join(sources, source), '-o', os.path.join(directory, f'{name}.so')]
    built = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                           text=True)
    if built.returncode or built.stderr:
        raise AssertionError(f'{shlex.join(command)}: {built.stderr}')
