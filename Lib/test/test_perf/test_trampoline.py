"""Switching native profiler support on and off, and what is in the map then.

File level only: no profiler is needed here.  Every program runs in a child.
"""

import collections
import os
import signal
import stat
import subprocess
import sys
import sysconfig
import unittest

from test.support import import_helper
from test.test_perf import fixtures, parsers


def setUpModule():
    fixtures.require_trampoline()


# A script that tells whether profiling is on, in a function of its own.
TELL = """\
    import sys

    def tell():
        print(sys.is_stack_trampoline_active())

    tell()
    """


class SwitchTests(fixtures.PerfTestCase):

    def assert_on(self, run):
        self.assertEqual(run.out, 'True\n')
        self.assertIn(self.script_name('tell'), run.names)
        self.assertEqual(run.err, '')

    def assert_off(self, run):
        self.assertEqual(run.out, 'False\n')
        self.assertFalse(run.has_map)
        self.assertEqual(run.err, '')

    def test_it_is_off_by_default(self):
        self.assert_off(self.run_python(TELL, mode=None))

    def test_the_option_switches_it_on(self):
        self.assert_on(self.run_python(TELL, mode='perf'))

    def test_the_option_may_say_1(self):
        self.assert_on(self.run_python(TELL, mode='perf=1'))

    def test_the_option_may_say_0(self):
        self.assert_off(self.run_python(TELL, mode='perf=0'))

    def test_the_option_may_say_nothing_else(self):
        for value in ('', '2', 'yes', 'true', '-1', '01', '1 ', 'perf'):
            with self.subTest(value=value):
                run = self.run_python(TELL, mode=f'perf={value}',
                                      returncode=None)
                self.assertNotEqual(run.returncode, 0, run)
                self.assertGreater(run.returncode, 0, run)
                self.assertEqual(run.out, '')
                self.assertIn('-X perf', run.err)
                self.assertFalse(run.has_map)

    def test_the_variable_switches_it_on(self):
        self.assert_on(self.run_python(TELL, mode=None,
                                       env={'PYTHONPERFSUPPORT': '1'}))

    def test_the_variable_empty_or_0_is_off(self):
        for value in ('', '0'):
            with self.subTest(value=value):
                self.assert_off(self.run_python(
                    TELL, mode=None, env={'PYTHONPERFSUPPORT': value}))

    def test_the_variable_is_ignored_where_all_are(self):
        for option in ('-E', '-I'):
            with self.subTest(option=option):
                self.assert_off(self.run_python(
                    TELL, mode=None, options=[option],
                    env={'PYTHONPERFSUPPORT': '1'}))

    def test_the_option_counts_where_variables_are_ignored(self):
        for option in ('-E', '-I'):
            with self.subTest(option=option):
                self.assert_on(self.run_python(TELL, options=[option]))

    def test_the_option_wins_over_the_variable(self):
        self.assert_off(self.run_python(TELL, mode='perf=0',
                                        env={'PYTHONPERFSUPPORT': '1'}))
        self.assert_on(self.run_python(TELL, mode='perf',
                                       env={'PYTHONPERFSUPPORT': '0'}))

    def test_the_functions_win_over_the_option(self):
        run = self.run_python("""\
            import sys

            def late():
                pass

            sys.deactivate_stack_trampoline()
            print(sys.is_stack_trampoline_active())
            late()
            """)
        self.assertEqual(run.out, 'False\n')
        self.assertNotIn(self.script_name('late'), run.names)

    def test_the_configuration_tells(self):
        import_helper.import_module('_testinternalcapi')
        script = """\
            import _testinternalcapi
            print(_testinternalcapi.get_config()['perf_profiling'])
            """
        for mode, expected in ((None, '0\n'), ('perf', '1\n'),
                               ('perf=1', '1\n'), ('perf=0', '0\n')):
            with self.subTest(mode=mode):
                self.assertEqual(self.run_python(script, mode=mode).out,
                                 expected)
        run = self.run_python(script, mode=None,
                              env={'PYTHONPERFSUPPORT': '1'})
        self.assertEqual(run.out, '1\n')

    def test_the_options_are_kept_in_sys(self):
        run = self.run_python('import sys; print(sys._xoptions)')
        self.assertEqual(run.out, "{'perf': True}\n")

    def test_the_build_tells(self):
        self.assertEqual(sysconfig.get_config_var('PY_HAVE_PERF_TRAMPOLINE'),
                         1)

    def test_the_helps_list_the_switches(self):
        for option, expected in (('--help-xoptions', '-X perf'),
                                 ('--help-env', 'PYTHONPERFSUPPORT')):
            with self.subTest(option=option):
                run = self.run_command([sys.executable, option])
                self.assertIn(expected, run.out)


class FunctionTests(fixtures.PerfTestCase):
    """sys.activate_stack_trampoline() and its kin."""

    def test_it_goes_on_and_off(self):
        run = self.run_python("""\
            import sys

            def tell():
                print(sys.is_stack_trampoline_active())

            tell()
            print(sys.activate_stack_trampoline('perf'))
            tell()
            print(sys.deactivate_stack_trampoline())
            tell()
            """, mode=None)
        self.assertEqual(run.out, 'False\nNone\nTrue\nNone\nFalse\n')

    def test_a_function_first_called_while_off_does_not_appear(self):
        run = self.run_python("""\
            import sys

            def before(): pass
            def during(): pass
            def after(): pass

            before()
            sys.activate_stack_trampoline('perf')
            during()
            sys.deactivate_stack_trampoline()
            after()
            """, mode=None)
        self.assertEqual(run.names, [self.script_name('during')])

    def test_a_function_called_again_while_on_appears(self):
        run = self.run_python("""\
            import sys

            def function(): pass

            for i in range(50):
                function()
            sys.activate_stack_trampoline('perf')
            function()
            """, mode=None)
        self.assertIn(self.script_name('function'), run.names)

    def test_the_file_is_continued_when_it_is_on_again(self):
        run = self.run_python("""\
            import sys

            def first(): pass
            def second(): pass

            sys.activate_stack_trampoline('perf')
            first()
            sys.deactivate_stack_trampoline()
            first()
            sys.activate_stack_trampoline('perf')
            first()
            second()
            """, mode=None)
        self.assertEqual(run.names, [self.script_name('first'),
                                     self.script_name('second')])
        self.assert_good_map(run.entries)

    def test_activating_twice_is_accepted(self):
        run = self.run_python("""\
            import sys

            def function(): pass

            for i in range(1000):
                sys.activate_stack_trampoline('perf')
            function()
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'True\n')
        self.assertEqual(run.names, [self.script_name('function')])

    def test_deactivating_twice_is_accepted(self):
        run = self.run_python("""\
            import sys
            sys.deactivate_stack_trampoline()
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            sys.deactivate_stack_trampoline()
            sys.deactivate_stack_trampoline()
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'True\nFalse\n')

    def test_it_can_go_on_and_off_a_thousand_times(self):
        # There are 255 indices for what is kept with a code object.
        run = self.run_python("""\
            import sys

            def function(): pass

            for i in range(1000):
                sys.activate_stack_trampoline('perf')
                function()
                sys.deactivate_stack_trampoline()
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'False\n')
        self.assertEqual(run.names, [self.script_name('function')])

    def test_deactivating_leaves_the_functions_on_the_stack_alone(self):
        run = self.run_on_and_off("""\
            import sys

            def outer(n):
                if n:
                    return outer(n - 1) + 1
                sys.deactivate_stack_trampoline()
                return 0

            print(outer(50))
            """)
        self.assertIn(self.script_name('outer'), run.names)

    def test_an_unknown_backend_is_named_in_the_error(self):
        run = self.run_python("""\
            import sys

            for name in ('', 'PERF', 'perf ', 'invalid', 'g\\u00fc', 'a\\0b'):
                try:
                    sys.activate_stack_trampoline(name)
                except ValueError as error:
                    print(ascii(str(error)))
                else:
                    print('accepted', ascii(name))
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        lines = run.out.splitlines()
        self.assertEqual(lines[:5], [
            "'invalid backend: '", "'invalid backend: PERF'",
            "'invalid backend: perf '", "'invalid backend: invalid'",
            r"'invalid backend: g\xfc'"])
        self.assertNotIn('accepted', lines[5])
        self.assertEqual(lines[6], 'False')

    def test_an_unknown_backend_does_not_switch_off(self):
        run = self.run_python("""\
            import sys
            try:
                sys.activate_stack_trampoline('invalid')
            except ValueError:
                print(sys.is_stack_trampoline_active())
            """)
        self.assertEqual(run.out, 'True\n')

    def test_a_backend_is_a_string(self):
        run = self.run_python("""\
            import sys

            for wrong in (None, 1, b'perf', ['perf']):
                try:
                    sys.activate_stack_trampoline(wrong)
                except TypeError:
                    print('TypeError')
            try:
                sys.activate_stack_trampoline()
            except TypeError:
                print('TypeError')
            """, mode=None)
        self.assertEqual(run.out, 'TypeError\n' * 5)

    def test_another_evaluator_is_not_displaced(self):
        import_helper.import_module('_testinternalcapi')
        run = self.run_python("""\
            import sys
            import _testinternalcapi

            def function(): pass

            calls = []
            _testinternalcapi.set_eval_frame_record(calls)
            try:
                sys.activate_stack_trampoline('perf')
            except RuntimeError as error:
                message = str(error)
            function()
            _testinternalcapi.set_eval_frame_default()
            print('evaluator' in message, 'function' in calls)
            print(sys.is_stack_trampoline_active())
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'True True\nFalse\nTrue\n')

    def test_an_evaluator_that_came_later_stays(self):
        import_helper.import_module('_testinternalcapi')
        run = self.run_python("""\
            import sys
            import _testinternalcapi

            def function(): pass

            calls = []
            print(sys.is_stack_trampoline_active())
            _testinternalcapi.set_eval_frame_record(calls)
            print(sys.is_stack_trampoline_active())
            sys.deactivate_stack_trampoline()
            function()
            _testinternalcapi.set_eval_frame_default()
            print('function' in calls)
            """)
        self.assertEqual(run.out, 'True\nFalse\nTrue\n')


class MapTests(fixtures.PerfTestCase):
    """What stands in the file."""

    def test_each_function_has_one_good_line(self):
        run = self.run_python("""\
            def foo(): bar()
            def bar(): baz()
            def baz(): pass

            for i in range(100):
                foo()
            """)
        counts = collections.Counter(run.names)
        for name in ('<module>', 'foo', 'bar', 'baz'):
            self.assertEqual(counts[self.script_name(name)], 1)
        self.assert_good_map(run.entries)

    def test_every_line_is_of_a_python_function(self):
        run = self.run_python('import json, decimal, collections.abc')
        self.assertGreater(len(run.names), 20)
        for name in run.names:
            self.assertRegex(name, r'\Apy::[^:]+:(/|<)')

    def test_the_file_is_its_owners_alone(self):
        run = self.run_python('pass', prepare='umask 0')
        status = os.stat(run.map_path)
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertEqual(status.st_nlink, 1)

    def test_a_qualified_name_is_used(self):
        run = self.run_python("""\
            class Outer:
                class Inner:
                    def method(self):
                        def local(): pass
                        local()
                        [i for i in ()]
                        (lambda: None)()

            Outer.Inner().method()
            """)
        for name in ('Outer', 'Outer.Inner', 'Outer.Inner.method',
                     'Outer.Inner.method.<locals>.local',
                     'Outer.Inner.method.<locals>.<listcomp>',
                     'Outer.Inner.method.<locals>.<lambda>'):
            self.assertIn(self.script_name(name), run.names)

    def test_code_without_a_file_has_the_name_it_was_compiled_with(self):
        run = self.run_python("""\
            exec('def function(): pass\\nfunction()')
            exec(compile('1', '<made up>', 'exec'))
            """)
        self.assertIn('py::function:<string>', run.names)
        self.assertIn('py::<module>:<made up>', run.names)

    def test_generators_and_coroutines_appear(self):
        run = self.run_on_and_off("""\
            import asyncio

            def generator():
                got = yield 1
                print(got)
                yield 2

            def delegating():
                yield from generator()

            async def asynchronous_generator():
                yield 1
                await asyncio.sleep(0)
                yield 2

            async def coroutine():
                await asyncio.sleep(0)
                return [i async for i in asynchronous_generator()]

            g = delegating()
            print(next(g), g.send('sent'), list(g))
            print(asyncio.run(coroutine()))
            """)
        counts = collections.Counter(run.names)
        for name in ('generator', 'delegating', 'asynchronous_generator',
                     'coroutine'):
            self.assertEqual(counts[self.script_name(name)], 1, name)

    def test_twenty_thousand_functions_lose_nothing(self):
        run = self.run_on_and_off("""\
            total = 0
            for start in range(0, 20_000, 1000):
                source = ''.join(f'def f{i}(): return {i}\\n'
                                 for i in range(start, start + 1000))
                namespace = {}
                exec(compile(source, '<many>', 'exec'), namespace)
                for i in range(start, start + 1000):
                    total += namespace[f'f{i}']()
            print(total)
            """)
        many = [name for name in run.names
                if name.startswith('py::f') and name.endswith(':<many>')]
        self.assertEqual(len(many), 20_000)
        self.assertEqual(set(many),
                         {f'py::f{i}:<many>' for i in range(20_000)})
        self.assert_good_map(run.entries)

    def test_an_address_is_never_used_twice(self):
        # The functions die; others take their place.
        run = self.run_python("""\
            for i in range(5000):
                exec(f'def f{i}(): pass\\nf{i}()')
            """)
        self.assertEqual(len({entry.start for entry in run.entries}),
                         len(run.entries))
        self.assert_good_map(run.entries)
        self.assertEqual(
            len([n for n in run.names if n.startswith('py::f')
                 and n.endswith(':<string>')]), 5000)

    def test_the_trampolines_lie_in_anonymous_executable_memory(self):
        # perf asks a map only about such mappings.
        run = self.run_python("""\
            def function(): pass
            function()
            with open('/proc/self/maps') as file:
                print(file.read())
            """)
        [entry] = [entry for entry in run.entries
                   if entry.name == self.script_name('function')]
        for line in run.out.splitlines():
            if not line:
                continue
            span, mode, *_, inode = line.split()[:5]
            start, end = (int(x, 16) for x in span.split('-'))
            if start <= entry.start < end:
                self.assertLessEqual(entry.start + entry.size, end)
                self.assertEqual(mode, 'r-xp')
                self.assertEqual(inode, '0')
                self.assertEqual(len(line.split()), 5, line)
                break
        else:
            self.fail('the trampoline is in no mapping')

    def test_no_memory_is_writable_and_executable(self):
        run = self.run_python("""\
            for i in range(3000):
                exec(f'def f{i}(): pass\\nf{i}()')
            for line in open('/proc/self/maps'):
                print(line.split()[1])
            """)
        self.assertGreater(len(run.entries), 3000)
        self.assertIn('r-xp', run.out.split())
        self.assertNotIn('rwxp', run.out.split())
        self.assertNotIn('-wxp', run.out.split())

    def test_the_file_is_whole_when_the_process_leaves_at_once(self):
        run = self.run_python("""\
            import os
            def last(): pass
            last()
            os._exit(3)
            """, returncode=3)
        self.assertIn(self.script_name('last'), run.names)

    def test_the_file_is_whole_when_the_process_is_killed(self):
        run = self.run_python("""\
            import os, signal
            def last(): os.kill(os.getpid(), signal.SIGKILL)
            last()
            """, returncode=-signal.SIGKILL)
        self.assertEqual(run.names[-1], self.script_name('last'))
        self.assert_good_map(run.entries)

    def test_a_function_that_raises_appears(self):
        run = self.run_on_and_off("""\
            def raises():
                raise ValueError('on purpose')
            try:
                raises()
            except ValueError as error:
                print(error, error.__traceback__.tb_lineno)
            """)
        self.assertIn(self.script_name('raises'), run.names)

    def test_a_function_called_at_the_end_appears(self):
        run = self.run_python("""\
            import atexit

            @atexit.register
            def at_exit(): pass

            class Collected:
                def __del__(self): pass

            collected = Collected()
            """)
        self.assertIn(self.script_name('at_exit'), run.names)


class SameResultTests(fixtures.PerfTestCase):
    """The program does what it would have done."""

    def test_output_and_exit_status_are_the_programs_own(self):
        run = self.run_on_and_off("""\
            import sys

            def main():
                print('out')
                print('err', file=sys.stderr)
                sys.exit(42)

            main()
            """, returncode=42)
        self.assertEqual((run.out, run.err), ('out\n', 'err\n'))

    def test_an_uncaught_exception_looks_the_same(self):
        self.run_on_and_off("""\
            def fails(n):
                if n:
                    return fails(n - 1)
                1 / 0
            fails(10)
            """, returncode=1)

    def test_the_recursion_limit_is_the_same(self):
        run = self.run_on_and_off("""\
            import sys

            def depth(n):
                try:
                    return depth(n + 1)
                except RecursionError:
                    return n

            print(depth(0))
            sys.setrecursionlimit(5000)
            print(depth(0))
            """)
        self.assertIn(self.script_name('depth'), run.names)

    def test_a_recursion_too_deep_for_the_c_stack_does_not_crash(self):
        # Calls between Python functions take no C stack in this version.
        self.run_on_and_off("""\
            import sys

            def depth(n):
                return n and depth(n - 1) + 1

            sys.setrecursionlimit(100_100)
            print(depth(100_000))
            """)

    def test_descriptors_have_the_same_numbers(self):
        run = self.run_on_and_off("""\
            import os

            def numbers():
                return [os.open('/dev/null', os.O_RDONLY) for i in range(20)]

            first = numbers()
            exec('def late(): pass\\nlate()')
            print(first, numbers(), os.pipe())
            """)
        self.assertIn('py::late:<string>', run.names)

    def test_tracing_and_profiling_functions_see_the_same(self):
        self.run_on_and_off("""\
            import sys

            def traced(n):
                return n and traced(n - 1)

            events = []
            def trace(frame, event, arg):
                events.append((event, frame.f_code.co_qualname,
                               frame.f_lineno))
                return trace

            sys.settrace(trace)
            traced(3)
            sys.settrace(None)
            sys.setprofile(trace)
            traced(3)
            sys.setprofile(None)
            print(events)
            """)

    def test_deep_frames_see_their_callers(self):
        self.run_on_and_off("""\
            import sys, traceback

            def callers(n):
                if n:
                    return callers(n - 1)
                traceback.print_stack(file=sys.stdout)
                return sys._getframe(2).f_code.co_name

            print(callers(5))
            """)


class DescriptorTests(fixtures.PerfTestCase):
    """Programs that close or take over every descriptor."""

    def test_closing_all_descriptors_costs_nothing(self):
        run = self.run_on_and_off("""\
            import os

            def before(): pass
            def after(): pass

            before()
            os.closerange(3, 20_000)
            after()
            print('done')
            """)
        self.assertIn(self.script_name('before'), run.names)
        self.assertIn(self.script_name('after'), run.names)
        self.assert_good_map(run.entries)

    def test_the_programs_files_never_get_our_lines(self):
        os.mkdir(self.path('own'))
        run = self.run_on_and_off("""\
            import os, resource, sys

            def before(): pass
            def after(): pass

            before()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            os.closerange(3, soft)
            own = os.open(os.path.join(sys.argv[1], 'file'),
                          os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            for number in range(own + 1, min(soft, 4096) - 8):
                os.dup2(own, number)
            after()
            os.write(own, b'own data')
            os.lseek(own, 0, os.SEEK_SET)
            with open(os.path.join(sys.argv[1], 'file')) as file:
                print(file.read())
            """, args=[self.path('own')])
        self.assertEqual(run.out, 'own data\n')
        self.assertIn(self.script_name('after'), run.names)
        self.assert_good_map(run.entries)

    def test_a_file_opened_in_its_place_is_left_alone(self):
        run = self.run_python("""\
            import os, resource, sys

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

            def before(): pass
            def after(): pass

            before()
            path = f'/tmp/perf-{os.getpid()}.map'
            [number] = [int(fd) for fd in os.listdir('/proc/self/fd')
                        if os.path.exists(f'/proc/self/fd/{fd}')
                        and os.readlink(f'/proc/self/fd/{fd}') == path]
            print(number)
            limit = max(number + 1, soft)       # it may be beyond
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            own = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
            os.dup2(own, number)
            after()
            os.write(number, b'own data')
            print(os.pread(own, 1000, 0))
            """, args=[self.path('own')])
        number, data = run.out.splitlines()
        self.assertEqual(data, "b'own data'")
        self.assertGreaterEqual(int(number), 512)
        self.assertIn(self.script_name('before'), run.names)
        self.assertIn(self.script_name('after'), run.names)

    def test_a_file_put_in_its_place_between_two_lines_is_left_alone(self):
        run = self.run_python("""\
            import os, resource, sys

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

            def before(): pass
            def after(): pass

            path = f'/tmp/perf-{os.getpid()}.map'
            [number] = [int(fd) for fd in os.listdir('/proc/self/fd')
                        if os.path.exists(f'/proc/self/fd/{fd}')
                        and os.readlink(f'/proc/self/fd/{fd}') == path]
            limit = max(number + 1, soft)       # it may be beyond
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            own = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
            before()
            os.dup2(own, number)
            after()
            print(os.pread(own, 1000, 0))
            """, args=[self.path('own')])
        self.assertEqual(run.out, "b''\n")
        self.assertIn(self.script_name('after'), run.names)

    def test_a_small_limit_on_descriptors_will_do(self):
        run = self.run_on_and_off("""\
            import os
            def function(): pass
            function()
            print(os.open('/dev/null', os.O_RDONLY))
            """, prepare='ulimit -n 16')
        self.assertIn(self.script_name('function'), run.names)
        self.assertEqual(run.err, '')

    def test_no_number_below_the_limit_is_taken_where_the_limit_can_be_raised(self):
        run = self.run_on_and_off("""\
            import errno, os, resource
            def function(): pass
            function()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            for number in range(3, soft):
                try:
                    os.fstat(number)
                except OSError:
                    continue
                print(number)
            print(soft, hard)
            """, prepare='ulimit -S -n 1024')
        self.assertIn(self.script_name('function'), run.names)

    def test_a_program_that_is_executed_does_not_inherit_it(self):
        run = self.run_python("""\
            import subprocess
            subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False)
            """)
        self.assertNotEqual(run.out, '')
        self.assertNotIn('.map', run.out)
        self.assertTrue(run.has_map)


class ProcessTests(fixtures.PerfTestCase):
    """Children that are executed, and their environment."""

    def test_an_executed_child_has_a_map_of_its_own(self):
        run = self.run_python("""\
            import subprocess, sys

            def parent(): pass

            child = subprocess.Popen(
                [sys.executable, '-c', 'def child(): pass\\nchild()'])
            child.wait()
            parent()
            print(child.pid)
            """, mode=None, env={'PYTHONPERFSUPPORT': '1'})
        child = [entry.name
                 for entry in parsers.read_map(self.track(run.out))]
        self.assertIn('py::child:<string>', child)
        self.assertNotIn(self.script_name('parent'), child)
        self.assertIn(self.script_name('parent'), run.names)
        self.assertNotIn('py::child:<string>', run.names)

    def test_the_option_is_not_inherited(self):
        run = self.run_python("""\
            import subprocess, sys
            child = subprocess.Popen(
                [sys.executable, '-c',
                 'import sys; print(sys.is_stack_trampoline_active())'])
            child.wait()
            """)
        self.assertEqual(run.out, 'False\n')

    def test_a_process_that_executes_itself_starts_afresh(self):
        run = self.run_python("""\
            import os, sys

            def first(): pass
            def second(): pass

            if len(sys.argv) == 1:
                first()
                os.execv(sys.executable, [sys.executable, '-X', 'perf',
                                          sys.argv[0], 'again'])
            second()
            """)
        self.assertIn(self.script_name('second'), run.names)
        self.assertNotIn(self.script_name('first'), run.names)
        self.assert_good_map(run.entries)


class ForkTests(fixtures.PerfTestCase):

    def names(self, pid):
        entries = parsers.read_map(self.track(pid))
        self.assert_good_map(entries)
        return [entry.name for entry in entries]

    def test_parent_and_child_have_maps_of_their_own(self):
        run = self.run_python("""\
            import os

            def before(): pass
            def in_child(): pass
            def in_parent(): pass

            before()
            child = os.fork()
            if not child:
                in_child()
                os._exit(0)
            os.waitpid(child, 0)
            in_parent()
            print(child)
            """)
        child = self.names(run.out)
        self.assertIn(self.script_name('in_child'), child)
        self.assertNotIn(self.script_name('before'), child)
        self.assertNotIn(self.script_name('in_parent'), child)
        self.assertIn(self.script_name('before'), run.names)
        self.assertIn(self.script_name('in_parent'), run.names)
        self.assertNotIn(self.script_name('in_child'), run.names)
        self.assertEqual(run.err, '')

    def test_the_childs_map_is_its_owners_alone(self):
        run = self.run_python("""\
            import os
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            print(child)
            """)
        status = os.stat(parsers.map_path(self.track(run.out)))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)

    def test_the_functions_on_the_childs_stack_are_announced(self):
        run = self.run_python("""\
            import os

            def outer(): return inner()
            def inner(): return sorted([0], key=callback)[0]
            def callback(_):
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
                print(child)

            outer()
            """)
        child = parsers.read_map(self.track(run.out))
        self.assertEqual(
            {entry.name for entry in child},
            {self.script_name(name)
             for name in ('<module>', 'outer', 'inner', 'callback')})
        self.assertEqual(len(child), 4)
        # Their trampolines are where they were.
        self.assertLess(set(child), set(run.entries))

    def test_a_generator_on_the_childs_stack_is_announced(self):
        run = self.run_python("""\
            import os

            def generator():
                yield os.fork()

            def suspended():
                yield

            waiting = suspended()
            next(waiting)
            for child in generator():
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
                print(child)
            """)
        child = self.names(run.out)
        self.assertIn(self.script_name('generator'), child)
        self.assertNotIn(self.script_name('suspended'), child)

    def test_a_function_called_again_in_the_child_keeps_its_trampoline(self):
        run = self.run_python("""\
            import os

            def both(): pass

            both()
            child = os.fork()
            both()
            if not child:
                both()
                os._exit(0)
            os.waitpid(child, 0)
            print(child)
            """)
        self.track(run.out)
        child = parsers.read_map(int(run.out))
        name = self.script_name('both')
        [in_child] = [entry for entry in child if entry.name == name]
        [in_parent] = [entry for entry in run.entries if entry.name == name]
        self.assertEqual(in_child, in_parent)

    def test_new_functions_of_the_child_lie_elsewhere(self):
        # Two children would else write different names for one address,
        # and a profiler that looks into the parent's map be misled.
        run = self.run_python("""\
            import os

            def in_child(): pass
            def in_parent(): pass

            child = os.fork()
            if not child:
                in_child()
                os._exit(0)
            os.waitpid(child, 0)
            in_parent()
            print(child)
            """)
        child = parsers.read_map(self.track(run.out))
        both = set(child) | set(run.entries)
        self.assertEqual(parsers.overlapping(both), [])

    def test_twice_in_a_row(self):
        run = self.run_python("""\
            import os

            def in_parent(): pass
            def in_child(): pass
            def in_grandchild(): pass

            in_parent()
            read, write = os.pipe()
            child = os.fork()
            if not child:
                in_child()
                grandchild = os.fork()
                if not grandchild:
                    in_grandchild()
                    os._exit(0)
                os.waitpid(grandchild, 0)
                os.write(write, str(grandchild).encode())
                os._exit(0)
            os.waitpid(child, 0)
            print(child, os.read(read, 100).decode())
            """)
        child, grandchild = map(self.names, run.out.split())
        wanted = [self.script_name(name)
                  for name in ('in_parent', 'in_child', 'in_grandchild')]
        for names, own in zip((run.names, child, grandchild), wanted):
            self.assertEqual([name for name in wanted if name in names],
                             [own])

    def test_in_a_thread(self):
        run = self.run_python("""\
            import os, threading

            def thread():
                child = os.fork()
                if not child:
                    in_child()
                    os._exit(0)
                os.waitpid(child, 0)
                print(child)

            def in_child(): pass
            def waiting(): event.wait()

            event = threading.Event()
            other = threading.Thread(target=waiting)
            other.start()
            forking = threading.Thread(target=thread)
            forking.start()
            forking.join()
            event.set()
            other.join()
            """)
        child = self.names(run.out)
        self.assertIn(self.script_name('thread'), child)
        self.assertIn(self.script_name('in_child'), child)
        self.assertNotIn(self.script_name('waiting'), child)

    def test_while_threads_call_new_functions(self):
        run = self.run_python("""\
            import os, threading

            stop = False

            def busy(name):
                i = 0
                while not stop:
                    exec(f'def {name}{i}(): pass\\n{name}{i}()')
                    i += 1

            def in_child(): pass

            threads = [threading.Thread(target=busy, args=(name,))
                       for name in 'abc']
            for thread in threads: thread.start()
            children = []
            for i in range(20):
                child = os.fork()
                if not child:
                    in_child()
                    os._exit(7)
                children.append(child)
                assert os.waitpid(child, 0)[1] == 7 << 8
            stop = True
            for thread in threads: thread.join()
            print(*children)
            """)
        for child in run.out.split():
            self.assertIn(self.script_name('in_child'), self.names(child))
        self.assert_good_map(run.entries)

    def test_with_multiprocessing(self):
        run = self.run_python("""\
            import multiprocessing

            def work(queue):
                queue.put('result')

            if __name__ == '__main__':
                context = multiprocessing.get_context('fork')
                queue = context.SimpleQueue()
                process = context.Process(target=work, args=(queue,))
                process.start()
                assert queue.get() == 'result'
                process.join()
                assert process.exitcode == 0
                print(process.pid)
            """)
        self.assertIn(self.script_name('work'), self.names(run.out))
        self.assertNotIn(self.script_name('work'), run.names)

    def test_a_child_of_c_code_is_noticed(self):
        # Nothing told the interpreter that it has been forked.
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, os

            def in_child(): pass
            def in_parent(): pass

            child = ctypes.PyDLL(None).fork()
            if not child:
                in_child()
                os._exit(0)
            os.waitpid(child, 0)
            in_parent()
            print(child)
            """)
        child = self.names(run.out)
        self.assertIn(self.script_name('in_child'), child)
        self.assertNotIn(self.script_name('in_parent'), child)
        self.assertIn(self.script_name('in_parent'), run.names)
        self.assertNotIn(self.script_name('in_child'), run.names)

    def test_a_child_that_the_c_library_knows_nothing_of_is_noticed(self):
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, os, platform, signal

            def in_child(): pass
            def in_parent(): pass

            clone = 56 if platform.machine() == 'x86_64' else 220
            child = ctypes.PyDLL(None).syscall(*map(ctypes.c_long, (
                clone, signal.SIGCHLD, 0, 0, 0, 0)))
            if not child:
                in_child()
                os._exit(0)
            os.waitpid(child, 0)
            in_parent()
            print(child)
            """)
        child = self.names(run.out)
        self.assertIn(self.script_name('in_child'), child)
        self.assertIn(self.script_name('in_parent'), run.names)
        self.assertNotIn(self.script_name('in_child'), run.names)

    @fixtures.not_emulated('a fork among threads hangs qemu-user: its lock '
                               'for paths stays locked in the child')
    def test_a_lock_that_another_thread_held_does_not_hang_the_child(self):
        # Threads without the GIL may be in the map's functions at any time.
        import_helper.import_module('ctypes')
        for fork in ('os.fork', 'ctypes.PyDLL(None).fork'):
            with self.subTest(fork=fork):
                run = self.run_python(f"""\
                    import ctypes, os, signal, threading

                    stop = False

                    def hold():
                        library = ctypes.CDLL(None)
                        while not stop:
                            library.PyUnstable_CopyPerfMapFile(b'/missing')

                    def in_child(): pass

                    threads = [threading.Thread(target=hold)
                               for i in range(3)]
                    for thread in threads: thread.start()
                    children = []
                    for i in range(20):
                        child = {fork}()
                        if not child:
                            signal.alarm(30)
                            in_child()
                            os._exit(7)
                        children.append(child)
                        if os.waitpid(child, 0)[1] != 7 << 8:
                            break
                    stop = True
                    for thread in threads: thread.join()
                    print(*children)
                    """)
                children = [self.track(pid) for pid in run.out.split()]
                self.assertEqual(len(children), 20, 'a child hung')
                for child in children:
                    self.assertIn(self.script_name('in_child'),
                                  self.names(child))

    def test_a_child_can_switch_off_for_itself(self):
        run = self.run_python("""\
            import os, sys

            def off(): pass
            def on(): pass
            def in_parent(): pass

            child = os.fork()
            if not child:
                sys.deactivate_stack_trampoline()
                off()
                sys.activate_stack_trampoline('perf')
                on()
                os._exit(0)
            os.waitpid(child, 0)
            in_parent()
            print(child)
            """)
        child = self.names(run.out)
        self.assertIn(self.script_name('on'), child)
        self.assertNotIn(self.script_name('off'), child)
        self.assertIn(self.script_name('in_parent'), run.names)

    def test_a_child_of_a_program_that_was_switched_off_writes_nothing(self):
        run = self.run_python("""\
            import os, sys

            def function(): pass

            sys.deactivate_stack_trampoline()
            child = os.fork()
            if not child:
                path = f'/tmp/perf-{os.getpid()}.map'
                if os.path.exists(path):    # from another process
                    os.unlink(path)
                function()
                os._exit(0)
            os.waitpid(child, 0)
            print(child)
            """)
        self.assertIn(self.script_name('<module>'), run.names)
        self.assertFalse(os.path.exists(
            parsers.map_path(self.track(run.out))))

    def test_the_child_is_whole_when_it_ends_like_a_program(self):
        run = self.run_python("""\
            import os, sys

            def at_the_end(): pass

            child = os.fork()
            if not child:
                import atexit
                atexit.register(at_the_end)
                sys.exit(5)
            assert os.waitpid(child, 0)[1] == 5 << 8
            print(child)
            """)
        self.assertIn(self.script_name('at_the_end'), self.names(run.out))


class PersistTests(fixtures.PerfTestCase):
    """Children that keep the trampolines of their parent."""

    def setUp(self):
        super().setUp()
        import_helper.import_module('_testinternalcapi')

    def test_every_line_of_the_parent_stands_in_the_childs_map(self):
        run = self.run_python("""\
            import os
            from _testinternalcapi import (
                compile_perf_trampoline_entry as compile_entry,
                perf_trampoline_set_persist_after_fork as set_persist)

            def called(): pass
            def precompiled(): pass
            def in_child(): pass
            def in_parent(): pass

            called()
            compile_entry(precompiled.__code__)
            set_persist(1)
            with open(f'/tmp/perf-{os.getpid()}.map') as file:
                print(file.read(), end='')
            print(flush=True)
            child = os.fork()
            if not child:
                in_child()
                precompiled()
                called()
                os._exit(0)
            os.waitpid(child, 0)
            in_parent()
            print(child)
            """)
        before, child = run.out.split('\n\n')
        before = parsers.parse_map(before + '\n')
        child = parsers.read_map(self.track(child))
        self.assert_good_map(child)
        self.assertIn(self.script_name('precompiled'),
                      [entry.name for entry in before])
        self.assertEqual(child[:len(before)], before)
        names = [entry.name for entry in child]
        self.assertIn(self.script_name('in_child'), names)
        self.assertNotIn(self.script_name('in_parent'), names)
        self.assertNotIn(self.script_name('in_child'), run.names)
        self.assertIn(self.script_name('in_parent'), run.names)
        for name in ('precompiled', 'called', '<module>'):
            self.assertEqual(names.count(self.script_name(name)), 1, name)

    def test_the_child_is_still_on(self):
        run = self.run_python("""\
            import os, sys
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
            child = os.fork()
            if not child:
                os._exit(10 + sys.is_stack_trampoline_active())
            print(child, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """)
        child, status = run.out.split()
        self.track(child)
        self.assertEqual(status, '11')

    def test_a_grandchild_has_it_all(self):
        run = self.run_python("""\
            import os
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)

            def in_parent(): pass
            def in_child(): pass
            def in_grandchild(): pass

            in_parent()
            set_persist(1)
            read, write = os.pipe()
            child = os.fork()
            if not child:
                in_child()
                grandchild = os.fork()
                if not grandchild:
                    in_grandchild()
                    os._exit(0)
                os.waitpid(grandchild, 0)
                os.write(write, str(grandchild).encode())
                os._exit(0)
            os.waitpid(child, 0)
            print(child, os.read(read, 100).decode())
            """)
        child, grandchild = map(self.track, run.out.split())
        entries = parsers.read_map(grandchild)
        self.assert_good_map(entries)
        names = [entry.name for entry in entries]
        for name in ('in_parent', 'in_child', 'in_grandchild'):
            self.assertEqual(names.count(self.script_name(name)), 1, name)

    def test_a_map_of_any_size_is_copied(self):
        # The multiples of a buffer's size went wrong elsewhere.
        run = self.run_python("""\
            import os
            from _testinternalcapi import (
                write_perf_map_entry,
                perf_trampoline_set_persist_after_fork as set_persist)

            def read(pid):
                fd = os.open(f'/tmp/perf-{pid}.map', os.O_RDONLY)
                data = os.read(fd, 1 << 20)
                os.close(fd)
                return data

            def copy_with_size(target):
                missing = target - len(read(os.getpid()))
                write_perf_map_entry(0x1000, 1,
                                     'x' * (missing - len('1000 1 \\n')))
                before = read(os.getpid())
                assert len(before) == target
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
                print(child)
                assert read(child)[:target] == before, target

            set_persist(1)
            for target in (1 << 15, 1 << 16, (1 << 16) + 4096, 1 << 17,
                           (1 << 17) + 100, 1 << 18):
                copy_with_size(target)
            """)
        children = run.out.split()
        for child in children:
            self.track(child)
        self.assertEqual(len(children), 6)

    def test_it_can_be_taken_back(self):
        run = self.run_python("""\
            import os
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)

            def in_parent(): pass

            in_parent()
            set_persist(1)
            set_persist(0)
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            print(child)
            """)
        names = [entry.name
                 for entry in parsers.read_map(self.track(run.out))]
        self.assertNotIn(self.script_name('in_parent'), names)
        self.assertIn(self.script_name('<module>'), names)

    def test_a_child_of_c_code_with_persist_keeps_out_of_the_parents_map(self):
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, os
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)

            def in_child(): pass

            set_persist(1)
            child = ctypes.PyDLL(None).fork()
            if not child:
                in_child()
                os._exit(0)
            os.waitpid(child, 0)
            print(child)
            """)
        names = [entry.name
                 for entry in parsers.read_map(self.track(run.out))]
        self.assertIn(self.script_name('in_child'), names)
        self.assertNotIn(self.script_name('in_child'), run.names)


class ThreadTests(fixtures.PerfTestCase):

    def test_threads_call_new_functions(self):
        run = self.run_on_and_off("""\
            import threading

            results = []

            def work(name):
                for i in range(500):
                    namespace = {}
                    exec(f'def {name}{i}(): return {i}', namespace)
                    results.append(namespace[f'{name}{i}']())

            threads = [threading.Thread(target=work, args=(name,))
                       for name in 'abcd']
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sum(results))
            """)
        self.assert_good_map(run.entries)
        counts = collections.Counter(run.names)
        self.assertEqual(
            {counts[f'py::{name}{i}:<string>']
             for name in 'abcd' for i in range(500)}, {1})

    def test_a_thread_switches_while_others_run(self):
        run = self.run_python("""\
            import sys, threading

            results = []

            def deep(n):
                return deep(n - 1) + 1 if n else 0

            def work(name):
                for i in range(500):
                    namespace = {}
                    exec(f'def {name}{i}(): return {i}', namespace)
                    results.append(namespace[f'{name}{i}']() + deep(10))

            def switch():
                while any(thread.is_alive() for thread in threads):
                    sys.activate_stack_trampoline('perf')
                    sys.deactivate_stack_trampoline()

            sys.setswitchinterval(1e-5)
            threads = [threading.Thread(target=work, args=(name,))
                       for name in 'abcd']
            for thread in threads: thread.start()
            switching = threading.Thread(target=switch)
            switching.start()
            for thread in threads: thread.join()
            switching.join()
            print(sum(results) == 4 * sum(range(10, 510)))
            """)
        self.assertEqual(run.out, 'True\n')
        self.assertEqual(run.err, '')
        self.assertEqual(parsers.overlapping(run.entries), [])

    def test_a_thread_may_leave_by_pthread_exit(self):
        # Its stack is unwound through the trampolines.
        import_helper.import_module('ctypes')
        run = self.run_on_and_off("""\
            import _thread, ctypes, os, threading

            def outer():
                leaving()

            def leaving():
                ready.set()
                ctypes.CDLL(None).pthread_exit(None)

            def threads():      # qemu-user has one of its own
                return len(os.listdir('/proc/self/task'))

            before = threads()
            ready = threading.Event()
            _thread.start_new_thread(outer, ())
            ready.wait()
            while threads() > before:
                pass
            print('alive')
            """)
        self.assertIn(self.script_name('leaving'), run.names)

    def test_daemon_threads_live_on_at_the_end(self):
        for i in range(5):
            run = self.run_python("""\
                import threading

                def busy(name):
                    i = 0
                    while True:
                        exec(f'def {name}{i}(): pass\\n{name}{i}()')
                        i += 1
                        ready.set()

                ready = threading.Event()
                for name in 'abc':
                    threading.Thread(target=busy, args=(name,),
                                     daemon=True).start()
                ready.wait()
                """)
            self.assertIn(self.script_name('busy'), run.names)
            self.assert_good_map(run.entries)


class SubinterpreterTests(fixtures.PerfTestCase):

    def setUp(self):
        super().setUp()
        import_helper.import_module('_xxsubinterpreters')

    def test_a_subinterpreter_lives_and_dies(self):
        run = self.run_on_and_off("""\
            import _xxsubinterpreters as interpreters

            def before(): pass
            def after(): pass

            before()
            for i in range(3):
                new = interpreters.create()
                interpreters.run_string(
                    new, 'def within(): print("within")\\nwithin()')
                interpreters.destroy(new)
            after()
            """)
        self.assertEqual(run.out, 'within\n' * 3)
        self.assertIn(self.script_name('before'), run.names)
        self.assertIn(self.script_name('after'), run.names)
        self.assert_good_map(run.entries)

    def test_a_subinterpreter_can_be_switched_by_itself(self):
        run = self.run_python("""\
            import _xxsubinterpreters as interpreters
            import sys

            def after(): pass

            new = interpreters.create()
            interpreters.run_string(new, '''if True:
                import sys
                sys.activate_stack_trampoline('perf')
                def within(): pass
                within()
                print(sys.is_stack_trampoline_active())
                sys.deactivate_stack_trampoline()
                print(sys.is_stack_trampoline_active())
                ''')
            interpreters.destroy(new)
            after()
            print(sys.is_stack_trampoline_active())
            """)
        self.assertEqual(run.out, 'True\nFalse\nTrue\n')
        self.assertIn(self.script_name('after'), run.names)
        self.assertIn('within', ' '.join(run.names))


class EmbeddingTests(fixtures.PerfTestCase):

    def test_stdin_is_a_program_too(self):
        with subprocess.Popen(
                [sys.executable, '-X', 'perf', '-'],
                env=fixtures.clean_environment(),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            self.track(child.pid)
            out, _ = child.communicate(b'def f(): print(1)\nf()\n')
        self.assertEqual(out, b'1\n')
        names = [entry.name for entry in parsers.read_map(child.pid)]
        self.assertIn('py::f:<stdin>', names)


if __name__ == '__main__':
    unittest.main()
