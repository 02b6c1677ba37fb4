"""Profiles that perf and samply make with the jitdump.

perf unwinds each stack by DWARF information, through C functions of the
interpreter and trampolines.  This works in every build.

The programs work until they have used some processor time, so that there are
enough samples on slow or loaded machines.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import unittest
import urllib.parse
import urllib.request
from textwrap import dedent

from test.support import check_sanitizer, import_helper
from test.test_perf import fixtures, scenarios
from test.test_perf.fixtures import optimization
from test.test_perf.parsers import (
    EVAL_LOOP, has_nested, python_names, samples_of)
from test.test_perf.scenarios import FOO_BAR_BAZ, RECURSIVE, RUN_FOO, WORK

# The first perf that maps the unwinding information of each function.
OLDEST_PERF = (6, 8)

# The functions in which the stack of a program begins.
OUTERMOST = re.compile(r'_start|main|__libc_start_.*|_dl_relocate_static_pie')

# The functions in which the stack of a thread begins.
OUTERMOST_OF_THREAD = re.compile(r'(__GI_)?(__)?clone3?|start_thread|thread_start')


def setUpModule():
    fixtures.require_trampoline()


# "/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1", not "/tmp/jitted-1-2.so"
LIBRARY = re.compile(r'^/(usr/)?lib.*\.so')


def is_eval_loop(frame):
    return frame.symbol.startswith(EVAL_LOOP)


def is_python(sample):
    """Return whether a sample was taken in Python code or in C code below it.
    """
    return any(is_eval_loop(frame) or frame.symbol.startswith('py::')
               for frame in sample.chain)


def is_whole(sample, outermost=OUTERMOST):
    """Return whether the chain reaches the start of the program.

    Functions without names in libraries without debugging symbols are no
    break.
    """
    return (outermost.fullmatch(sample.chain[-1].symbol.partition('@')[0])
            is not None
            and all(frame.symbol != '[unknown]'
                    or LIBRARY.search(frame.dso) is not None
                    for frame in sample.chain))


def is_named(sample):
    """Return whether each Python function in the sample has a name.

    Between two eval loops there is at least one name.  Below pyinit_core()
    profiling is not switched on yet.
    """
    if any(frame.symbol.startswith('pyinit_core') for frame in sample.chain):
        return True
    waiting = False
    for frame in sample.chain:
        if is_eval_loop(frame):
            if waiting:
                return False
            waiting = True
        elif frame.symbol.startswith('py::'):
            waiting = False
    return not waiting


class JitTestCase(scenarios.ProfilerTestCase):

    # samply still needs the frame pointers of the trampolines.
    needs_frame_pointers = False

    def track(self, pid):
        # perf inject makes an image of each function.
        pid = super().track(pid)
        self.addCleanup(scenarios.remove_images, pid)
        return pid

    def record(self, source, mode='perf_jit', **options):
        run, samples = super().record(source, mode, **options)
        self.assertEqual(run.has_map, mode == 'perf')
        return run, samples

    def record_made(self, number):
        """Make this many functions, each after the one before is dropped.

        Return their frames.
        """
        run, samples = self.record(
            dedent("""\
                def make_and_drop(name, work):
                    exec(f'def {name}(): until(0.3, {work})',
                         globals(), made := {})
                    made[name]()

                """)
            + ''.join(f'def work_{n}(): spin()\n' for n in range(number))
            + ''.join(f"make_and_drop('made_{n}', 'work_{n}')\n"
                      for n in range(number)))
        frames = []
        for n in range(number):
            for sample in self.assert_nested(samples, f'work_{n}', 'until',
                                             'make_and_drop'):
                [made] = [frame for frame in sample.chain
                          if frame.symbol.startswith('py::made_')]
                self.assertEqual(made.symbol, f'py::made_{n}:<string>')
                frames.append(made)
        return frames

    def record_lives(self):
        """Make functions that live for random times.  Those that live longest work in turn,
        and have their names then.
        """
        run, samples = self.record("""\
            import random
            lives = random.Random(1)

            def template(work, *args): work(*args)

            def make():
                name = f'made_{lives.randrange(100)}'
                made = type(template)(template.__code__.replace(
                    co_qualname=name, co_firstlineno=lives.randrange(1, 4)), {})
                made(int)
                return name, made

            def main():
                alive = []
                for i in range(3000):
                    alive.append(make())
                    if len(alive) > 30:
                        del alive[lives.randrange(30)]
                for name, made in alive:
                    made(until, 0.02, spin, 2000)
                print(*(name for name, made in alive))

            main()
            """)
        names = [frame.symbol.split(':')[2] for sample in samples
                 if any(frame.symbol.startswith('py::spin:') for frame in sample.chain)
                 for frame in sample.chain if frame.symbol.startswith('py::made_')]
        self.assertEqual([name for name, _ in itertools.groupby(names)],
                         [name for name, _ in itertools.groupby(run.out.split())])


# ---------------------------------------------------------------------------
# perf

class PerfTestCase(JitTestCase, scenarios.JitdumpToolTestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        version = subprocess.run([cls.perf, '--version'], text=True,
                                 stdin=subprocess.DEVNULL,
                                 capture_output=True).stdout
        found = re.search(r'(\d+)\.(\d+)', version)
        if not found or tuple(map(int, found.groups())) < OLDEST_PERF:
            fixtures.tool_missing(f'too old for jitdump: {version}')

    def record_command(self, dump=8192):
        """dump: bytes of stack that each sample has; perf's default is 8192"""
        if optimization() == '0' or check_sanitizer(address=True):
            # The eval loop's frame takes ten kilobytes at -O0.
            dump = 65528
        elif os.uname().machine != 'x86_64':
            dump *= 2           # Frames are larger.
        return super().record_command(
            frequency=499 if dump > 16384 else 1999,
            call_graph=f'dwarf,{min(dump, 65528)}')

    def samples(self):
        self.run_command(self.perf_command(
            'inject', '-f', '--jit', '-i', self.path('perf.data'), '-o',
            self.path('perf.jit.data')))
        return super().samples()

    def script(self, fields):
        return super().script(fields, '--max-stack', '1024',
                              data='perf.jit.data')

    def assert_whole(self, samples, outermost=OUTERMOST, enough=50):
        """At least 95 % of the samples in Python code are whole."""
        samples = [sample for sample in samples if is_python(sample)]
        self.assertGreater(len(samples), enough)
        for good in (lambda sample: is_whole(sample, outermost), is_named):
            bad = [[(frame.symbol, frame.dso) for frame in sample.chain]
                   for sample in samples if not good(sample)]
            self.assertLessEqual(len(bad), 0.05 * len(samples),
                                 (len(samples), bad[:2]))


class StackTests(PerfTestCase):

    def test_a_stack_that_is_not_deep_is_whole_in_any_build(self):
        run, samples = self.record("""\
            def foo(): spin()
            until(0.5, foo)
            """)
        self.assert_whole(samples)
        self.assert_nested(samples, 'spin', 'foo', 'until', '<module>')

    def test_functions_are_nested_in_order_and_stacks_are_whole(self):
        run, samples = self.record_foo()
        self.assertEqual(run.err, '')
        self.assert_whole(samples)

    def test_101_nested_calls_are_in_one_sample(self):
        run, samples = self.record_levels(dump=16384)
        self.assert_whole(samples)

    def test_each_function_is_unwound_by_its_own_image(self):
        run, samples = self.record(RUN_FOO)
        for sample in self.assert_nested(samples, 'spin', 'foo')[:100]:
            images = [frame.dso for frame in sample.chain
                      if frame.symbol.startswith('py::')]
            self.assertEqual(len(set(images)), len(images))
            for image in images:
                self.assertRegex(image, fr'^/tmp/jitted-{run.pid}-\d+\.so$')

    def test_without_the_switch_there_are_no_names(self):
        run, samples = self.record_without_the_switch()
        self.assertTrue(any(is_eval_loop(frame)
                            for sample in samples for frame in sample.chain))

    def test_the_variable_does_the_same(self):
        run, samples = self.record(RUN_FOO, mode=None,
                                   env={'PYTHON_PERF_JIT_SUPPORT': '1'})
        self.assert_whole(samples)
        self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo', '<module>')

    def test_c_frames_stand_between_the_functions(self):
        # list_sort_impl() alone takes 4300 bytes.
        run, samples, found = self.record_callback(dump=16384)
        self.assert_whole(samples)
        for between in found:
            self.assertTrue([symbol for symbol in between
                             if symbol.startswith(EVAL_LOOP)], between)

    def test_activated_at_run_time(self):
        run, samples, nested = self.record_activated('perf_jit')
        for sample in nested:
            self.assertTrue(is_whole(sample))
        # The other samples are unwound as well.
        others = [sample for sample in samples if is_python(sample)]
        whole = list(filter(is_whole, others))
        self.assertGreaterEqual(len(whole), 0.95 * len(others))

    @fixtures.needs_hand_over
    def test_activated_while_a_function_runs(self):
        # The first eval loop, which has handed over, is there without a name.
        run, samples, nested = self.record_late('perf_jit')
        whole = list(filter(is_whole, nested))
        self.assertGreaterEqual(len(whole), 0.95 * len(nested))

    def test_activated_after_a_map_while_functions_run(self):
        run, samples, nested = self.record_late('perf_jit', before='perf')
        whole = list(filter(is_whole, nested))
        self.assertGreaterEqual(len(whole), 0.95 * len(nested))

    def test_recursion_shows_each_level(self):
        run, samples = self.record_recursion()
        self.assert_whole(samples)

    def test_a_large_stack_is_whole_in_a_large_dump(self):
        run, samples = self.record(RECURSIVE + 'until(1, recursive, 40)\n',
                                   dump=65528)
        self.assert_whole(samples)
        self.assert_nested(samples, 'spin', *['recursive'] * 41, 'until')

    def test_methods_and_nested_functions(self):
        run, samples = self.record_methods()
        self.assert_whole(samples)

    def test_generators(self):
        run, samples = self.record_generators()
        self.assert_whole(samples)

    def test_coroutines(self):
        run, samples = self.record_coroutines(dump=16384)
        # Importing asyncio is left out: its stacks are deeper than the dump.
        self.assert_whole(samples_of(samples, self.script_name('<lambda>')))

    def test_an_exception_leaves_the_stack_in_order(self):
        run, samples = self.record_exception()
        self.assert_whole(samples)

    def test_the_stacks_of_threads_are_whole(self):
        run, samples, nested = self.record_threads()
        for of_thread in nested:
            self.assert_whole(of_thread, OUTERMOST_OF_THREAD)

    @fixtures.functions_die_at_once
    def test_a_place_in_use_again_has_its_name_of_the_time(self):
        addresses = {frame.ip for frame in self.record_made(3)}
        self.assertLess(len(addresses), 3, 'no place was used again')

    @fixtures.functions_die_at_once
    def test_functions_with_random_lives_have_their_names(self):
        self.record_lives()

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


class ForkedChildStackTests(PerfTestCase):

    def assert_both_are_profiled(self, *args):
        run, samples, child = self.record_fork(*args)
        for pid in (child, run.pid):
            self.assert_whole([sample for sample in samples
                               if sample.pid == pid])
        return run, child, samples

    def test_children_that_execute_another_program_leave_no_gap(self):
        # perf inject gives up if a dump is missing of which it has the marker.
        import_helper.import_module('_posixsubprocess')
        run, samples = self.record(FOO_BAR_BAZ + dedent("""\
            import os, subprocess
            for preexec_fn in os.getpid, foo:
                child = subprocess.Popen(['true'], preexec_fn=preexec_fn)
                print('child', child.pid)
                assert child.wait() == 0
            until(0.5, foo)
            """))
        self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo', pid=run.pid)
        without, with_file = map(self.track, run.out.split()[1::2])
        self.assertFalse(os.path.lexists(f'/tmp/jit-{without}.dump'))
        self.assertTrue(os.path.lexists(f'/tmp/jit-{with_file}.dump'))

    def test_a_child_forked_by_c_code_is_profiled(self):
        self.assert_both_are_profiled('c')

    def test_a_forked_child_is_profiled(self):
        run, child, samples = self.assert_both_are_profiled()
        # The functions that the child calls have its own images.
        for sample in samples:
            if sample.pid == child:
                for frame in sample.chain:
                    if frame.symbol == self.script_name('only_child'):
                        self.assertIn(f'/jitted-{child}-', frame.dso)

    def test_a_child_that_keeps_its_parents_trampolines_is_profiled(self):
        import_helper.import_module('_testinternalcapi')
        self.assert_both_are_profiled('compile', 'persist')


class SourceLineTests(PerfTestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if shutil.which('addr2line') is None:
            fixtures.tool_missing('perf finds lines with addr2line, '
                                      'which is not there')

    # Each function is on its own line.
    SOURCE = """\
        def inner(): spin()


        def middle(): inner()

        class Class:
            def method(self):
                middle()

        until(0.5, Class().method)
        """

    def lines(self):
        """Return the places of the functions, by their names."""
        source = (WORK + dedent(self.SOURCE)).split('\n')
        return {name: 'script.py:%d' % next(
                    number for number, line in enumerate(source, 1)
                    if line.lstrip().startswith(f'def {name}('))
                for name in ('spin', 'inner', 'middle', 'method', 'until')}

    def test_each_frame_has_its_file_and_line(self):
        self.record(self.SOURCE)
        # A line with the frame is followed by one with the place.
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
    """A mixture of what programs do, in Python and C."""

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
        # At -O0 the frames are so large that some stacks exceed the dump.
        allowed = 0.05 * len(work) if optimization() == '0' else 0
        self.assertLessEqual(len(cut), allowed, cut[:1])


# ---------------------------------------------------------------------------
# samply

class SamplyTests(JitTestCase, scenarios.SamplyTestCase):

    def test_functions_are_nested_in_order(self):
        self.record_foo()

    def test_without_the_switch_there_are_no_names(self):
        self.record_without_the_switch()

    def test_activated_at_run_time(self):
        self.record_activated('perf_jit')

    @fixtures.needs_hand_over
    def test_activated_while_a_function_runs(self):
        self.record_late('perf_jit')

    def test_a_forked_child_is_named_by_its_own_dump(self):
        import_helper.import_module('_testinternalcapi')
        for args in ((), ('compile', 'persist'), ('c',)):
            with self.subTest(args=args):
                self.record_fork(*args)

    @fixtures.functions_die_at_once
    def test_a_place_in_use_again_has_its_name_of_the_time(self):
        self.record_made(2)

    @fixtures.functions_die_at_once
    def test_functions_with_random_lives_have_their_names(self):
        self.record_lives()

    def test_hostile_names_are_resolved(self):
        self.record_names({
            r"'new\nline\0'": r'new\nline\x00',
            r"'sur\udc80rogate'": r'sur\udc80rogate',
            r"'Gr\xfc\xdfe \u65e5\u672c \U0001f40d'": 'Grüße 日本 🐍',
            "'f'": 'f',
            "'n' * 100_000": 'n' * 100_000,
        })

    def test_each_function_has_its_file_and_line(self):
        # The profile has names and addresses.  Lines are looked up when the
        # profile is viewed: samply's server then reads the jitdump.
        run, samples = self.record(SourceLineTests.SOURCE)
        profile = self.profile()
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
        """Ask samply's server as the page that shows a profile does."""
        command = [self.samply, 'load', '--no-open',
                   self.path('profile.json.gz')]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL,
                              env=fixtures.clean_environment()) as server:
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
                                 fixtures.TIMEOUT) as answer:
                    return json.load(answer)['results'][0]['stacks'][0]
            finally:
                server.terminate()


if __name__ == '__main__':
    unittest.main()
