"""Links the interpreter again, so that calls of our files can fail.

    executable = relink.build(directory)
    subprocess.run([sys.executable, ...], executable=executable)

It is linked from the objects of the interpreter that runs this.  Calls in the
objects of our files are redirected to perf_faults.c.  The new program is
started under the name of the original, so that it finds the same standard
library.  This file has no tests.
"""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import unittest

from test.test_perf import fixtures

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'src')

PREFIX = 'perf_fault_'

# A write that takes half of the bytes and then fails, as in perf_faults.c.
SHORT_WRITE = 1000

# What can fail and with which errno.  The kinds have the names of
# perf_faults.c.
FAULTS = [
    ('memory', errno.ENOMEM),
    ('encode', errno.ENOMEM),
    ('set_extra', errno.ENOMEM),
    ('extra_index', errno.ENOMEM),
    ('mmap', errno.ENOMEM),
    ('mmap', errno.EPERM),
    ('mprotect', errno.EACCES),
    ('madvise', errno.EINVAL),
    ('open', errno.EMFILE),
    ('close', errno.EIO),
    ('fstat', errno.EIO),
    ('lstat', errno.ENOENT),
    ('ftruncate', errno.EIO),
    ('fchmod', errno.EPERM),
    ('read', errno.EIO),
    ('write', errno.ENOSPC),
    ('write', errno.EBADF),
    ('write', SHORT_WRITE),
    ('fcntl', errno.EMFILE),
    ('getrlimit', errno.EINVAL),
    ('setrlimit', errno.EPERM),
    ('unlink', errno.EACCES),
    ('lseek', errno.ESPIPE),
    ('atfork', errno.ENOMEM),
    ('lock', errno.EINVAL),
    ('getattr_np', errno.ENOMEM),
    ('dlopen', 0),
    ('dlsym', 0),
    ('dl_iterate', 0),
]

# Failures that go away: the caller tries again and succeeds.
ONCE = [
    ('open', errno.EINTR),
    ('write', errno.EINTR),
    ('read', errno.EINTR),
]

# The first call fails once, the others always.
TOGETHER = [
    # Half an entry that cannot be removed.
    [('write', SHORT_WRITE), ('ftruncate', errno.EIO)],
    # The path cannot be examined either.
    [('open', errno.EMFILE), ('lstat', errno.ENOENT)],
]

# A make target that prints command lines of the build.
QUESTION = """\
perf-faults-question:
\t@echo '$(LINKCC) $(PY_CORE_LDFLAGS) $(LINKFORSHARED)' \\
\t    'Programs/python.o $(LIBRARY_OBJS) $(LIBS) $(MODLIBS) $(SYSLIBS)'
\t@echo '$(CC) $(PY_CORE_CFLAGS)'
"""


def run(command, **options):
    """Run a command in the build directory and return its output."""
    if not shutil.which(command[0]):
        fixtures.tool_missing(f'no {command[0]}')
    done = subprocess.run(command, capture_output=True, text=True,
                          cwd=sysconfig.get_config_var('abs_builddir'),
                          env={k: v for k, v in os.environ.items()
                               if k not in ('MAKEFLAGS', 'MAKELEVEL')},
                          **options)
    if done.returncode:
        raise AssertionError(f'{shlex.join(command)}: {done.stderr[-2000:]}')
    return done.stdout


def symbols(path, *options):
    """Return the symbols that nm prints."""
    return {line.split()[-1]
            for line in run(['nm', *options, path]).splitlines()}


def without_64(name):
    """Return the name without 64: mmap64() is mmap(), as our offsets have 64
    bits.
    """
    return name.removesuffix('64')


class Build:
    """The commands that built the interpreter."""

    def __init__(self, sanitizers=()):
        if not sysconfig.is_python_build():
            raise unittest.SkipTest('needs the objects of the interpreter')
        link, compile_ = run(['make', '-s', '--no-print-directory',
                              '-f', 'Makefile', '-f', '-',
                              'perf-faults-question'],
                             input=QUESTION).splitlines()
        self.sanitizers = list(sanitizers)
        self.link = [*shlex.split(link), *self.sanitizers]
        self.compile = shlex.split(compile_)

    @property
    def our_objects(self):
        # The second eval loops are compiled from the base's ceval.c: their
        # calls are the base's.
        return [word for word in self.link
                if word.startswith('Python/perf_') and word.endswith('.o')
                and not word.startswith('Python/perf_evalloop')]

    def machine_code(self, path, directory):
        """Return an object file with machine code: `path`, or another one.

        Objects for link-time optimization have no machine code.
        """
        if not (self.sanitizers or
                any(word.startswith('-flto') for word in self.compile)):
            return path
        source = path.removesuffix('.o') + '.c'
        result = os.path.join(directory, 'again-' + os.path.basename(path))
        run([*self.compile, '-fno-lto', *self.sanitizers, '-c', os.path.join(
            sysconfig.get_config_var('abs_srcdir'), source), '-o', result])
        return result


def our_calls(build, directory):
    """Return the names of all functions that our files call."""
    names = set()
    for path in build.our_objects:
        names |= symbols(build.machine_code(path, directory), '-u')
    return {without_64(name) for name in names}


def wrapped(path):
    """Return the names of the functions that perf_faults.o replaces."""
    return {name.removeprefix(PREFIX)
            for name in symbols(path, '--defined-only', '--extern-only')
            if name.startswith(PREFIX)}


def redirect(path, copy, names):
    """Copy an object file. Calls of `names` go to the replacements."""
    run(['objcopy', *(f'--redefine-sym={name}={PREFIX}{without_64(name)}'
                      for name in symbols(path, '-u')
                      if without_64(name) in names), path, copy])


def compile_here(build, source, directory):
    """Compile one of the files in src and return the path of the object."""
    result = os.path.join(directory, source.removesuffix('.c') + '.o')
    run([*build.compile, '-fno-lto', '-c', os.path.join(SOURCES, source),
         '-o', result])
    return result


SANITIZERS = ['-g', '-fsanitize=address,undefined',
              '-fno-sanitize-recover=undefined']


def build(directory, sanitized=False):
    """Link the interpreter in this directory and return its path.

    sanitized: compile our files anew with AddressSanitizer and
    UndefinedBehaviorSanitizer
    """
    build = Build(SANITIZERS if sanitized else [])
    faults = compile_here(build, 'perf_faults.c', directory)
    names = wrapped(faults)
    link = list(build.link)
    for path in build.our_objects:
        original = build.machine_code(path, directory)
        copy = os.path.join(directory, os.path.basename(path))
        redirect(original, copy, names)
        link[link.index(path)] = copy
    executable = os.path.join(directory, 'python')
    position = link.index('Programs/python.o')
    run([*link[:position], '-o', executable, faults, *link[position:]])
    return executable


def build_embedding(directory):
    """Link perf_embed.c with the interpreter's objects; return its path."""
    build = Build()
    program = compile_here(build, 'perf_embed.c', directory)
    executable = os.path.join(directory, 'perf_embed')
    position = build.link.index('Programs/python.o')
    run([*build.link[:position], '-o', executable, program,
         *build.link[position + 1:]])
    return executable


STUB = 'Python/perf_stub.o'


def platform_objects():
    """Return a pattern for the objects that configure links only on platforms
    with trampolines.
    """
    with open(os.path.join(sysconfig.get_config_var('abs_srcdir'),
                           'configure.ac'), encoding='utf-8') as file:
        names = re.findall(r'Python/[\w$]+\.o', ''.join(
            line for line in file if 'PERF_OBJS=' in line))
    names.remove(STUB)
    return re.compile('|'.join(
        re.escape(name).replace(re.escape('$perf_arch'), r'\w+')
        for name in names))


def may_differ(source):
    """Return whether this file may depend on PY_HAVE_PERF_TRAMPOLINE."""
    if not os.path.exists(source):
        return False                # it is compiled from several files
    with open(source, encoding='utf-8') as file:
        return 'pycore_perf_eval' in file.read() or 'perf_' in source


def build_without_trampolines(directory):
    """Link the interpreter as on platforms without trampolines.

    perf_stub.c takes the place of other files.  The files that may depend on
    PY_HAVE_PERF_TRAMPOLINE are compiled again.  Return the path of the
    interpreter.
    """
    build = Build()
    with open(sysconfig.get_config_h_filename(), encoding='utf-8') as file:
        text = file.read()
    if '#define PY_HAVE_PERF_TRAMPOLINE 1' not in text:
        raise AssertionError('pyconfig.h has no PY_HAVE_PERF_TRAMPOLINE')
    # The compiler finds this one first.
    with open(os.path.join(directory, 'pyconfig.h'), 'w',
              encoding='utf-8') as file:
        file.write(text + '\n#undef PY_HAVE_PERF_TRAMPOLINE\n')
    left_out = platform_objects()
    link = [word for word in build.link if not left_out.fullmatch(word)]
    link.insert(link.index('Programs/python.o'), STUB)
    for position, word in enumerate(link):
        source = os.path.join(sysconfig.get_config_var('abs_srcdir'),
                              word.removesuffix('.o') + '.c')
        if word.endswith('.o') and may_differ(source):
            link[position] = os.path.join(directory, os.path.basename(word))
            run([build.compile[0], f'-I{directory}', *build.compile[1:],
                 '-O1', '-c', source, '-o', link[position]])
    executable = os.path.join(directory, 'python')
    run([*link, '-o', executable])
    return executable
