"""What the tests of the native profiler support share.

Python children and what is left of them, perf maps, perf, samply.
There are no tests in here.

The profilers are taken from the environment variables PERF and SAMPLY, else
from PATH.  A test that needs one and finds none is skipped, or fails if
PYTHON_PERF_TESTS_REQUIRE_TOOLS=1 is set.
"""

import collections
import functools
import json
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

# How long a child may take before it counts as hung, in seconds.  No test
# waits for this to pass.
TIMEOUT = 600

SWITCHES = ('PYTHONPERFSUPPORT', 'PYTHON_PERF_JIT_SUPPORT')

WARNING = 'python: perf profiling is off: '

MAP_LINE = re.compile(r'([0-9a-f]+) ([0-9a-f]+) (.+)')

MapEntry = collections.namedtuple('MapEntry', 'start size name')

# chain: the frames, leaf first.
Sample = collections.namedtuple('Sample', 'pid chain')
Frame = collections.namedtuple('Frame', 'ip symbol dso')

EVAL_LOOP = '_PyEval_EvalFrameDefault'
# Calls the eval loop and holds the records of the functions that it inlines.
RECORD_BASE = '_PyPerf_EnterEvalLoop'

# What a script that is to be recorded begins with: work that stays in the
# eval loop, and a way to do enough of it, however slow the machine is.
WORK = """\
import time

def until(seconds, function, *args):
    end = time.process_time() + seconds
    while time.process_time() < end:
        function(*args)

def spin(n=20_000):
    total = 0
    for i in range(n):
        total += i
    return total

"""

# For the shell: tell the pid that the program will have, and remove what
# another process of that pid has left behind.
TELL_PID = ('echo $$; rm -rf "/tmp/perf-$$.map" "/tmp/jit-$$.dump"; '
            'exec "$@"')

FOO_BAR_BAZ = """\
def foo(): bar()
def bar(): baz()
def baz(): spin()

"""

RUN_FOO = FOO_BAR_BAZ + 'until(0.5, foo)\n'

RECURSIVE = """\
def recursive(n):
    if n:
        recursive(n - 1)
    else:
        spin()

"""


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
# Map files

def map_path(pid):
    return f'/tmp/perf-{pid}.map'


def parse_map(text):
    """Return the entries of a map.  A line out of shape is a ValueError."""
    if isinstance(text, bytes):
        text = text.decode('utf-8')
    if text and not text.endswith('\n'):
        raise ValueError(f'the last line is torn: {text[-200:]!r}')
    entries = []
    for line in text.split('\n')[:-1]:
        match = MAP_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f'not a line of a perf map: {line[:200]!r}')
        start, size, name = match.groups()
        entries.append(MapEntry(int(start, 16), int(size, 16), name))
    return entries


def read_map(pid):
    with open(map_path(pid), 'rb') as file:
        return parse_map(file.read())


def overlapping(entries):
    """Return the pairs of entries, one after the other, that overlap."""
    entries = sorted(entries)
    return [(a, b) for a, b in zip(entries, entries[1:])
            if a.start + a.size > b.start]


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


class ProfilerTestCase(PerfTestCase):
    """Tests that record with a profiler, by the record() of a subclass.

    The methods record_...() record a program, see to what must hold in the
    profile whichever profiler made it, and return what record() returns.
    """

    needs_frame_pointers = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_no_emulation('a profiler sees qemu-user, not what that runs')
        if cls.needs_frame_pointers:
            require_frame_pointers()

    @staticmethod
    def telling_pid(command):
        """Return a command that tells its pid before it runs that one."""
        return ['/bin/sh', '-c', TELL_PID, 'sh', *command]

    def told(self, run, returncode=0):
        """Return the program itself, of which only the profiler was run.

        The program has told its pid in its first line on stdout, and those
        of its children in lines of the kind `child PID`.
        """
        pid, _, out = run.out.partition('\n')
        if pid.isdecimal():
            for process in (pid, *re.findall(r'^child (\d+)$', out, re.M)):
                self.track(process)
        self.assertEqual(run.returncode, returncode, run)
        return Finished(int(pid), run.returncode, out, run.err)

    def assert_nested(self, samples, *qualnames, pid=None):
        """In nearly all samples of the first function of the script the
        others stand above it, in this order.  Return those samples.

        Nearly: frame pointers do not show the caller of a function that has
        just been entered.
        """
        wanted = [self.script_name(name) for name in qualnames]
        through = [sample for sample in samples_of(samples, wanted[0])
                   if pid in (None, sample.pid)]
        self.assertGreater(len(through), 50)
        nested = [sample for sample in through
                  if has_nested(python_names(sample), wanted)]
        self.assertGreaterEqual(len(nested), 0.95 * len(through))
        return nested

    def record_names(self, names):
        """Profile functions of hostile names and one that has a good name.

        names: source code of each name: how the profiler must show it.
        Return the run, the samples and the Python names in them.
        """
        run, samples = self.record(f"""\
            def good(): until(0.1, spin)

            def named(name):
                def function(): until(0.1, spin)
                function.__code__ = function.__code__.replace(
                    co_qualname=name, co_filename='/file')
                function()

            for name in [{', '.join(names)}]:
                named(name)
            good()
            """)
        seen = {name for sample in samples for name in python_names(sample)}
        for expected in [f'py::{name}:/file' for name in names.values()]:
            with self.subTest(name=expected[:100]):
                self.assertTrue(expected in seen)
        # The others have lost nothing by them.
        self.assertIn(self.script_name('good'), seen)
        return run, samples, seen

    def record_foo(self):
        run, samples = self.record(RUN_FOO)
        names = ('spin', 'baz', 'bar', 'foo', 'until', '<module>')
        for sample in self.assert_nested(samples, *names)[:100]:
            # One entry for each, and nothing of Python between them.
            self.assertEqual(python_names(sample),
                             [self.script_name(name) for name in names])
        return run, samples

    def record_levels(self, **options):
        """101 functions, each called by the one before."""
        levels = ''.join(f'def level{n}(): level{n + 1}()\n'
                         for n in range(100))
        run, samples = self.record(
            levels + 'def level100(): spin()\n\nuntil(0.5, level0)\n',
            **options)
        names = ['spin', *(f'level{n}' for n in range(100, -1, -1))]
        self.assert_nested(samples, *names)
        return run, samples

    def record_without_the_switch(self):
        run, samples = self.record(RUN_FOO, mode=None)
        self.assertGreater(len(samples), 50)
        self.assertFalse(any(map(python_names, samples)))
        return run, samples

    def record_activated(self, mode):
        """Switch it on, in this mode, and off again at run time.  Return
        also the samples in between."""
        run, samples = self.record(FOO_BAR_BAZ + textwrap.dedent(f"""\
            import sys

            def before(): spin()
            def switched_on(): until(0.5, foo)

            until(0.5, before)
            sys.activate_stack_trampoline({mode!r})
            switched_on()
            sys.deactivate_stack_trampoline()

            def after(): spin()

            until(0.5, after)
            """), mode=None)
        nested = self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo',
                                    'until', 'switched_on')
        for name in ('before', 'after'):
            self.assertEqual(
                samples_of(samples, self.script_name(name)), [])
        return run, samples, nested

    def record_recursion(self):
        run, samples = self.record(RECURSIVE + 'until(0.5, recursive, 9)\n')
        recursive = self.script_name('recursive')
        for sample in self.assert_nested(samples, 'spin', 'recursive',
                                         'until')[:100]:
            self.assertEqual(python_names(sample).count(recursive), 10)
        return run, samples

    def record_methods(self):
        run, samples = self.record("""\
            class Outer:
                class Inner:
                    def method(self):
                        def local():
                            spin()
                        local()

                    @staticmethod
                    def static():
                        Outer.Inner().method()

                    @classmethod
                    def class_method(cls):
                        cls.static()

                    def __len__(self):
                        self.class_method()
                        return 0

            until(0.5, len, Outer.Inner())
            """)
        self.assert_nested(
            samples, 'spin', 'Outer.Inner.method.<locals>.local',
            'Outer.Inner.method', 'Outer.Inner.static',
            'Outer.Inner.class_method', 'Outer.Inner.__len__', 'until')
        return run, samples

    def record_callback(self, **options):
        """C code calls a function.  Return also the symbols that stand
        between that and its caller, of some samples."""
        run, samples = self.record("""\
            def key(x):
                spin(1000)
                return -x

            def sorting():
                sorted(range(20), key=key)

            until(0.5, sorting)
            """, **options)
        key, sorting = map(self.script_name, ('key', 'sorting'))
        found = []
        for sample in self.assert_nested(samples, 'spin', 'key', 'sorting',
                                         'until')[:100]:
            symbols = [frame.symbol for frame in sample.chain]
            between = symbols[symbols.index(key) + 1:symbols.index(sorting)]
            self.assertTrue([symbol for symbol in between
                             if 'sort' in symbol.lower()], between)
            found.append(between)
        return run, samples, found

    def record_threads(self):
        """Two threads.  Return also the samples of each."""
        run, samples = self.record("""\
            import threading

            def first(): spin()
            def second(): spin()

            def work(function):
                end = time.thread_time() + 0.5
                while time.thread_time() < end:
                    function()

            threads = [threading.Thread(target=work, args=(function,))
                       for function in (first, second)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            """)
        return run, samples, [self.assert_nested(samples, name, 'work')
                              for name in ('first', 'second')]

    def record_exception(self):
        run, samples = self.record("""\
            def raising(n):
                if n:
                    raising(n - 1)
                raise ValueError

            def catching():
                try:
                    raising(5)
                except ValueError:
                    pass
                spin()

            until(0.5, catching)
            """)
        for sample in self.assert_nested(samples, 'spin', 'catching'):
            self.assertNotIn(self.script_name('raising'),
                             python_names(sample))
        return run, samples

    def record_fork(self, *args):
        """Parent and child are profiled.  Return also the child's pid.

        args: 'compile', for a function that only the child calls to get its
        trampoline before, and 'persist', for the child to keep them all.
        """
        run, samples = self.record("""\
            import os, sys

            def both(n=20_000): spin(n)
            def only_child(): both()
            def only_parent(): both()

            def forking():
                child = os.fork()
                if not child:
                    until(0.5, only_child)
                    os._exit(0)
                until(0.5, only_parent)
                assert os.waitpid(child, 0)[1] == 0
                print('child', child)

            both(0)    # nothing that samples would count
            if 'compile' in sys.argv:
                from _testinternalcapi import compile_perf_trampoline_entry
                compile_perf_trampoline_entry(only_child.__code__)
            if 'persist' in sys.argv:
                from _testinternalcapi import (
                    perf_trampoline_set_persist_after_fork as set_persist)
                set_persist(1)
            forking()
            """, args=args)
        child = int(run.out.split()[1])
        for pid, name in ((child, 'only_child'), (run.pid, 'only_parent')):
            self.assert_nested(samples, 'spin', 'both', name, 'until',
                               'forking', '<module>', pid=pid)
        return run, samples, child


# ---------------------------------------------------------------------------
# perf

class PerfToolTestCase(ProfilerTestCase):
    """Tests that record with perf."""

    record_options = ('-q', '-B', '-N', '-e', 'cpu-clock:u')
    call_graph = 'fp'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.perf = find_tool('PERF', 'perf')
        with tempfile.TemporaryDirectory() as directory:
            trial = subprocess.run(
                [cls.perf, 'record', *cls.record_options, '--call-graph',
                 cls.call_graph, '-o', os.path.join(directory, 'perf.data'),
                 'true'],
                env=clean_environment(), stdin=subprocess.DEVNULL,
                capture_output=True)
        if trial.returncode:
            tool_missing('perf cannot record here: '
                         + trial.stderr.decode(errors='replace'))

    def perf_command(self, command, *arguments):
        return [self.perf, '--buildid-dir', self.path('buildids'), command,
                *arguments]

    def record_command(self, *options, frequency=9999, call_graph=None):
        """Return the command line of perf record, up to the program."""
        return self.perf_command(
            'record', *self.record_options, '-F', str(frequency),
            '--call-graph', call_graph or self.call_graph, '-o',
            self.path('perf.data'), *options)

    def record(self, source, mode='perf', *, args=(), **options):
        """Record WORK and this and return it, finished, and its samples."""
        return self.record_program(
            self.python_command(WORK + textwrap.dedent(source), mode,
                                args=args), **options)

    def record_program(self, command, *, returncode=0, env=None, **options):
        """Record a program and return it, finished, and its samples."""
        run = self.run_command(
            [*self.record_command(**options), '--',
             *self.telling_pid(command)],
            env=clean_environment(**(env or {})), returncode=None)
        return self.told(run, returncode), self.samples()

    def script(self, fields, *options, data='perf.data'):
        return self.run_command(self.perf_command(
            'script', '--no-inline', *options, '-f', '-F', fields, '-i',
            self.path(data))).out

    def samples(self):
        """Return the samples of the last recording."""
        return parse_perf_script(self.script('pid,ip,sym,dso'))


def parse_perf_script(text):
    """Parse what `perf script -F pid,ip,sym,dso` prints.

    A sample is a line with the pid, then one line a frame, leaf first, then
    an empty line.
    """
    samples = []
    for line in text.split('\n'):
        if not line.strip():
            continue
        if not line.startswith('\t'):
            samples.append(Sample(int(line), []))
            continue
        ip, _, rest = line.strip().partition(' ')
        symbol, _, dso = rest.rpartition(' (')
        samples[-1].chain.append(
            Frame(int(ip, 16), symbol, dso.removesuffix(')')))
    return samples


def python_names(sample):
    """Return the names of the Python functions of a sample, leaf first."""
    return [frame.symbol for frame in sample.chain
            if frame.symbol.startswith('py::')]


def samples_of(samples, name):
    """Return the samples with this name in them."""
    return [sample for sample in samples
            if any(frame.symbol == name for frame in sample.chain)]


def has_nested(names, wanted):
    """Do the names, leaf first, have these in this order?"""
    names = iter(names)
    return all(name in names for name in wanted)


def called_by(chain, symbol):
    """Return, for each frame of this symbol, what called it, or None at the
    end of the chain.  The base of frame records does not count as a caller.
    """
    symbols = [frame.symbol for frame in chain if frame.symbol != RECORD_BASE]
    return [caller for callee, caller in zip(symbols, [*symbols[1:], None])
            if callee == symbol]


# ---------------------------------------------------------------------------
# samply

class SamplyTestCase(ProfilerTestCase):
    """Tests that record with samply."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.samply = find_tool('SAMPLY', 'samply')

    def samply_command(self, command):
        """Return a command that records that one.

        Where there are no hardware counters samply reads the sysctl below,
        takes even root for somebody who may not record, and gives up.  So
        root shows it another value, in a mount namespace of its own.
        """
        command = [self.samply, 'record', '--save-only', '--rate', '2000',
                   '-o', self.path('profile.json.gz'), '--', *command]
        sysctl = '/proc/sys/kernel/perf_event_paranoid'
        try:
            with open(sysctl, encoding='ascii') as file:
                level = int(file.read())
        except OSError:
            return command
        if level <= 1:
            return command
        if os.geteuid() != 0:
            tool_missing(f'samply needs {sysctl} to be 1 or lower')
        return ['unshare', '-m', '/bin/sh', '-c',
                'echo 1 > "$1"; mount --bind "$1" "$2"; shift 2; exec "$@"',
                'sh', self.path('paranoid'), sysctl, *command]

    def record(self, source, mode='perf', *, args=(), env=None):
        """Record WORK and this and return it, finished, and its samples.

        samply ends with 0 however the program ended.
        """
        command = self.telling_pid(
            self.python_command(WORK + textwrap.dedent(source), mode,
                                args=args))
        run = self.run_command(self.samply_command(command),
                               env=clean_environment(**(env or {})),
                               returncode=None)
        if not os.path.exists(self.path('profile.json.gz')):
            tool_missing(f'samply cannot record here: {run.err}')
        return self.told(run), samply_samples(self.profile())

    def profile(self):
        """Return the last recording."""
        return read_profile(self.path('profile.json.gz'))


def read_profile(path):
    """Return a profile that samply has saved."""
    import gzip     # not there in every interpreter that is tested
    with gzip.open(path) as file:
        return json.load(file)


def samply_samples(profile):
    """Return the samples of a profile in the Firefox Profiler's format.

    A stack is an index into stackTable, which gives its frame and the stack
    below; a frame leads to a function, and that to its name among the
    strings, which the thread has or, in newer versions, all threads share.
    The frames' ip and dso are not filled in.
    """
    samples = []
    shared = profile.get('shared', {})
    for thread in profile['threads']:
        def table(name):
            return thread[name] if name in thread else shared[name]

        strings = table('stringArray')
        func_name = table('funcTable')['name']
        frame_func = table('frameTable')['func']
        prefix = table('stackTable')['prefix']
        frame = table('stackTable')['frame']
        pid = int(str(thread['pid']).partition('.')[0])
        for stack in thread['samples']['stack']:
            chain = []
            while stack is not None:
                chain.append(Frame(
                    None, strings[func_name[frame_func[frame[stack]]]], None))
                stack = prefix[stack]
            samples.append(Sample(pid, chain))
    return samples
