"""Test cases that record with perf or samply, and the programs they record.

A method record_...() records one program, checks what every profile of it must
show, and returns the samples for further checks.  This file has no tests.
"""

import glob
import os
import re
import subprocess
import tempfile
import textwrap

from test.support import os_helper
from test.test_perf import fixtures
from test.test_perf.fixtures import (
    Finished, PerfTestCase, clean_environment, find_tool,
    require_frame_pointers, require_no_emulation, tool_missing)
from test.test_perf.parsers import (
    parse_perf_script, python_names, read_profile, samply_samples, samples_of,
    has_nested)

# Recorded scripts begin with this: work that stays in the eval loop, and a
# function that repeats work until it has used enough processor time.
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

# Shell commands that print the pid of the program and remove the files that an
# earlier process of this pid has left.
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


class ProfilerTestCase(PerfTestCase):
    """Tests that record with a profiler.

    A subclass has record(). Each method record_...() records a program, checks
    what every profiler must show, and returns what record() returns.
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
        """Return a command that prints its pid and then runs `command`."""
        return ['/bin/sh', '-c', TELL_PID, 'sh', *command]

    def told(self, run, returncode=0):
        """Return the recorded program as Finished.  `run` is the profiler.

        The first line on stdout is the program's pid.  Lines "child PID" name
        its children.
        """
        pid, _, out = run.out.partition('\n')
        if pid.isdecimal():
            for process in (pid, *re.findall(r'^child (\d+)$', out, re.M)):
                self.track(process)
        self.assertEqual(run.returncode, returncode, run)
        return Finished(int(pid), run.returncode, out, run.err)

    def assert_nested(self, samples, *qualnames, pid=None):
        """Nearly all samples of qualnames[0] have its callers, the others, in
        order.

        Return those samples.  Some samples lack the caller: frame pointers do
        not show the caller of a function that has just been entered.
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
        """Profile functions with hostile names and one with a good name.

        names: from the source code of each name to what the profiler must
        show.  Return the run, the samples and all Python names in them.
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
        # The function with the good name has kept it.
        self.assertIn(self.script_name('good'), seen)
        return run, samples, seen

    def record_foo(self):
        run, samples = self.record(RUN_FOO)
        names = ('spin', 'baz', 'bar', 'foo', 'until', '<module>')
        for sample in self.assert_nested(samples, *names)[:100]:
            # Each function has one entry, and no other Python function is
            # between them.
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
        """Switch profiling on in this mode and off again at run time.

        Return the run, all samples, and the samples in between.
        """
        run, samples = self.record(FOO_BAR_BAZ + textwrap.dedent(f"""\
            import sys

            def before(): spin()
            def switched_on(): until(0.5, foo)

            until(0.5, before)
            sys.activate_stack_trampoline({mode!r})
            switched_on()
            sys.deactivate_stack_trampoline()

            # Running loops still show the functions that they know.
            def after():
                for i in range(20_000):
                    pass

            until(0.5, after)
            """), mode=None)
        nested = self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo',
                                    'until', 'switched_on',
                                    *['<module>'] * fixtures.hands_over())
        for name in ('before', 'after'):
            self.assertEqual(
                samples_of(samples, self.script_name(name)), [])
        return run, samples, nested

    def record_late(self, mode, before=None):
        """Switch profiling on in this mode while functions run that do not return.
        Return the run, all samples, and those of the innermost function.

        With `before`, profiling is on in that mode from the beginning, and the
        innermost function is called after the change.
        """
        run, samples = self.record(f"""\
            import signal, sys

            switched = False

            def handler(signum, frame):
                global switched
                if switched:
                    raise KeyboardInterrupt
                sys.activate_stack_trampoline({mode!r})
                switched = True

            def wait():
                while not switched:
                    pass

            def endless():
                while True:
                    pass

            def middle():
                {'wait()' if before else 'pass'}
                endless()

            def outer(): middle()

            signal.signal(signal.SIGVTALRM, handler)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.3, 0.7)
            try:
                outer()
            except KeyboardInterrupt:
                pass
            """, mode=before)
        nested = self.assert_nested(samples, 'endless', 'middle', 'outer',
                                    '<module>')
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
        """C code calls a Python function.

        Return the run, the samples, and for some samples the symbols between
        the function and its Python caller.
        """
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

    def record_generators(self, **options):
        run, samples = self.record("""\
            def generator():
                for i in range(3):
                    spin()
                    yield i

            def delegating():
                yield from generator()

            def consuming():
                sum(delegating())

            until(0.5, consuming)
            """, **options)
        self.assert_nested(samples, 'spin', 'generator', 'delegating',
                           'consuming', 'until', '<module>')
        return run, samples

    def record_coroutines(self, **options):
        """Coroutines. The innermost calls generators."""
        run, samples = self.record("""\
            import asyncio

            def generator():
                for i in range(3):
                    spin()
                    yield i

            def delegating():
                yield from generator()

            async def inner():
                await asyncio.sleep(0)
                sum(delegating())

            async def outer():
                await inner()

            until(0.5, lambda: asyncio.run(outer()))
            """, **options)
        self.assert_nested(samples, 'spin', 'generator', 'delegating',
                           'inner', 'outer', '<lambda>', '<module>')
        return run, samples

    def record_threads(self):
        """Two threads.  Return the run, all samples, and those of each thread.
        """
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
            self.assert_none(python_names(sample), 'raising')
        return run, samples

    def record_fork(self, *args):
        """Parent and child are profiled.  Return the run, the samples, the
        child's pid.

        args: 'compile' makes the trampoline of a function before the fork that
        only the child calls.  With 'persist' the child keeps its parent's
        trampolines.  With 'c' the child is forked by C code, without hooks, and
        calls no function that is new.
        """
        run, samples = self.record("""\
            import os, sys

            def both(n=20_000): spin(n)
            def only_child(): both()
            def only_parent(): both()

            def forking():
                child = fork()
                if not child:
                    until(0.5, only_child)
                    os._exit(0)
                until(0.5, only_parent)
                assert os.waitpid(child, 0)[1] == 0
                print('child', child)

            both(0)    # nothing that samples would count
            fork = os.fork
            if 'c' in sys.argv:
                import ctypes
                fork = ctypes.PyDLL(None).fork
                only_child()
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
        """Return the command line of perf record, without the program."""
        return self.perf_command(
            'record', *self.record_options, '-F', str(frequency),
            '--call-graph', call_graph or self.call_graph, '-o',
            self.path('perf.data'), *options)

    def record(self, source, mode='perf', *, args=(), **options):
        """Record WORK and `source`. Return the program, Finished, and the
        samples.
        """
        return self.record_program(
            self.python_command(WORK + textwrap.dedent(source), mode,
                                args=args), **options)

    def record_program(self, command, *, returncode=0, env=None, **options):
        """Record a command. Return the program, Finished, and the samples."""
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


def remove_images(pid):
    """Remove what perf inject has made of the jitdump of a process."""
    for path in glob.glob(f'/tmp/jitted-{pid}-*.so'):
        os_helper.unlink(path)


class JitdumpToolTestCase(PerfToolTestCase):
    """Tests that record with perf a program that writes a jitdump."""

    needs_frame_pointers = False
    record_options = (*PerfToolTestCase.record_options, '-k', '1')
    call_graph = 'dwarf'

    def record_injected(self, source, mode, **options):
        """Record WORK and `source` and let perf inject write jit.data."""
        run, _ = self.record(source, mode, **options)
        self.addCleanup(remove_images, run.pid)
        self.run_command(self.perf_command(
            'inject', '--jit', '-i', self.path('perf.data'), '-o',
            self.path('jit.data')))


# ---------------------------------------------------------------------------
# samply

class SamplyTestCase(ProfilerTestCase):
    """Tests that record with samply."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.samply = find_tool('SAMPLY', 'samply')

    def samply_command(self, command):
        """Return a command that records `command`.

        On machines without hardware counters samply reads the sysctl below.
        If its value is above 1, samply gives up, even as root.  As root this
        command therefore mounts a file with the value 1 over it, in its own
        mount namespace.
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
        """Record WORK and `source`. Return the program, Finished, and the
        samples.

        samply's own exit status is 0 whatever the program's is.
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
