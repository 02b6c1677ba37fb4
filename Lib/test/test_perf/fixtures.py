"""What every test of the native profilers starts from.

Requirements, Python children and what they leave, the tools.  The classes that
record with a profiler are in scenarios.py, the parsers in parsers.py and
jitdump.py.  This file has no tests.

The profilers are taken from the environment variables PERF and SAMPLY, else
from PATH.  A test that needs one and finds none is skipped, or fails if
PYTHON_PERF_TESTS_REQUIRE_TOOLS=1 is set.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import unittest

from test.support import check_sanitizer, os_helper
from test.test_perf.parsers import overlapping, read_map, map_path

# How long a child may take before it counts as hung, in seconds.  No test
# waits for this to pass.
TIMEOUT = 600

SWITCHES = ('PYTHONPERFSUPPORT', 'PYTHON_PERF_JIT_SUPPORT')

WARNING = 'python: perf profiling is off: '


def require_trampoline():
    """For setUpModule(): skip where the interpreter has no trampolines."""
    if not sysconfig.get_config_var('PY_HAVE_PERF_TRAMPOLINE'):
        raise unittest.SkipTest('this interpreter has no perf trampoline')


def interpreter_image():
    """Return the path of the program that runs this.

    sys.executable may be a script that starts it under an emulator.
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
    """Are the functions of the interpreter that end with a call not on the
    stack during it?  So it is for the two that call the base of records.
    """
    return (optimization() in ('2', '3')
            and not check_sanitizer(address=True, ub=True))


def is_emulated():
    """Does this run under qemu-user?"""
    try:
        return os.path.realpath(sys.executable) != interpreter_image()
    except OSError:         # no /proc
        return False


def not_emulated(reason):
    """A decorator: skip under qemu-user, which cannot do this."""
    return unittest.skipIf(is_emulated(), reason)


def require_no_emulation(reason):
    """The same for setUpModule() and setUpClass()."""
    if is_emulated():
        raise unittest.SkipTest(reason)


def repetitions(count):
    """Return how often to do what is to be done so many times: a tenth of it
    under qemu-user, where each takes ten times as long."""
    return count // 10 if is_emulated() else count


# RLIMIT_AS, seccomp, and that memory is to be executable.
requires_the_kernel = not_emulated('qemu-user keeps this from the kernel')

requires_root = unittest.skipUnless(
    hasattr(os, 'geteuid') and os.geteuid() == 0, 'needs root')


# ---------------------------------------------------------------------------
# Python children

def clean_environment(**changes):
    """Return the environment without our switches, then with the changes."""
    env = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    for name in ('DEBUGINFOD_URLS', 'JITDUMPDIR'):
        env.pop(name, None)
    env['PERF_CONFIG'] = os.devnull
    env['PYTHONDONTWRITEBYTECODE'] = '1'
    env.update(changes)
    return env


class Finished:
    """A child that has ended: pid, returncode, out, err (str)."""

    def __init__(self, pid, returncode, out, err):
        self.pid = pid
        self.returncode = returncode
        self.out = out
        self.err = err

    def __repr__(self):
        return (f'<pid {self.pid} ended with {self.returncode}, '
                f'stdout: {self.out[-2000:]!r}, stderr: {self.err[-2000:]!r}>')

    @property
    def map_path(self):
        return map_path(self.pid)

    @property
    def has_map(self):
        return os.path.lexists(self.map_path)

    @functools.cached_property
    def entries(self):
        return read_map(self.pid)

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
    """Each test has a directory of its own and cleans up behind its children.

    self.directory   deleted after the test; scripts are written there
    """

    def setUp(self):
        self.directory = os.path.realpath(
            tempfile.mkdtemp(prefix='test_perf_'))
        self.addCleanup(os_helper.rmtree, self.directory)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def track(self, pid):
        """See to it that this process leaves no files behind."""
        pid = int(pid)
        for path in (map_path(pid), f'/tmp/jit-{pid}.dump'):
            self.addCleanup(remove_whatever_it_is, path)
        return pid

    def write_script(self, source, name='script.py'):
        path = self.path(name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(textwrap.dedent(source))
        return path

    def run_command(self, command, *, env=None, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    returncode=0, **options):
        """Run it to its end.  returncode None accepts any exit status."""
        if env is None:
            env = clean_environment()
        if 'executable' in options and is_emulated():
            # The script that is the command takes it from there.
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
                         for data in (out, err)))
        if returncode is not None:
            self.assertEqual(run.returncode, returncode, run)
        return run

    def python_command(self, source, mode='perf', options=(), args=(),
                       name='script.py'):
        """Return the command that runs this source in this mode.

        mode: 'perf', 'perf_jit', or None for an interpreter left alone.
        """
        switch = [] if mode is None else ['-X', mode]
        return [sys.executable, *switch, *options,
                self.write_script(source, name), *args]

    def run_python(self, source, mode='perf', *, prepare=None, options=(),
                   args=(), env=None, **rest):
        """Run a script.

        prepare: shell commands to be run first, in the same process, with
        the path of the map to come in $MAP.  Another process may have had
        the same pid, so what it left there is always removed.
        """
        command = ['/bin/sh', '-c',
                   'MAP=/tmp/perf-$$.map; rm -rf "$MAP"; '
                   f'set -e; {prepare or ":"}\nexec "$@"', 'sh',
                   *self.python_command(source, mode, options, args)]
        if env is not None:
            env = clean_environment(**env)
        return self.run_command(command, env=env, **rest)

    def run_on_and_off(self, source, returncode=0, *, silent=False,
                       run=None, **options):
        """Run it with profiling and without, see that it does the same,
        and return the run with profiling.

        silent: there will be no map, and the warning is not to be seen.
        run: what runs it, if not run_python().
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
        """There is one, it names these parts, and stderr has no more."""
        self.assertEqual(len(run.warnings), 1, run)
        for part in parts:
            self.assertIn(part, run.warnings[0])
        self.assertEqual(run.err_without_warnings, '')

    def assert_good_map(self, entries):
        self.assertEqual(overlapping(entries), [])
        self.assertGreater(len(entries), 0)
        for entry in entries:
            self.assertGreater(entry.start, 0)
            self.assertGreater(entry.size, 0)

    def script_name(self, qualname):
        return f'py::{qualname}:{self.path("script.py")}'

    def make_target(self):
        """Make a file that nothing may touch and return its path."""
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
