"""Switching profiling on and off: options, variables, functions of sys."""

import os
import stat
import sys
import sysconfig
import unittest

from test.support import import_helper
from test.test_perf import fixtures, parsers
from test.test_perf.modes import (
    JitdumpMode, MODES, MapMode, VARIABLES, dump_path)
from test.test_perf.parsers import names_in_map
from test.test_perf.programs import TELL


def setUpModule():
    fixtures.require_trampoline()


class SwitchTests:
    """Options and environment variables."""

    def assert_on(self, run):
        self.assertEqual(run.out, 'True\n')
        self.assertEqual(run.err, '')
        self.assert_written(run, 'tell')
        self.assertFalse(os.path.lexists(self.other_file_of(run.pid)))

    def assert_off(self, run):
        self.assertEqual(run.out, 'False\n')
        self.assertEqual(run.err, '')
        self.assertFalse(run.has_map)
        self.assertFalse(os.path.lexists(dump_path(run.pid)))

    def run_with_variable(self, value, source=TELL, **options):
        return self.run_python(source, env={self.variable: value}, **options)

    def test_it_is_off_by_default(self):
        self.assert_off(self.run_python(TELL, mode=None))

    def test_the_option_switches_it_on(self):
        self.assert_on(self.run_python(TELL))

    def test_the_option_may_say_1(self):
        self.assert_on(self.run_python(TELL, mode=f'{self.mode}=1'))

    def test_the_option_may_say_0(self):
        self.assert_off(self.run_python(TELL, mode=f'{self.mode}=0'))

    def test_the_option_may_say_nothing_else(self):
        for value in ('', '2', 'yes', 'true', '-1', '01', '1 ', 'perf'):
            with self.subTest(value=value):
                run = self.run_python(TELL, mode=f'{self.mode}={value}',
                                      returncode=None)
                self.assertGreater(run.returncode, 0, run)
                self.assertEqual(run.out, '')
                self.assertIn(f'-X {self.mode}', run.err)
                self.assertFalse(run.has_map)
                self.assertFalse(os.path.lexists(dump_path(run.pid)))

    def test_the_variable_switches_it_on(self):
        self.assert_on(self.run_with_variable('1', mode=None))

    def test_the_variable_empty_or_0_is_off(self):
        for value in ('', '0'):
            with self.subTest(value=value):
                self.assert_off(self.run_with_variable(value, mode=None))

    def test_the_variable_is_ignored_where_all_are(self):
        for option in ('-E', '-I'):
            with self.subTest(option=option):
                self.assert_off(self.run_with_variable(
                    '1', mode=None, options=[option]))

    def test_the_option_counts_where_variables_are_ignored(self):
        for option in ('-E', '-I'):
            with self.subTest(option=option):
                self.assert_on(self.run_python(TELL, options=[option]))

    def test_the_option_wins_over_the_variable(self):
        self.assert_off(self.run_with_variable('1', mode=f'{self.mode}=0'))
        self.assert_on(self.run_with_variable('0'))

    def test_the_option_wins_over_the_variable_of_the_other_mode(self):
        self.assert_on(self.run_python(
            TELL, env={VARIABLES[self.other_mode]: '1'}))

    def test_the_option_of_the_other_mode_may_say_0(self):
        self.assert_on(self.run_python(
            TELL, options=['-X', f'{self.other_mode}=0']))

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
        self.assert_none(run.names, 'late')

    def test_the_configuration_has_the_mode(self):
        import_helper.import_module('_testinternalcapi')
        script = """\
            import _testinternalcapi
            print(_testinternalcapi.get_config()['perf_profiling'])
            """
        number = f'{MODES.index(self.mode) + 1}\n'
        for mode, expected in ((None, '0\n'), (self.mode, number),
                               (f'{self.mode}=1', number),
                               (f'{self.mode}=0', '0\n')):
            with self.subTest(mode=mode):
                self.assertEqual(self.run_python(script, mode=mode).out,
                                 expected)
        run = self.run_with_variable('1', script, mode=None)
        self.assertEqual(run.out, number)

    def test_the_option_is_kept_in_sys(self):
        run = self.run_python('import sys; print(sys._xoptions)')
        self.assertEqual(run.out, f"{{'{self.mode}': True}}\n")

    def test_the_file_is_its_owners_alone(self):
        run = self.run_python('pass', prepare='umask 0')
        status = os.stat(run.file)
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertEqual(status.st_nlink, 1)

    def test_the_helps_list_the_switches(self):
        for option, expected in (('--help-xoptions', f'-X {self.mode}'),
                                 ('--help-env', self.variable)):
            with self.subTest(option=option):
                run = self.run_command([sys.executable, option])
                self.assertIn(expected, run.out)


class MapSwitchTests(SwitchTests, MapMode):

    def test_the_build_tells(self):
        self.assertEqual(sysconfig.get_config_var('PY_HAVE_PERF_TRAMPOLINE'),
                         1)


class JitdumpSwitchTests(SwitchTests, JitdumpMode):

    def test_of_both_options_it_is_this_one(self):
        for first, second in (('perf', 'perf_jit'), ('perf_jit', 'perf')):
            with self.subTest(first=first):
                self.assert_on(self.run_python(TELL, mode=first,
                                               options=['-X', second]))

    def test_of_both_variables_it_is_this_one(self):
        self.assert_on(self.run_python(
            TELL, mode=None, env=dict.fromkeys(VARIABLES.values(), '1')))


class BetweenModesTests(JitdumpMode):
    """From one mode to the other at run time."""

    def assert_switched(self, first, second):
        """Each file has the functions that were first called in its mode."""
        run = self.run_python(f"""\
            import sys

            def early(): pass
            def both(): pass
            def late(): pass

            early()
            both()
            sys.activate_stack_trampoline({second!r})
            print(sys.is_stack_trampoline_active())
            both()
            late()
            """, mode=first)
        self.assertEqual(run.out, 'True\n')
        script = {self.script_name(n): n for n in ('early', 'both', 'late')}
        names = {'perf': names_in_map(run.pid),
                 'perf_jit': [function.load.name
                              for function in self.read(run).functions()
                              if function.unwinding is not None]}
        self.assertEqual([script[n] for n in names[first] if n in script],
                         ['early', 'both'])
        self.assertEqual([script[n] for n in names[second] if n in script],
                         ['both', 'late'])

    def test_from_the_map_to_the_jitdump_at_run_time(self):
        self.assert_switched('perf', 'perf_jit')

    def test_from_the_jitdump_to_the_map_at_run_time(self):
        self.assert_switched('perf_jit', 'perf')

    def test_a_function_keeps_its_address_in_both_files(self):
        run = self.run_python("""\
            import sys
            def function(): pass
            function()
            sys.activate_stack_trampoline('perf')
            function()
            """)
        [function] = self.functions(run, 'function')
        [entry] = [entry for entry in parsers.read_map(run.pid)
                   if entry.name == self.script_name('function')]
        self.assertEqual((entry.start, entry.size),
                         (function.start, function.end - function.start))

    def test_a_function_from_a_map_gets_a_place_with_room(self):
        run = self.run_python("""\
            import sys
            def function(): pass
            function()
            sys.activate_stack_trampoline('perf_jit')
            function()
            function()
            """, mode='perf')
        [entry] = [entry for entry in parsers.read_map(run.pid)
                   if entry.name == self.script_name('function')]
        first, second = [f for f in self.read(run).functions()
                         if f.load.name == self.script_name('function')]
        # Frames on stacks may return to the first one still.
        self.assertEqual(first.start, entry.start)
        self.assertIsNone(first.unwinding)
        self.assertNotEqual(second.start, entry.start)
        self.assertIsNotNone(second.unwinding)

    def test_places_in_a_map_are_side_by_side(self):
        run = self.run_python("""\
            for i in range(50):
                exec(f'def f{i}(): pass\\nf{i}()')
            """, mode='perf')
        starts = sorted(entry.start for entry in parsers.read_map(run.pid)
                        if entry.name.endswith(':<string>'))
        self.assertGreaterEqual(len(starts), 50)
        self.assertLess(starts[-1] - starts[0], 128 * len(starts))

    def test_activated_again_the_dump_is_continued(self):
        for between in ('sys.deactivate_stack_trampoline()',
                        'sys.activate_stack_trampoline("perf")',
                        'sys.activate_stack_trampoline("perf_jit")'):
            with self.subTest(between=between):
                run = self.run_python(f"""\
                    import sys

                    def first(): pass
                    def second(): pass
                    def third(): pass

                    for function in first, second, third:
                        sys.activate_stack_trampoline('perf_jit')
                        first()
                        function()
                        {between}
                    """, mode=None)
                # There is one header, or it would not parse.  Each function is
                # there once.
                self.functions(run, 'first', 'second', 'third')

    def test_to_and_fro_each_function_is_in_each_file_once(self):
        run = self.run_python("""\
            import sys
            def function(): pass
            for i in range(5):
                sys.activate_stack_trampoline('perf_jit')
                function()
                sys.activate_stack_trampoline('perf')
                function()
            """, mode=None)
        self.functions(run, 'function')
        self.assert_once(names_in_map(run.pid), 'function')


class FunctionTests:
    """sys.activate_stack_trampoline(), deactivate and is_active."""

    def late_module(self):
        """Return the names that appear if the script itself switches profiling on."""
        return [self.script_name('<module>')] * fixtures.hands_over()

    def test_it_goes_on_and_off(self):
        run = self.run_python("""\
            import sys

            def tell():
                print(sys.is_stack_trampoline_active())

            tell()
            print(sys.activate_stack_trampoline('@MODE@'))
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
            sys.activate_stack_trampoline('@MODE@')
            during()
            sys.deactivate_stack_trampoline()
            after()
            """, mode=None)
        self.assertEqual(run.names, [*self.late_module(),
                                     self.script_name('during')])
        self.assertFalse(os.path.lexists(self.other_file_of(run.pid)))

    def test_a_function_called_again_while_on_appears(self):
        run = self.run_python("""\
            import sys

            def function(): pass

            for i in range(50):
                function()
            sys.activate_stack_trampoline('@MODE@')
            function()
            """, mode=None)
        self.assert_written(run, 'function')

    def test_the_file_is_continued_when_it_is_on_again(self):
        run = self.run_python("""\
            import sys

            def first(): pass
            def second(): pass

            sys.activate_stack_trampoline('@MODE@')
            first()
            sys.deactivate_stack_trampoline()
            first()
            sys.activate_stack_trampoline('@MODE@')
            first()
            second()
            """, mode=None)
        self.assertEqual(run.names, [*self.late_module(),
                                     self.script_name('first'),
                                     self.script_name('second')])
        self.assert_good_entries(run.entries)

    def test_activating_twice_is_accepted(self):
        run = self.run_python("""\
            import sys

            def function(): pass

            for i in range(1000):
                sys.activate_stack_trampoline('@MODE@')
            function()
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'True\n')
        self.assertEqual(run.names, [*self.late_module(),
                                     self.script_name('function')])

    def test_deactivating_twice_is_accepted(self):
        run = self.run_python("""\
            import sys
            sys.deactivate_stack_trampoline()
            sys.activate_stack_trampoline('@MODE@')
            print(sys.is_stack_trampoline_active())
            sys.deactivate_stack_trampoline()
            sys.deactivate_stack_trampoline()
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'True\nFalse\n')

    def test_it_can_go_on_and_off_a_thousand_times(self):
        # CPython has only 255 indices for extra data of code objects.
        run = self.run_python("""\
            import sys

            def function(): pass

            for i in range(1000):
                sys.activate_stack_trampoline('@MODE@')
                function()
                sys.deactivate_stack_trampoline()
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'False\n')
        self.assertEqual(run.names, [*self.late_module(),
                                     self.script_name('function')])

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
        self.assert_written(run, 'outer')

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
        # It runs the functions, and they appear.
        import_helper.import_module('_testinternalcapi')
        run = self.run_python("""\
            import sys
            import _testinternalcapi

            def before(): pass
            def function(): pass
            def after(): pass
            def again(): pass

            is_active = sys.is_stack_trampoline_active
            calls = []
            _testinternalcapi.set_eval_frame_record(calls)
            before()
            sys.activate_stack_trampoline('@MODE@')
            active = [is_active()]
            function()
            active.append(is_active())
            _testinternalcapi.set_eval_frame_default()
            active.append(is_active())
            after()
            sys.activate_stack_trampoline('@MODE@')
            active.append(is_active())
            again()
            print(calls, active)
            """, mode=None)
        self.assertEqual(run.out, "['before', 'function'] "
                                  "[True, True, False, True]\n")
        self.assertEqual(run.names, [self.script_name('function'),
                                     *self.late_module(),
                                     self.script_name('again')])

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


class MapFunctionTests(FunctionTests, MapMode):
    pass


class JitdumpFunctionTests(FunctionTests, JitdumpMode):
    pass


if __name__ == '__main__':
    unittest.main()
