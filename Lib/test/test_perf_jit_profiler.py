"""Stacks without frame pointers: jitdump mode with the real perf and samply.

perf has to unwind each stack by DWARF information, through the interpreter's
C functions and the trampolines, so that here no build is excepted.

The programs work until they have used up some time of the processor, so
that there are samples enough however slow or loaded the machine is.
"""

import glob
import json
import os
import re
import subprocess
import sys
import unittest
import urllib.parse
import urllib.request
from textwrap import dedent

from test import perf_support
from test.perf_support import (
    EVAL_LOOP, FOO_BAR_BAZ, RUN_FOO, TELL_PID, WORK, has_nested, optimization,
    python_names, samples_of)
from test.support import check_sanitizer, import_helper, os_helper

# The first that gives each piece of code its unwinding information.
OLDEST_PERF = (6, 8)

# Where the stack of a program begins.
OUTERMOST = re.compile(r'_start|main|__libc_start_.*|_dl_relocate_static_pie')

# ... and that of a thread.
OUTERMOST_OF_THREAD = re.compile(r'(__)?clone3?|start_thread|thread_start')


def setUpModule():
    perf_support.require_trampoline()


def is_eval_loop(frame):
    return frame.symbol.startswith(EVAL_LOOP)


def is_python(sample):
    """Was it taken in Python code, or in C code that it called?"""
    return any(is_eval_loop(frame) or frame.symbol.startswith('py::')
               for frame in sample.chain)


def is_whole(sample, outermost=OUTERMOST):
    """Does the chain run unbroken to the start of the program?"""
    return (outermost.fullmatch(sample.chain[-1].symbol.partition('@')[0])
            is not None
            and all(frame.symbol != '[unknown]' for frame in sample.chain))


def is_named(sample):
    """Has each Python function in it a name?

    Each eval loop has at least one, before the next one.
    """
    waiting = False
    for frame in sample.chain:
        if is_eval_loop(frame):
            if waiting:
                return False
            waiting = True
        elif frame.symbol.startswith('py::'):
            waiting = False
    return not waiting


class JitTestCase(perf_support.PerfTestCase):

    def track(self, pid):
        # perf inject makes an image of each function.
        pid = super().track(pid)
        self.addCleanup(remove_images, pid)
        return pid


def remove_images(pid):
    for path in glob.glob(f'/tmp/jitted-{pid}-*.so'):
        os_helper.unlink(path)


# ---------------------------------------------------------------------------
# perf

class PerfTestCase(JitTestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.perf = perf_support.find_tool('PERF', 'perf')
        version = subprocess.run([cls.perf, '--version'], text=True,
                                 stdin=subprocess.DEVNULL,
                                 capture_output=True).stdout
        found = re.search(r'(\d+)\.(\d+)', version)
        if not found or tuple(map(int, found.groups())) < OLDEST_PERF:
            perf_support.tool_missing(f'too old for jitdump: {version}')
        with perf_support.tempfile.TemporaryDirectory() as directory:
            trial = subprocess.run(
                [cls.perf, 'record', '-q', '-B', '-N', '-e', 'cpu-clock:u',
                 '-k', '1', '--call-graph', 'dwarf', '-o',
                 os.path.join(directory, 'perf.data'), 'true'],
                env=perf_support.clean_environment(),
                stdin=subprocess.DEVNULL, capture_output=True)
        if trial.returncode:
            perf_support.tool_missing('perf cannot record here: '
                                      + trial.stderr.decode(errors='replace'))

    def perf_command(self, command, *arguments):
        return [self.perf, '--buildid-dir', self.path('buildids'), command,
                *arguments]

    def record_command(self, dump=8192, frequency=1999):
        """dump: bytes of the stack that each sample has; 8192 is what perf
        takes by itself.
        """
        if optimization() == '0' or check_sanitizer(address=True):
            dump = 65528        # An eval loop of -O0 takes ten kilobytes.
        if dump > 16384:
            frequency = 499
        return self.perf_command(
            'record', '-q', '-B', '-N', '-F', str(frequency), '-k', '1', '-e',
            'cpu-clock:u', '--call-graph', f'dwarf,{dump}', '-o',
            self.path('perf.data'))

    def record(self, source, mode='perf_jit', *, args=(), env=None,
               returncode=0, **options):
        """Record WORK and this and return it, finished, and its samples."""
        return self.record_program(
            self.python_command(WORK + dedent(source), mode, args=args),
            env=env, returncode=returncode, **options)

    def record_program(self, command, *, env=None, returncode=0, **options):
        # The pid of perf is another one, so the shell has to tell.
        command = [*self.record_command(**options), '--',
                   '/bin/sh', '-c', TELL_PID, 'sh', *command]
        if env is not None:
            env = perf_support.clean_environment(**env)
        run = self.run_command(command, env=env, returncode=None)
        pid, _, out = run.out.partition('\n')
        self.track(pid)
        for child in re.findall(r'^child (\d+)$', out, re.M):
            self.track(child)
        self.assertEqual(run.returncode, returncode, run)
        return (perf_support.Finished(int(pid), run.returncode, out, run.err),
                self.samples())

    def samples(self):
        self.run_command(self.perf_command(
            'inject', '-f', '--jit', '-i', self.path('perf.data'), '-o',
            self.path('perf.jit.data')))
        return perf_support.parse_perf_script(self.script('pid,ip,sym,dso'))

    def script(self, fields):
        return self.run_command(self.perf_command(
            'script', '--no-inline', '--max-stack', '1024', '-f', '-F',
            fields, '-i', self.path('perf.jit.data'))).out

    def assert_whole(self, samples, outermost=OUTERMOST, enough=50):
        """At least 95 % of the samples in Python code are unbroken."""
        samples = [sample for sample in samples if is_python(sample)]
        self.assertGreater(len(samples), enough)
        for good in (lambda sample: is_whole(sample, outermost), is_named):
            bad = [[frame.symbol for frame in sample.chain[-5:]]
                   for sample in samples if not good(sample)]
            self.assertLessEqual(len(bad), 0.05 * len(samples),
                                 (len(samples), bad[:5]))


class StackTests(PerfTestCase):

    def test_a_stack_that_is_not_deep_is_whole_in_any_build(self):
        run, samples = self.record("""\
            def foo(): spin()
            until(0.5, foo)
            """)
        self.assert_whole(samples)
        self.assert_nested(samples, 'spin', 'foo', 'until', '<module>')

    def test_functions_are_nested_in_order_and_stacks_are_whole(self):
        run, samples = self.record(RUN_FOO)
        self.assertEqual(run.err, '')
        names = ('spin', 'baz', 'bar', 'foo', 'until', '<module>')
        self.assert_whole(samples)
        for sample in self.assert_nested(samples, *names)[:100]:
            self.assertEqual(python_names(sample),
                             [self.script_name(name) for name in names])

    def test_each_function_is_unwound_by_its_own_image(self):
        run, samples = self.record(RUN_FOO)
        for sample in self.assert_nested(samples, 'spin', 'foo')[:100]:
            images = [frame.dso for frame in sample.chain
                      if frame.symbol.startswith('py::')]
            self.assertEqual(len(set(images)), len(images))
            for image in images:
                self.assertRegex(image, fr'^/tmp/jitted-{run.pid}-\d+\.so$')

    def test_without_the_switch_there_are_no_names(self):
        run, samples = self.record(RUN_FOO, mode=None)
        self.assertGreater(len(samples), 50)
        self.assertTrue(any(is_eval_loop(frame)
                            for sample in samples for frame in sample.chain))
        self.assertFalse(any(map(python_names, samples)))

    def test_the_variable_does_the_same(self):
        run, samples = self.record(RUN_FOO, mode=None,
                                   env={'PYTHON_PERF_JIT_SUPPORT': '1'})
        self.assert_whole(samples)
        self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo', '<module>')

    def test_c_frames_stand_between_the_functions(self):
        run, samples = self.record("""\
            def key(x):
                spin(1000)
                return -x

            def sorting():
                sorted(range(20), key=key)

            until(0.5, sorting)
            """, dump=16384)        # list_sort_impl() alone takes 4300 bytes
        self.assert_whole(samples)
        key, sorting = map(self.script_name, ('key', 'sorting'))
        for sample in self.assert_nested(samples, 'spin', 'key', 'sorting',
                                         'until')[:100]:
            symbols = [frame.symbol for frame in sample.chain]
            between = symbols[symbols.index(key) + 1:symbols.index(sorting)]
            self.assertTrue([symbol for symbol in between
                             if 'sort' in symbol.lower()], between)
            self.assertTrue([symbol for symbol in between
                             if symbol.startswith(EVAL_LOOP)], between)

    def test_activated_at_run_time(self):
        run, samples = self.record(FOO_BAR_BAZ + dedent("""\
            import sys

            def before(): spin()
            def switched_on(): until(0.5, foo)

            until(0.3, before)
            sys.activate_stack_trampoline('perf_jit')
            switched_on()
            sys.deactivate_stack_trampoline()

            def after(): spin()

            until(0.3, after)
            """), mode=None)
        for sample in self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo',
                                         'until', 'switched_on'):
            self.assertTrue(is_whole(sample))
        for name in ('before', 'after'):
            self.assertEqual(
                samples_of(samples, self.script_name(name)), [])
        # Also the others are unwound.
        others = [sample for sample in samples if is_python(sample)]
        whole = list(filter(is_whole, others))
        self.assertGreaterEqual(len(whole), 0.95 * len(others))

    def test_recursion_shows_each_level(self):
        run, samples = self.record("""\
            def recursive(n):
                if n:
                    recursive(n - 1)
                else:
                    spin()

            until(0.5, recursive, 9)
            """)
        recursive = self.script_name('recursive')
        self.assert_whole(samples)
        for sample in self.assert_nested(samples, 'spin', 'recursive',
                                         'until')[:100]:
            self.assertEqual(python_names(sample).count(recursive), 10)

    def test_a_large_stack_is_whole_in_a_large_dump(self):
        run, samples = self.record("""\
            def recursive(n):
                if n:
                    recursive(n - 1)
                else:
                    spin()

            until(1, recursive, 40)
            """, dump=65528)
        self.assert_whole(samples)
        self.assert_nested(samples, 'spin', *['recursive'] * 41, 'until')

    def test_methods_and_nested_functions(self):
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
        self.assert_whole(samples)
        self.assert_nested(
            samples, 'spin', 'Outer.Inner.method.<locals>.local',
            'Outer.Inner.method', 'Outer.Inner.static',
            'Outer.Inner.class_method', 'Outer.Inner.__len__', 'until')

    def test_generators(self):
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
            """)
        self.assert_whole(samples)
        self.assert_nested(samples, 'spin', 'generator', 'delegating',
                           'consuming', 'until', '<module>')

    def test_coroutines(self):
        run, samples = self.record("""\
            import asyncio

            async def inner():
                await asyncio.sleep(0)
                spin()

            async def outer():
                await inner()

            until(0.5, lambda: asyncio.run(outer()))
            """)
        # Not of importing asyncio: such stacks are deeper than the dump.
        self.assert_whole(samples_of(samples, self.script_name('<lambda>')))
        self.assert_nested(samples, 'spin', 'inner', 'outer', '<lambda>',
                           '<module>')

    def test_an_exception_leaves_the_stack_in_order(self):
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
        self.assert_whole(samples)
        for sample in self.assert_nested(samples, 'spin', 'catching'):
            self.assertNotIn(self.script_name('raising'),
                             python_names(sample))

    def test_the_stacks_of_threads_are_whole(self):
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
        for name in ('first', 'second'):
            nested = self.assert_nested(samples, name, 'work')
            self.assert_whole(nested, OUTERMOST_OF_THREAD)

    def test_a_place_in_use_again_has_its_name_of_the_time(self):
        run, samples = self.record("""\
            def make_and_drop(name, work):
                exec(f'def {name}(): until(0.3, {work})',
                     globals(), made := {})
                made[name]()

            def work_1(): spin()
            def work_2(): spin()
            def work_3(): spin()

            make_and_drop('made_1', 'work_1')
            make_and_drop('made_2', 'work_2')
            make_and_drop('made_3', 'work_3')
            """)
        addresses = set()
        for n in (1, 2, 3):
            for sample in self.assert_nested(samples, f'work_{n}', 'until',
                                             'make_and_drop'):
                [made] = [frame for frame in sample.chain
                          if frame.symbol.startswith('py::made_')]
                self.assertEqual(made.symbol, f'py::made_{n}:<string>')
                addresses.add(made.ip)
        self.assertLess(len(addresses), 3, 'no place was used again')

    def test_hostile_names_are_resolved(self):
        names = {
            r"'new\nline'": r'new\nline',
            r"'sur\udc80rogate'": r'sur\udc80rogate',
            r"'\x1b[31mred\0'": r'\x1b[31mred\x00',
            r"'Gr\xfc\xdfe \u65e5\u672c \U0001f40d'": 'Grüße 日本 🐍',
            "'f'": 'f',
            "'with (parentheses) (and more)'": 'with (parentheses) (and more)',
            "'n' * 10_000": 'n' * 10_000,
        }
        run, samples, _ = self.record_names(names)
        self.assert_whole(samples)


class ForkTests(PerfTestCase):

    FORK = """\
        import os, sys

        def both(n=20_000): spin(n)
        def only_child(): both()
        def only_parent(): both()

        def forking():
            child = os.fork()
            if not child:
                until(0.5, only_child)
                os._exit(0)
            until(0.3, only_parent)
            assert os.waitpid(child, 0)[1] == 0
            print('child', child)

        both(0)    # nothing that samples would count
        if 'persist' in sys.argv:
            import _testinternalcapi
            _testinternalcapi.compile_perf_trampoline_entry(
                only_child.__code__)
            _testinternalcapi.perf_trampoline_set_persist_after_fork(1)
        forking()
        """

    def assert_both_are_profiled(self, *args):
        run, samples = self.record(self.FORK, args=args)
        child = int(run.out.split()[1])
        for pid, name in ((child, 'only_child'), (run.pid, 'only_parent')):
            nested = self.assert_nested(
                samples, 'spin', 'both', name, 'until', 'forking', '<module>',
                pid=pid)
            self.assert_whole([sample for sample in samples
                               if sample.pid == pid])
        return run, child, samples

    def test_a_forked_child_is_profiled(self):
        run, child, samples = self.assert_both_are_profiled()
        # What it runs has images of its own.
        for sample in samples:
            if sample.pid == child:
                for frame in sample.chain:
                    if frame.symbol == self.script_name('only_child'):
                        self.assertIn(f'/jitted-{child}-', frame.dso)

    def test_a_child_that_keeps_its_parents_trampolines_is_profiled(self):
        import_helper.import_module('_testinternalcapi')
        self.assert_both_are_profiled('persist')


class SourceLineTests(PerfTestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if perf_support.shutil.which('addr2line') is None:
            perf_support.tool_missing('perf finds lines with addr2line, '
                                      'which is not there')

    # Each on a line that no other one has.
    SOURCE = """\
        def inner(): spin()


        def middle(): inner()

        class Class:
            def method(self):
                middle()

        until(0.5, Class().method)
        """

    def lines(self):
        """Return where the functions are defined, by their names."""
        source = (WORK + dedent(self.SOURCE)).split('\n')
        return {name: 'script.py:%d' % next(
                    number for number, line in enumerate(source, 1)
                    if line.lstrip().startswith(f'def {name}('))
                for name in ('spin', 'inner', 'middle', 'method', 'until')}

    def test_each_frame_has_its_file_and_line(self):
        self.record(self.SOURCE)
        # A line with the frame, then one with the place.
        found = {}
        symbol = None
        for line in self.script('ip,sym,srcline').splitlines():
            if match := re.match(r'\s*[0-9a-f]+ py::(\S*?):\S*$', line):
                symbol = match[1]
            elif symbol:
                found.setdefault(symbol, set()).add(
                    os.path.basename(line.strip()))
                symbol = None
        lines = self.lines()
        lines['Class.method'] = lines.pop('method')
        for name, line in lines.items():
            with self.subTest(name=name):
                self.assertEqual(found.get(name), {line})

    def test_a_report_can_be_sorted_by_them(self):
        self.record(self.SOURCE)
        report = self.run_command(self.perf_command(
            'report', '--stdio', '-f', '--children', '-g', 'none', '--sort',
            'srcline', '-i', self.path('perf.jit.data'))).out
        shares = {match[2]: float(match[1]) for match in re.finditer(
            r'^\s*([\d.]+)%\s+[\d.]+%\s+(script\.py:\d+)\s*$', report, re.M)}
        for name, line in self.lines().items():
            with self.subTest(name=name):
                self.assertGreater(shares.get(line, 0), 30, report[:3000])


class RealProgramTests(PerfTestCase):
    """A mixture of what programs do, in Python and C and back."""

    PROGRAM = """\
        import ast, collections, dataclasses, functools, io, json, pickle
        import re, tokenize, traceback

        with open(tokenize.__file__, encoding='utf-8') as file:
            source = file.read()

        @dataclasses.dataclass(order=True)
        class Record:
            key: int
            value: str

            def __reduce__(self):
                return Record, (self.key, self.value)

        @functools.lru_cache(maxsize=None)
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        def work():
            list(tokenize.generate_tokens(io.StringIO(source).readline))
            ast.unparse(ast.parse(source))
            re.sub('[a-z]+', lambda match: match[0].upper(), source[:5000])
            records = [Record(i * 7919 % 101, 'x' * i) for i in range(100)]
            records.sort()
            records.sort(key=lambda record: record.value)
            pickle.loads(pickle.dumps(records))
            json.loads(json.dumps([dataclasses.asdict(record)
                                   for record in records], indent=1))
            fibonacci.cache_clear()
            fibonacci(30)
            collections.Counter(map(str.lower, source.split()))
            try:
                json.loads('{')
            except ValueError:
                traceback.format_exc()

        until(2, work)
        """

    def test_its_stacks_are_whole(self):
        run, samples = self.record(self.PROGRAM, dump=65528)
        self.assert_whole(samples, enough=300)
        seen = {name for sample in samples for name in python_names(sample)}
        self.assertGreater(len(seen), 50)
        work = samples_of(samples, self.script_name('work'))
        wanted = list(map(self.script_name, ('work', 'until', '<module>')))
        cut = [names for names in map(python_names, work)
               if not has_nested(names, wanted)]
        # The frames of -O0 are so large that some do not fit into the dump.
        allowed = 0.05 * len(work) if optimization() == '0' else 0
        self.assertLessEqual(len(cut), allowed, cut[:1])


# ---------------------------------------------------------------------------
# samply

class SamplyTestCase(perf_support.SamplyTestCase):

    @classmethod
    def setUpClass(cls):
        # It needs no frame pointers but those of the trampolines.
        super(perf_support.SamplyTestCase, cls).setUpClass()
        cls.samply = perf_support.find_tool('SAMPLY', 'samply')

    def record(self, source, mode='perf_jit', **options):
        run, samples = super().record(source, mode, **options)
        for child in re.findall(r'^child (\d+)$', run.out, re.M):
            self.track(child)
        self.assertFalse(run.has_map)
        return run, samples


class SamplyTests(SamplyTestCase):

    def test_functions_are_nested_in_order(self):
        run, samples = self.record(RUN_FOO)
        wanted = ('spin', 'baz', 'bar', 'foo', 'until', '<module>')
        for sample in self.assert_nested(samples, *wanted)[:100]:
            self.assertEqual(python_names(sample),
                             [self.script_name(name) for name in wanted])

    def test_without_the_switch_there_are_no_names(self):
        run, samples = self.record(RUN_FOO, mode=None)
        self.assertGreater(len(samples), 50)
        self.assertFalse(any(map(python_names, samples)))

    def test_activated_at_run_time(self):
        run, samples = self.record(FOO_BAR_BAZ + dedent("""\
            import sys

            sys.activate_stack_trampoline('perf_jit')
            until(0.5, foo)
            """), mode=None)
        self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo', 'until')

    def test_a_forked_child_is_named_by_its_own_dump(self):
        import_helper.import_module('_testinternalcapi')
        for args in ((), ('persist',)):
            with self.subTest(args=args):
                run, samples = self.record(ForkTests.FORK, args=args)
                child = int(run.out.split()[1])
                self.assert_nested(samples, 'spin', 'both', 'only_child',
                                   'until', 'forking', '<module>', pid=child)
                self.assert_nested(samples, 'spin', 'both', 'only_parent',
                                   'until', 'forking', '<module>',
                                   pid=run.pid)

    def test_a_place_in_use_again_has_its_name_of_the_time(self):
        run, samples = self.record("""\
            def make_and_drop(name, work):
                exec(f'def {name}(): until(0.3, {work})',
                     globals(), made := {})
                made[name]()

            def work_1(): spin()
            def work_2(): spin()

            make_and_drop('made_1', 'work_1')
            make_and_drop('made_2', 'work_2')
            """)
        for n in (1, 2):
            for sample in self.assert_nested(samples, f'work_{n}', 'until',
                                             'make_and_drop'):
                self.assertEqual([name for name in python_names(sample)
                                  if name.startswith('py::made_')],
                                 [f'py::made_{n}:<string>'])

    def test_hostile_names_are_resolved(self):
        names = {
            r"'new\nline\0'": r'new\nline\x00',
            r"'sur\udc80rogate'": r'sur\udc80rogate',
            r"'Gr\xfc\xdfe \u65e5\u672c \U0001f40d'": 'Grüße 日本 🐍',
            "'f'": 'f',
            "'n' * 100_000": 'n' * 100_000,
        }
        run, samples = self.record(f"""\
            def named(name):
                def function(): until(0.1, spin)
                function.__code__ = function.__code__.replace(
                    co_qualname=name, co_filename='/file')
                function()

            for name in [{', '.join(names)}]:
                named(name)
            """)
        seen = {name for sample in samples for name in python_names(sample)}
        for expected in [f'py::{name}:/file' for name in names.values()]:
            with self.subTest(name=expected[:100]):
                self.assertTrue(expected in seen)

    def test_each_function_has_its_file_and_line(self):
        # The profile has names and addresses.  Lines come from the dump when
        # the profile is looked at, from the server that samply starts then.
        run, samples = self.record(SourceLineTests.SOURCE)
        with perf_support.gzip.open(self.path('profile.json.gz')) as file:
            profile = json.load(file)
        [(number, library)] = [
            (number, library) for number, library in enumerate(profile['libs'])
            if library['name'] == f'jit-{run.pid}.dump']
        addresses = self.addresses(profile, number)
        answer = self.symbolicate(library, list(addresses.values()))
        found = {frame['function']: (frame.get('file'), frame.get('line'))
                 for frame in answer}
        for name, place in SourceLineTests.lines(self).items():
            qualname = 'Class.method' if name == 'method' else name
            with self.subTest(name=name):
                self.assertEqual(
                    found.get(self.script_name(qualname)),
                    (self.path('script.py'), int(place.partition(':')[2])))

    SOURCE = SourceLineTests.SOURCE

    def addresses(self, profile, library):
        """Return an address for each name in this library."""
        addresses = {}
        for thread in profile['threads']:
            frames, symbols = thread['frameTable'], thread['nativeSymbols']
            for address, symbol in zip(frames['address'],
                                       frames['nativeSymbol']):
                if symbol is not None and (
                        symbols['libIndex'][symbol] == library):
                    addresses[symbols['name'][symbol]] = address
        return addresses

    def symbolicate(self, library, addresses):
        """Ask samply's server, as the page that shows a profile does."""
        command = [self.samply, 'load', '--no-open',
                   self.path('profile.json.gz')]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL,
                              env=perf_support.clean_environment()) as server:
            try:
                for line in server.stdout:
                    if match := re.search(r'symbolServer=(\S+)', line):
                        break
                else:
                    self.fail('samply has no server')
                url = urllib.parse.unquote(match[1]) + '/symbolicate/v5'
                request = {'jobs': [{
                    'memoryMap': [[library['debugName'],
                                   library['breakpadId']]],
                    'stacks': [[[0, address] for address in addresses]]}]}
                opener = urllib.request.build_opener(
                    urllib.request.ProxyHandler({}))
                with opener.open(url, json.dumps(request).encode(),
                                 perf_support.TIMEOUT) as answer:
                    return json.load(answer)['results'][0]['stacks'][0]
            finally:
                server.terminate()


if __name__ == '__main__':
    unittest.main()
