"""Profiles that perf makes with the map.

The programs work until they have used some processor time, so that there are
enough samples on slow or loaded machines.
"""

import os
import re
import subprocess
import sys
import types
import unittest
from textwrap import dedent

from test.support import import_helper
from test.test_perf import fixtures, scenarios
from test.test_perf.parsers import (
    EVAL_LOOP, RECORD_BASE, called_by, python_names, samples_of)
from test.test_perf.scenarios import RECURSIVE, RUN_FOO, WORK

STDLIB = os.path.dirname(os.__file__)


def setUpModule():
    fixtures.require_trampoline()


class NestingTests(scenarios.PerfToolTestCase):

    def test_functions_are_nested_in_order(self):
        self.record_foo()

    def assert_nearly_all(self, samples, condition):
        wrong = [sample for sample in samples if not condition(sample)]
        self.assertGreater(len(samples), 50)
        self.assertLessEqual(len(wrong), 0.05 * len(samples), wrong[:1])

    def test_a_call_between_python_functions_takes_one_entry(self):
        run, samples = self.record(RUN_FOO)
        wanted = [RECORD_BASE, *map(self.script_name,
                                    ('spin', 'baz', 'bar', 'foo'))]

        def inlined(sample):
            symbols = [frame.symbol for frame in sample.chain]
            start = symbols.index(RECORD_BASE)
            return symbols[start:start + len(wanted)] == wanted

        self.assert_nearly_all(self.assert_nested(samples, 'spin', 'foo'),
                               inlined)

    def test_c_frames_are_where_c_code_calls(self):
        run, samples, found = self.record_callback()
        for between in found:
            self.assertEqual(between[-2:], [EVAL_LOOP, RECORD_BASE])
            self.assertIn('list_sort_impl', between)

    def test_101_nested_calls_are_in_one_sample(self):
        self.record_levels()

    def test_at_least_115_levels_of_a_deep_recursion(self):
        # The leaf may have reached any record of the record area.  In 127
        # entries there are up to five calls of _PyPerf_EnterEvalLoop(), each
        # with an eval loop.  If the compiler does not turn last calls into
        # jumps, three more C functions lead to it.
        levels = 115 if fixtures.last_calls_are_jumps() else 100
        for depth in (200, 210, 220, 230):
            with self.subTest(depth=depth):
                run, samples = self.record(
                    RECURSIVE + f'until(0.2, recursive, {depth})\n')
                self.assert_nearly_all(
                    [sample for sample
                     in samples_of(samples, self.script_name('recursive'))
                     if len(sample.chain) > 100
                     and sample.chain[0].symbol == EVAL_LOOP],
                    lambda sample: len(python_names(sample)) >= levels)

    def test_without_the_switch_there_are_no_names(self):
        run, samples = self.record_without_the_switch()
        self.assertTrue(any(frame.symbol == EVAL_LOOP
                            for sample in samples for frame in sample.chain))

    def test_the_variable_does_the_same(self):
        run, samples = self.record(RUN_FOO, mode=None,
                                   env={'PYTHONPERFSUPPORT': '1'})
        self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo', '<module>')

    def test_activated_at_run_time(self):
        self.record_activated('perf')

    @fixtures.needs_hand_over
    def test_activated_while_a_function_runs(self):
        self.record_late('perf')

    def test_recursion_shows_each_level(self):
        self.record_recursion()

    def test_methods_and_nested_functions(self):
        self.record_methods()

    def test_generators(self):
        self.record_generators()

    def test_coroutines(self):
        self.record_coroutines()

    def test_threads(self):
        run, samples, _ = self.record_threads()
        for sample in samples:
            self.assertLessEqual(
                len({self.script_name(name) for name in ('first', 'second')}
                    .intersection(python_names(sample))), 1)

    def test_an_exception_leaves_the_stack_in_order(self):
        self.record_exception()


# Waits until another process has worked for a second.
AWAIT_WORK = """if True:
    import sys, time

    clock = ~int(sys.argv[1]) << 3 | 2      # as clock_getcpuclockid() does
    end = time.clock_gettime(clock) + 1
    while time.clock_gettime(clock) < end:
        time.sleep(0.01)
    """


class ForkedChildSampleTests(scenarios.PerfToolTestCase):
    """The samples of a forked child."""

    def assert_named(self, samples, pid):
        """No frame of a Python function has lost its name."""
        loops = nameless = 0
        for sample in samples:
            if sample.pid != pid:
                continue
            for caller in called_by(sample.chain, EVAL_LOOP):
                if caller is not None:
                    loops += 1
                    nameless += not caller.startswith('py::')
        self.assertLessEqual(nameless, 0.02 * loops)

    def assert_both_are_profiled(self, *args):
        run, samples, child = self.record_fork(*args)
        for pid in (child, run.pid):
            self.assert_named(samples, pid)

    def test_a_forked_child_is_profiled(self):
        self.assert_both_are_profiled()

    def test_a_child_forked_by_c_code_is_profiled(self):
        self.assert_both_are_profiled('c')

    def test_a_child_that_keeps_its_parents_trampolines_is_profiled(self):
        import_helper.import_module('_testinternalcapi')
        self.assert_both_are_profiled('compile', 'persist')

    # The child runs until it is told to stop.
    ATTACH = """\
        import os, select, sys

        def both(n=20_000): spin(n)
        def work(): both()

        def forking():
            child = fork()
            if not child:
                os.close(end)
                while not select.select([stop], [], [], 0)[0]:
                    work()
                os._exit(0)
            os.close(stop)
            print(child, flush=True)
            sys.stdin.read()
            os.close(end)
            assert os.waitpid(child, 0)[1] == 0

        if 'persist' in sys.argv:
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
        stop, end = os.pipe()
        both(0)    # nothing that samples would count
        fork = os.fork
        if 'c' in sys.argv:     # the child calls no function that is new
            import ctypes
            fork = ctypes.PyDLL(None).fork
            work()
        forking()
        """

    def attach(self, *args):
        """Record a forked child to which perf attaches after the fork.

        perf has only the child's own map.
        """
        program = subprocess.Popen(
            self.python_command(WORK + dedent(self.ATTACH), args=args),
            env=fixtures.clean_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with program:
            self.track(program.pid)
            try:
                child = self.track(program.stdout.readline())
                self.run_command([*self.record_command('-p', str(child)),
                                  '--', sys.executable, '-c', AWAIT_WORK,
                                  str(child)])
            finally:
                program.stdin.close()
                program.wait(fixtures.TIMEOUT)
        self.assertEqual(program.returncode, 0)
        return child, self.samples()

    def test_the_childs_own_map_is_enough(self):
        for args in ((), ('persist',), ('c',), ('c', 'persist')):
            with self.subTest(args=args):
                child, samples = self.attach(*args)
                self.assert_nested(samples, 'spin', 'both', 'work',
                                   'forking', '<module>', pid=child)
                self.assert_named(samples, child)


class HostileNameTests(scenarios.PerfToolTestCase):

    def test_hostile_names_are_resolved(self):
        names = {
            r"'new\nline'": r'new\nline',
            r"'a\n7f0000000000 1000 py::forged:/x'":
                r'a\n7f0000000000 1000 py::forged:/x',
            r"'sur\udc80rogate'": r'sur\udc80rogate',
            r"'\x1b[31mred'": r'\x1b[31mred',
            r"'Gr\xfc\xdfe \u65e5\u672c \U0001f40d'": 'Grüße 日本 🐍',
            "'f'": 'f',
            "'with (parentheses) (and more)'": 'with (parentheses) (and more)',
            "'n' * 100_000": 'n' * 100_000,
        }
        run, samples, seen = self.record_names(names)
        for expected in [f'py::{name}:/file' for name in names.values()]:
            with self.subTest(name=expected[:100]):
                self.assertGreater(
                    len(samples_of(samples, expected)), 10)
        self.assertLessEqual(
            seen, set(run.names),
            'a name in the profile that is no line of the map')


# Runs lib2to3 and prints the names of the functions that come from no file.
CALLED = """\
    import json, runpy, sys

    called = set()

    def note(frame, event, arg):
        code = frame.f_code
        if code.co_filename.startswith('<'):
            called.add((code.co_qualname, code.co_filename))

    output = sys.argv.pop(1)
    sys.setprofile(note)
    try:
        runpy.run_module('lib2to3', run_name='__main__', alter_sys=True)
    except SystemExit:
        pass
    finally:
        sys.setprofile(None)
        with open(output, 'w') as file:
            json.dump(sorted(called), file)
    """


class RealProgramTests(scenarios.PerfToolTestCase):
    """lib2to3 converts a package of the standard library."""

    def setUp(self):
        super().setUp()
        import_helper.import_module('lib2to3', deprecated=True)
        self.package = os.path.join(STDLIB, 'json')

    def arguments(self, output):
        os.mkdir(output)
        return ['-w', '-n', '-o', output, self.package]

    def names_of_file(self, path):
        """Return the qualified names of all code in a source file."""
        with open(path, 'rb') as file:
            todo = [compile(file.read(), path, 'exec', dont_inherit=True)]
        names = set()
        while todo:
            code = todo.pop()
            names.add(code.co_qualname)
            todo += [const for const in code.co_consts
                     if isinstance(const, types.CodeType)]
        return names

    def source_of_frozen(self, module):
        """Return the source file of a frozen module, or None."""
        base = os.path.join(STDLIB, *module.split('.'))
        for path in (base + '.py', os.path.join(base, '__init__.py')):
            if os.path.exists(path):
                return path

    def called_without_file(self):
        """Return the functions that the program calls from code in strings."""
        import json
        script = self.write_script(CALLED, 'called.py')
        self.run_command([sys.executable, script, self.path('called.json'),
                          *self.arguments(self.path('out.called'))])
        with open(self.path('called.json')) as file:
            return set(map(tuple, json.load(file)))

    def test_every_sample_has_a_name_and_every_name_is_the_programs(self):
        off = self.run_command([sys.executable, '-m', 'lib2to3',
                                *self.arguments(self.path('out.off'))])
        run, samples = self.record_program(
            [sys.executable, '-X', 'perf', '-m', 'lib2to3',
             *self.arguments(self.path('out.on'))])

        # The result is the same as without profiling.
        self.assertEqual(run.out.replace('out.on', 'out.off'), off.out)
        self.assertEqual(self.tree('out.on'), self.tree('out.off'))

        # At least 99 % of the samples are whole.  A chain may end at the eval
        # loop if the kernel cut it off.
        with open('/proc/sys/kernel/perf_event_max_stack') as file:
            deepest = int(file.read())
        loops = named = 0
        nameless = set()
        for sample in samples:
            callers = called_by(sample.chain, EVAL_LOOP)
            if len(sample.chain) >= deepest and None in callers:
                callers.remove(None)
            if not callers:
                continue
            loops += 1
            if all(str(caller).startswith('py::') for caller in callers):
                named += 1
            else:
                nameless.add(tuple(callers))
        self.assertGreater(loops, 1000)
        self.assertGreaterEqual(named, 0.99 * loops, sorted(nameless)[:5])

        # The program has a function for every name.
        seen = {name for sample in samples for name in python_names(sample)}
        self.assertGreater(len(seen), 50)
        by_file = {}
        for name in seen:
            qualname, _, path = name.removeprefix('py::').partition(':')
            by_file.setdefault(path, set()).add(qualname)
        without_file = None
        for path, qualnames in by_file.items():
            with self.subTest(path=path):
                frozen = re.fullmatch('<frozen (.*)>', path)
                source = (self.source_of_frozen(frozen[1]) if frozen
                          else path)
                if source is not None and os.path.exists(source):
                    self.assertLessEqual(qualnames,
                                         self.names_of_file(source))
                    continue
                if without_file is None:
                    without_file = self.called_without_file()
                self.assertLessEqual({(name, path) for name in qualnames},
                                     without_file)
        self.assertIn(f'py::main:{STDLIB}/lib2to3/main.py', seen)

    def tree(self, directory):
        """Return the files below a directory with their content."""
        found = {}
        for root, _, files in os.walk(self.path(directory)):
            for name in files:
                path = os.path.join(root, name)
                with open(path, 'rb') as file:
                    found[os.path.relpath(path, self.path(directory))] = (
                        file.read())
        return found


if __name__ == '__main__':
    unittest.main()
