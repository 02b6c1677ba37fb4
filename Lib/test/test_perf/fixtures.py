"""What all tests of native profiler support share.

This file has the checks for requirements, the test case that runs Python
children, and the look-up of tools.  Test cases that record with a profiler are
in scenarios.py.  Parsers are in parsers.py and jitdump.py.  This file has no
tests.

The environment variables PERF, SAMPLY and PERFPARSER name the profilers.  If they are not
set, PATH is searched.  If a test needs a profiler and there is none, the test
is skipped; with PYTHON_PERF_TESTS_REQUIRE_TOOLS=1 it fails.
"""

import functools
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import unittest

from test.support import check_sanitizer, os_helper
from test.test_perf.parsers import map_path, overlapping, parse_map, read_map

# A child that takes longer than this hangs.  In seconds.  No test waits for
# this time to pass.
TIMEOUT = 600

SWITCHES = ('PYTHONPERFSUPPORT', 'PYTHON_PERF_JIT_SUPPORT')

WARNING = 'python: perf profiling is off: '

# The comprehensions that are functions.  Since CPython 3.12 (PEP 709) those of
# lists, sets and dictionaries are part of the function around them.
FUNCTION_COMPREHENSIONS = ('genexpr',)
if sys.version_info < (3, 12):
    FUNCTION_COMPREHENSIONS += ('listcomp', 'setcomp', 'dictcomp')

# Whether an eval loop resumes generators and coroutines itself, and so hands them over
# together with their callers.
INLINED_GENERATORS = sys.version_info >= (3, 13)


def require_trampoline():
    """For setUpModule(): skip if the interpreter has no trampolines."""
    if not sysconfig.get_config_var('PY_HAVE_PERF_TRAMPOLINE'):
        raise unittest.SkipTest('this interpreter has no perf trampoline')


def interpreter_image():
    """Return the path of the program that runs this code.

    sys.executable may be a script that starts this program under an emulator.
    """
    return os.readlink('/proc/self/exe')


def require_frame_pointers():
    flags = sysconfig.get_config_var('PY_CORE_CFLAGS') or ''
    if 'no-omit-frame-pointer' not in flags:
        raise unittest.SkipTest('the interpreter has no frame pointers')


def optimization():
    """Return the last -O option that the interpreter was compiled with."""
    flags = ' '.join(sysconfig.get_config_var(name) or ''
                     for name in ('PY_CFLAGS', 'PY_CORE_CFLAGS'))
    return (re.findall(r'-O(\w+)', flags) or ['0'])[-1]


def last_calls_are_jumps():
    """Return whether the compiler turned last calls into jumps.

    If it did, the two C functions whose last call leads to
    _PyPerf_EnterEvalLoop() are not on the stack during that call.
    """
    return (optimization() in ('2', '3')
            and not check_sanitizer(address=True, ub=True))


def hands_over():
    """Return whether functions that are running when profiling is switched on are
    handed over to the second eval loop (_PyPerfArch_CAN_RETURN_TO)."""
    return (sys.platform == 'linux'
            and platform.machine() in ('x86_64', 'aarch64', 'riscv64'))


# Whether threads run Python code at the same time (--disable-gil).
FREE_THREADED = bool(sysconfig.get_config_var('Py_GIL_DISABLED'))

functions_die_at_once = unittest.skipIf(
    FREE_THREADED,
    'without the GIL functions live until the garbage collector runs')


def require_hand_over():
    if not hands_over():
        raise unittest.SkipTest('no hand-over on this platform')


needs_hand_over = unittest.skipUnless(
    hands_over(), 'no hand-over on this platform')

# For tests that observe each instruction.  Of the processors, only x86-64 lets a
# program ask for its own single steps.
needs_single_steps = unittest.skipUnless(
    platform.machine() == 'x86_64', 'no single steps on this processor')


def is_emulated():
    """Return whether this runs under qemu-user."""
    try:
        return os.path.realpath(sys.executable) != interpreter_image()
    except OSError:         # no /proc
        return False


def not_emulated(reason):
    """Return a decorator that skips a test under qemu-user."""
    return unittest.skipIf(is_emulated(), reason)


def require_no_emulation(reason):
    """For setUpModule() and setUpClass(): skip under qemu-user."""
    if is_emulated():
        raise unittest.SkipTest(reason)


def repetitions(count):
    """Return `count`, or a tenth of it under qemu-user, which takes ten times
    as long.
    """
    return count // 10 if is_emulated() else count


# For tests of RLIMIT_AS, seccomp filters and executable memory.
requires_the_kernel = not_emulated('qemu-user keeps this from the kernel')

requires_root = unittest.skipUnless(
    hasattr(os, 'geteuid') and os.geteuid() == 0, 'needs root')


# ---------------------------------------------------------------------------
# Python children

def clean_environment(**changes):
    """Return the environment of a child.

    It has neither our switches nor JITDUMPDIR, unless `changes` set them.  Output is
    buffered, as it is for most users.  If the interpreter can do without the GIL, it
    does, also when it loads the extension modules of these tests.
    """
    env = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    for name in ('DEBUGINFOD_URLS', 'JITDUMPDIR', 'PYTHONUNBUFFERED'):
        env.pop(name, None)
    env['PERF_CONFIG'] = os.devnull
    env['PYTHONDONTWRITEBYTECODE'] = '1'
    if FREE_THREADED:
        env['PYTHON_GIL'] = '0'
    env.update(changes)
    return env


def allow_large_stack():
    """Allow a C stack of 64 MiB (a preexec_fn).  At -O0 a call takes ten kilobytes."""
    resource.setrlimit(resource.RLIMIT_STACK, (
        2**26, resource.getrlimit(resource.RLIMIT_STACK)[1]))


class Finished:
    """A child that has ended.

    pid, returncode, out, err   out and err are str
    file                        the path of the file that profiling writes
    entries                     what it has; read(pid) reads it at first use
    """

    def __init__(self, pid, returncode, out, err, file=None, read=read_map):
        self.pid = pid
        self.returncode = returncode
        self.out = out
        self.err = err
        self.file = file
        self.read = read

    def __repr__(self):
        return (f'<pid {self.pid} ended with {self.returncode}, '
                f'stdout: {self.out[-2000:]!r}, stderr: {self.err[-2000:]!r}>')

    @property
    def map_path(self):
        return map_path(self.pid)

    @property
    def has_map(self):
        return os.path.lexists(self.map_path)

    @property
    def has_file(self):
        return os.path.lexists(self.file)

    @functools.cached_property
    def entries(self):
        return self.read(self.pid)

    @property
    def names(self):
        return [entry.name for entry in self.entries]

    @property
    def warnings(self):
        return [line for line in self.err.splitlines()
                if line.startswith(WARNING)]

    @property
    def err_without_warnings(self):
        return ''.join(line for line in self.err.splitlines(keepends=True)
                       if not line.startswith(WARNING))


class PerfTestCase(unittest.TestCase):
    """Each test has its own directory and removes what its children leave.

    directory   scripts are written there; it is deleted after the test
    mode        how run_python() runs scripts unless a test says otherwise
    FILE        the path of the file that profiling writes in this mode, as the
                inside of an f-string of the process that writes it
    """

    mode = 'perf'
    FILE = '/tmp/perf-{os.getpid()}.map'

    def setUp(self):
        self.directory = os.path.realpath(
            tempfile.mkdtemp(prefix='test_perf_'))
        self.addCleanup(os_helper.rmtree, self.directory)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def file_of(self, pid):
        """Return the path of the file that profiling writes in this mode."""
        return map_path(pid)

    def read_file(self, path, pid):
        """Return the entries of a file of this process, in their order.

        An entry has start, size and name.  A malformed file is an error.
        """
        with open(path, 'rb') as file:
            return parse_map(file.read())

    def read_entries(self, pid):
        """Return the entries of the file in its usual place."""
        return self.read_file(self.file_of(pid), pid)

    def child_names(self, pid):
        """Return the names in the file of a process that a script started."""
        entries = self.read_entries(self.track(pid))
        self.assert_good_entries(entries)
        return [entry.name for entry in entries]

    def track(self, pid):
        """Remove the files of this process after the test.  Return the pid."""
        pid = int(pid)
        for path in (map_path(pid), f'/tmp/jit-{pid}.dump'):
            self.addCleanup(remove_whatever_it_is, path)
        return pid

    def fill_in(self, source):
        """Replace @MODE@ by the mode and @FILE@ by FILE."""
        return source.replace('@MODE@', self.mode).replace('@FILE@', self.FILE)

    def write_script(self, source, name='script.py'):
        path = self.path(name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(self.fill_in(textwrap.dedent(source)))
        return path

    def run_command(self, command, *, env=None, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    returncode=0, **options):
        """Run a command to its end and return it, Finished.

        returncode: the expected exit status, or None if any will do
        """
        if env is None:
            env = clean_environment()
        if 'executable' in options and is_emulated():
            # python-qemu, which is the command, takes the program from this
            # variable.
            env = {**env, 'PYTHON_QEMU_PROGRAM': options.pop('executable')}
        with subprocess.Popen(command, env=env, stdin=stdin, stdout=stdout,
                              stderr=stderr, **options) as child:
            self.track(child.pid)
            try:
                out, err = child.communicate(timeout=TIMEOUT)
            except BaseException:
                child.kill()
                raise
        run = Finished(child.pid, child.returncode,
                       *((data or b'').decode('utf-8', 'backslashreplace')
                         for data in (out, err)),
                       self.file_of(child.pid), self.read_entries)
        if returncode is not None:
            self.assertEqual(run.returncode, returncode, run)
        return run

    def python_command(self, source, mode='default', options=(), args=(),
                       name='script.py'):
        """Return the command that runs this source in this mode.

        mode: what follows -X, None for no option, 'default' for self.mode
        """
        if mode == 'default':
            mode = self.mode
        switch = [] if mode is None else ['-X', mode]
        return [sys.executable, *switch, *options,
                self.write_script(source, name), *args]

    def run_python(self, source, mode='default', *, prepare=None, options=(),
                   args=(), env=None, **rest):
        """Run a script and return it, Finished.

        prepare: shell commands that the same process runs first.  $MAP, $DUMP
        and $FILE are the paths of its map, of its jitdump, and of the one of
        them that the mode of this class writes.

        Files that an earlier process of the same pid has left are removed.
        """
        command = ['/bin/sh', '-c',
                   'MAP=/tmp/perf-$$.map; DUMP=/tmp/jit-$$.dump; '
                   f'FILE={self.file_of("$$")}; rm -rf "$MAP" "$DUMP"; '
                   f'set -e; {prepare or ":"}\nexec "$@"', 'sh',
                   *self.python_command(source, mode, options, args)]
        if env is not None:
            env = clean_environment(**env)
        return self.run_command(command, env=env, **rest)

    def run_on_and_off(self, source, returncode=0, *, silent=False,
                       run=None, **options):
        """Run a script with profiling and without.  Both must do the same.

        Return the run with profiling.

        silent  neither a file nor a warning is expected
        run     what runs the script, instead of run_python()
        """
        run = run or self.run_python
        on = run(source, returncode=returncode, **options)
        if not silent:
            self.assertTrue(on.warnings or on.entries, 'it was not on')
        off = run(source, mode=None, returncode=returncode, **options)
        self.assertEqual(on.out, off.out)
        self.assertEqual(on.err_without_warnings, off.err)
        self.assertEqual(off.warnings, [])
        return on

    def assert_one_warning(self, run, *parts):
        """stderr is one warning, and the warning has these parts."""
        self.assertEqual(len(run.warnings), 1, run)
        for part in parts:
            self.assertIn(part, run.warnings[0])
        self.assertEqual(run.err_without_warnings, '')

    def assert_good_entries(self, entries):
        """There are entries, and a file of this mode may have them."""
        self.assert_good_map(entries)

    def assert_good_map(self, entries):
        self.assertEqual(overlapping(entries), [])
        self.assertGreater(len(entries), 0)
        for entry in entries:
            self.assertGreater(entry.start, 0)
            self.assertGreater(entry.size, 0)

    def assert_once(self, names, *qualnames):
        """Each of these functions of the script is among the names once."""
        for name in map(self.script_name, qualnames):
            self.assertEqual(names.count(name), 1, name)

    def assert_none(self, names, *qualnames):
        """None of these functions of the script is among the names."""
        for name in map(self.script_name, qualnames):
            self.assertNotIn(name, names)

    def assert_written(self, run, *qualnames):
        """The file has each of these functions of the script once."""
        self.assert_once(run.names, *qualnames)

    def script_name(self, qualname):
        """Return the name that a function of the script has in the file."""
        return f'py::{qualname}:{self.path("script.py")}'

    def make_target(self):
        """Make a file that nobody may write to and return its path."""
        with open(self.path('target'), 'w') as file:
            file.write('precious\n')
        return self.path('target')

    def assert_target_untouched(self):
        with open(self.path('target')) as file:
            self.assertEqual(file.read(), 'precious\n')


def remove_whatever_it_is(path):
    if os.path.isdir(path) and not os.path.islink(path):
        os_helper.rmdir(path)
    else:
        os_helper.unlink(path)


# ---------------------------------------------------------------------------
# Profilers

def tool_missing(reason):
    if os.environ.get('PYTHON_PERF_TESTS_REQUIRE_TOOLS') == '1':
        raise AssertionError(reason)
    raise unittest.SkipTest(reason)


def find_tool(variable, name):
    path = os.environ.get(variable) or shutil.which(name)
    if not path or not os.access(path, os.X_OK):
        tool_missing(f'no {name}: neither ${variable} nor PATH has it')
    return path
