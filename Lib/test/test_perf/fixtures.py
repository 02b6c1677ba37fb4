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
from test.test_perf.parsers import map_path, overlapping, parse_map, read_map

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
    """A child that has ended.

    pid, returncode, out, err   out and err are str
    file                        the path of the file that profiling writes
    entries                     what it has, read by read(pid) when first asked for
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
        """Return the names in the file of a process that a script has started."""
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
        """Run it with profiling and without.  Both must do the same.
        Return the run with profiling.

        silent: neither a file nor a warning is expected
        run: what runs it, if not run_python()
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

    def assert_good_entries(self, entries):
        """There are entries, and they are possible in a file of this mode."""
        self.assert_good_map(entries)

    def assert_good_map(self, entries):
        self.assertEqual(overlapping(entries), [])
        self.assertGreater(len(entries), 0)
        for entry in entries:
            self.assertGreater(entry.start, 0)
            self.assertGreater(entry.size, 0)

    def assert_written(self, run, *qualnames):
        """Each of these functions of the script is in the file once."""
        for name in map(self.script_name, qualnames):
            self.assertEqual(run.names.count(name), 1, name)

    def script_name(self, qualname):
        """Return the name that a function of the script has in the file."""
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
