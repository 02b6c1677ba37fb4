"""Functions that have died, and those that get their addresses."""

import collections
import unittest
from textwrap import dedent

from test.test_perf import fixtures, jitdump, parsers
from test.test_perf.modes import JitdumpMode, dump_path


def setUpModule():
    fixtures.require_trampoline()


class NewFunctions:
    """Programs that make functions."""

    # new(name, file, line) makes a function and calls it.  Its code object dies with it.
    NEW = dedent("""\
        import os, sys, types
        def template(n): return n
        def new(name, file='<made>', line=1):
            function = types.FunctionType(template.__code__.replace(
                co_qualname=name, co_filename=file, co_firstlineno=line), {})
            assert function(1) == 1
            return function
        """)

    TEMPLATE = dedent("""\
        def function(): return [n for n in range(2)]
        class Class:
            def method(self): return (lambda: function())()
        Class().method()
        """)

    def run_new(self, source, **options):
        return self.run_python(self.NEW + dedent(source), **options)

    def assert_template_written(self, names, times):
        """The functions of TEMPLATE were written this many times, no matter how often it
        was executed.
        """
        for name in ('<module>', 'function'):
            self.assertEqual(names.count(f'py::{name}:<template>'), times, name)
        # Classes live until the garbage collector runs.
        for name in ('Class', 'Class.method', 'Class.method.<locals>.<lambda>'):
            self.assertIn(names.count(f'py::{name}:<template>'), range(times, 1000), name)


class SameNameInMapTests(NewFunctions, fixtures.PerfTestCase):
    """A function that has died, and one with the same entry that comes later."""

    @fixtures.functions_die_at_once
    def test_the_same_source_again_and_again(self):
        run = self.run_python("""\
            import os, sys
            def measure():
                with open('/proc/self/statm') as file:
                    resident = int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')
                return resident, os.path.getsize(f'/tmp/perf-{os.getpid()}.map')
            for i in range(20_000):
                exec(compile(sys.argv[1], '<template>', 'exec'))
                if i == 1000:
                    before = measure()
            print(*before, *measure())
            """, args=[self.TEMPLATE])
        memory, size, memory_after, size_after = map(int, run.out.split())
        # A hundred bytes or so for each class that waits for the garbage collector.
        self.assertLess(size_after - size, 50_000)
        self.assertLess(memory_after - memory, 1_000_000)
        self.assert_template_written(run.names, 1)

    @fixtures.functions_die_at_once
    def test_the_same_source_with_lines(self):
        # Bytecode at a different address has lines at different addresses.
        run = self.run_python("""\
            for i in range(300):
                exec(compile('def function():\\n return 1\\nfunction()', '<template>',
                             'exec'))
            """, 'perf=lines')
        self.assertEqual(run.names.count('py::function:<template>'), 1)
        self.assertGreater(run.names.count('py::function:<template>:2'), 100)
        self.assert_good_map(run.entries)

    @fixtures.functions_die_at_once
    def test_functions_that_live_at_the_same_time(self):
        run = self.run_new("""\
            for i in range(10):
                functions = [new('same') for i in range(5)]
                functions = None
            """)
        self.assertEqual(run.names.count('py::same:<made>'), 5)
        self.assert_good_map(run.entries)

    @fixtures.functions_die_at_once
    def test_the_whole_name_and_the_whole_file_must_be_the_same(self):
        names = ['a', 'b', 'aa', 'ab', 'a\xe9', 'a\u0161', 'a\u6161', 'a\U0001f40d',
                 'aa\0', '\0aa', 'n' * 500]
        run = self.run_new("""\
            names = eval(sys.argv[1])
            for i in range(3):
                for name in names:
                    for file in ('a', 'b', 'aa', '\\u6161'):
                        new(name, file)
            """, args=[ascii(names)])
        made = [entry for entry in run.entries if entry.name.endswith(
            (':a', ':b', ':aa', ':\u6161'))]
        self.assertEqual(len(made), 4 * len(names))
        self.assertEqual(len({entry.name for entry in made}), 4 * len(names))
        self.assert_good_map(run.entries)

    @fixtures.functions_die_at_once
    def test_too_long_names_are_not_kept(self):
        run = self.run_new("""\
            for i in range(3):
                new('n' * 1018)             # and six characters of the file
                new('n' * 1019)
                new('\\u6161' * 509)
                new('\\u6161' * 510)
            """)
        self.assertEqual([run.names.count(f'py::{name}:<made>') for name in (
            'n' * 1018, 'n' * 1019, '\u6161' * 509, '\u6161' * 510)], [1, 3, 1, 3])

    @fixtures.functions_die_at_once
    def test_the_oldest_names_are_forgotten(self):
        run = self.run_new("""\
            for i in range(80_000):
                new(f'function{i}')
            new('function0')
            new('function79999')
            """)
        self.assertEqual(run.names.count('py::function0:<made>'), 2)
        self.assertEqual(run.names.count('py::function79999:<made>'), 1)
        self.assert_good_map(run.entries)

    def test_many_names_in_turn(self):
        run = self.run_new("""\
            for i in range(5):
                for i in range(10_000):
                    new(f'function{i}')
            """)
        made = [name for name in run.names if name.startswith('py::function')]
        self.assertEqual(len(made), 10_000)
        self.assertEqual(len(set(made)), 10_000)

    @fixtures.functions_die_at_once
    def test_a_name_in_use_is_not_forgotten(self):
        run = self.run_new("""\
            for i in range(60_000):
                new(f'function{i}')
                if i % 1000 == 0:
                    new('often')
            """)
        self.assertEqual(run.names.count('py::often:<made>'), 1)
        self.assert_good_map(run.entries)

    @fixtures.functions_die_at_once
    def test_a_forked_child_uses_no_inherited_address(self):
        run = self.run_new("""\
            new('function')
            pid = os.fork()
            if not pid:
                for i in range(3):
                    new('function')
                with open(f'/tmp/perf-{os.getpid()}.map') as file:
                    child = [line for line in file if ':function:' in line]
                with open(f'/tmp/perf-{os.getppid()}.map') as file:
                    parent = [line for line in file if ':function:' in line]
                assert len(child) == len(parent) == 1, (child, parent)
                assert child[0].split()[0] != parent[0].split()[0]
                os.unlink(f'/tmp/perf-{os.getpid()}.map')
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            new('function')
            """)
        self.assertEqual(run.names.count('py::function:<made>'), 1)

    @fixtures.functions_die_at_once
    def test_another_mode_and_back(self):
        run = self.run_new("""\
            new('function')
            sys.deactivate_stack_trampoline()
            sys.activate_stack_trampoline('perf_jit')
            new('function')
            with open(f'/tmp/jit-{os.getpid()}.dump', 'rb') as file:
                assert file.read().count(b'py::function:<made>') == 1
            os.unlink(f'/tmp/jit-{os.getpid()}.dump')
            sys.deactivate_stack_trampoline()
            sys.activate_stack_trampoline('perf')
            new('function')
            """)
        self.assertEqual(run.names.count('py::function:<made>'), 1)

    @fixtures.functions_die_at_once
    def test_a_new_file_names_it_again(self):
        run = self.run_new("""\
            new('function')
            sys.deactivate_stack_trampoline()
            os.unlink(f'/tmp/perf-{os.getpid()}.map')
            sys.activate_stack_trampoline('perf')
            new('function')
            new('function')
            """)
        self.assertEqual(run.names.count('py::function:<made>'), 1)

    @fixtures.functions_die_at_once
    def test_an_exception_that_is_set_remains(self):
        run = self.run_on_and_off(self.NEW + dedent("""\
            def raises():
                function = new('\\u6161')
                raise KeyError('on purpose')
            for i in range(3):
                try:
                    raises()
                except KeyError as error:
                    print(error)
            """))
        self.assertEqual(run.names.count('py::\u6161:<made>'), 1)


class JitdumpTestCase(JitdumpMode):

    def made(self, run, end):
        """The entries of functions whose names have this end, or one of these."""
        return [f for f in self.read(run).functions() if f.load.name.endswith(end)]


class ReuseInJitdumpTests(JitdumpTestCase):
    """The address of a function that is gone is used again."""

    COUNT = 100_000

    @fixtures.functions_die_at_once
    def test_functions_made_and_dropped_take_bounded_memory(self):
        run = self.run_python(f"""\
            import re

            def template(): pass

            def use():
                with open('/proc/self/status') as file:
                    rss = int(re.search('VmRSS:\\\\s*(\\\\d+) kB',
                                        file.read())[1])
                with open('/proc/self/maps') as file:
                    return rss, len(file.readlines())

            def make_and_drop(begin, end):
                code = template.__code__
                function = type(template)
                for i in range(begin, end):
                    function(code.replace(co_qualname=f'f{{i}}',
                                          co_filename='/made'), {{}})()

            make_and_drop(0, {self.COUNT // 5})
            before = use()
            make_and_drop({self.COUNT // 5}, {self.COUNT})
            after = use()
            print(after[0] - before[0], after[1] - before[1])
            """)
        rss, mappings = map(int, run.out.split())
        # If each had its own address, they would take 14 megabytes.
        self.assertLess(rss, 4096)
        self.assertLess(mappings, 5)
        dump = jitdump.read(dump_path(run.pid))
        self.assertEqual(dump.incomplete, 0)
        made = [load for load in dump.loads if load.name.endswith(':/made')]
        self.assertEqual([load.name for load in made],
                         [f'py::f{i}:/made' for i in range(self.COUNT)])
        self.assertLess(len({load.code_addr for load in made}), 1000)
        self.assertEqual(len({load.code_index for load in dump.loads}),
                         len(dump.loads))
        self.assertEqual(len({load.code for load in dump.loads}),
                         len(dump.loads))

    @fixtures.functions_die_at_once
    def test_a_place_is_not_used_while_its_function_lives(self):
        run = self.run_python("""\
            import sys

            def template(): pass

            kept = []
            for i in range(3000):
                function = type(template)(template.__code__.replace(
                    co_qualname=f'f{i}', co_filename='/made'), {})
                function()
                if i % 3 == 0:
                    kept.append(function)
            """)
        functions = self.made(run, ':/made')
        taken = set()
        for i, function in enumerate(functions):
            self.assertEqual(function.load.name, f'py::f{i}:/made')
            self.assertNotIn(function.start, taken)
            if i % 3 == 0:
                taken.add(function.start)
        self.assertEqual(len(taken), 1000)
        self.assertLess(len({f.start for f in functions}), 1100)

    def test_a_generator_keeps_the_place_of_its_function(self):
        run = self.run_python("""\
            def template(): pass

            def make(i):
                namespace = {}
                exec(f'def f{i}():\\n yield 1\\n yield 2', namespace)
                return namespace[f'f{i}']()

            generators = [make(i) for i in range(50)]
            for generator in generators:
                next(generator)
            for i in range(500):
                type(template)(template.__code__.replace(
                    co_qualname=f'other{i}', co_filename='/made'), {})()
            for generator in generators:
                assert next(generator) == 2
            """)
        functions = self.read(run).functions()
        living = {f.start for f in functions
                  if f.load.name.startswith('py::f')
                  and f.load.name.endswith(':<string>')}
        self.assertEqual(len(living), 50)
        self.assertFalse(living & {f.start for f in functions
                                   if f.load.name.endswith(':/made')})

    def test_an_address_in_a_map_never_gets_another_name(self):
        run = self.run_python("""\
            import sys

            def template(): pass

            def make_and_drop(name):
                for i in range(100):
                    type(template)(template.__code__.replace(
                        co_qualname=f'{name}{i}', co_filename='/made'), {})()

            for name in 'abcdef':
                sys.activate_stack_trampoline('perf_jit')
                make_and_drop(name)
                sys.activate_stack_trampoline('perf')
                make_and_drop(name.upper())
            """)
        entries = parsers.read_map(run.pid)
        self.assert_good_map(list(set(entries)))
        in_map = {entry.start: entry.name for entry in entries
                  if entry.name.endswith(':/made')}
        self.assertEqual(len(in_map), 600)
        functions = self.made(run, ':/made')
        self.assertEqual(len(functions), 600)
        for function in functions:
            if function.start in in_map:
                # It was written to the map later.
                letter = in_map[function.start][4].lower()
                self.assertLessEqual(function.load.name[4], letter)

    def test_it_is_in_use_again_after_profiling_was_off(self):
        run = self.run_python("""\
            import sys

            def template(): pass

            def make(name, count):
                made = [type(template)(template.__code__.replace(
                            co_qualname=f'{name}{i}', co_filename='/made'), {})
                        for i in range(count)]
                for function in made:
                    function()
                return made

            kept = make('early', 1000)
            sys.deactivate_stack_trampoline()
            del kept
            sys.activate_stack_trampoline('perf_jit')
            kept = make('late', 1000)
            """)
        functions = self.made(run, ':/made')
        self.assertEqual(len(functions), 2000)
        self.assertLessEqual(len({f.start for f in functions}), 1010)


class SameEntryInJitdumpTests(NewFunctions, JitdumpTestCase):
    """A function of which two like it have died needs no entry in a jitdump."""

    @fixtures.functions_die_at_once
    def test_the_same_source_again_and_again(self):
        run = self.run_python("""\
            import os, sys
            def size():
                return os.path.getsize(f'/tmp/jit-{os.getpid()}.dump')
            for i in range(5_000):
                exec(compile(sys.argv[1], '<template>', 'exec'))
                if i == 1000:
                    before = size()
            print(before, size())
            """, args=[self.TEMPLATE])
        before, after = map(int, run.out.split())
        self.assertLess(after - before, 100_000)
        self.assert_template_written([load.name for load in self.read(run).loads], 2)

    @fixtures.functions_die_at_once
    def test_name_file_and_line_must_be_the_same(self):
        names = ['a', 'b', 'aa', 'a\xe9', 'a\u6161', 'a\U0001f40d', 'aa\0', '\0aa']
        run = self.run_new("""\
            for i in range(5):
                for name in eval(sys.argv[1]):
                    for file in ('/a', '/b', '/\\u6161'):
                        for line in (1, 2, 300_000):
                            new(name, file, line)
            """, args=[ascii(names)])
        times = collections.Counter(
            (f.load.name, f.lines()[0][1])
            for f in self.made(run, (':/a', ':/b', ':/\u6161')))
        self.assertEqual(len(times), len(names) * 3 * 3)
        self.assertEqual(set(times.values()), {2})

    @fixtures.functions_die_at_once
    def test_functions_that_live_at_the_same_time(self):
        run = self.run_new("""\
            for i in range(10):
                functions = [new('same') for i in range(5)]
                functions = None
            """)
        made = self.made(run, ':<made>')
        self.assertEqual(len({f.start for f in made}), 5)
        # The first to die was new, and its address got no name that is kept.
        self.assertIn(len(made), (5, 6))

    @fixtures.functions_die_at_once
    def test_addresses_of_forgotten_names_are_used_again(self):
        run = self.run_new("""\
            for i in range(0, 40_000, 2000):
                for again in range(3):
                    for name in range(i, i + 2000):
                        new(f'function{name}')
            """)
        made = self.made(run, ':<made>')
        self.assertGreaterEqual(len(made), 80_000)
        self.assertLessEqual(len(made), 90_000)
        self.assertLess(len({f.start for f in made}), 30_000)

    @fixtures.functions_die_at_once
    def test_a_forked_child_uses_no_inherited_address(self):
        run = self.run_new("""\
            for i in range(3):
                new('function')
            pid = os.fork()
            if not pid:
                for i in range(4):
                    new('function')
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            new('function')
            print(pid)
            """)
        made = self.made(run, ':<made>')
        self.assertEqual(len(made), 2)
        child = self.made(self.track(run.out.strip()), ':<made>')
        self.assertIn(len(child), (1, 2))
        self.assertFalse({f.start for f in made} & {f.start for f in child})

    @fixtures.functions_die_at_once
    def test_another_mode_and_back(self):
        run = self.run_new("""\
            for i in range(4):
                for mode in 'perf_jit', 'perf':
                    sys.activate_stack_trampoline(mode)
                    for i in range(3):
                        new('one')
                        new('two')
            """)
        in_map = {}
        for entry in parsers.read_map(run.pid):
            self.assertEqual(in_map.setdefault(entry.start, entry.name), entry.name)
        for f in self.made(run, ':<made>'):
            self.assertEqual(in_map.get(f.start, f.load.name), f.load.name)
        self.assertEqual(len(self.made(run, ':<made>')), 4)

    @fixtures.functions_die_at_once
    def test_an_exception_that_is_set_remains(self):
        run = self.run_new("""\
            def fail(function):
                raise ValueError
            for i in range(5):
                try:
                    fail(new('same'))
                except ValueError:
                    pass
                else:
                    raise AssertionError
            """)
        self.assertEqual(len(self.made(run, ':<made>')), 2)


if __name__ == '__main__':
    unittest.main()
