"""The values that -X perf and the environment variables take: lines and calls."""

import unittest

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.modes import MODES, VARIABLES
from test.test_perf.programs import TELL

# Each value with PyConfig.perf_profiling for the first of MODES.
VALUES = {'calls': 5, 'lines': 9}


def setUpModule():
    fixtures.require_trampoline()


class RequestTests(fixtures.PerfTestCase):

    CONFIG = """\
        import _testinternalcapi
        print(_testinternalcapi.get_config()['perf_profiling'])
        """

    def test_on_the_command_line_and_in_the_environment(self):
        for value, first in VALUES.items():
            for number, mode in enumerate(MODES, first):
                for options in ({'mode': f'{mode}={value}'},
                                {'mode': None, 'env': {VARIABLES[mode]: value}}):
                    with self.subTest(**options):
                        self.assertEqual(self.run_python(self.CONFIG, **options).out,
                                         f'{number}\n')
                        self.assertEqual(self.run_python(TELL, **options).out,
                                         'True\n')

    def test_the_last_option_counts(self):
        for value, number in VALUES.items():
            run = self.run_python(self.CONFIG, f'perf={value}', options=['-X', 'perf'])
            self.assertEqual(run.out, '1\n')
            run = self.run_python(self.CONFIG, 'perf', options=['-X', f'perf={value}'])
            self.assertEqual(run.out, f'{number}\n')

    def test_an_unknown_value_on_the_command_line(self):
        for mode in MODES:
            for value in ('call', 'line', 'lines,calls', ' lines', 'LINES', ''):
                with self.subTest(mode=mode, value=value):
                    run = self.run_python(TELL, f'{mode}={value}', returncode=None)
                    self.assertGreater(run.returncode, 0)
                    self.assertEqual(run.out, '')
                    for known in ('1', *VALUES, '0'):
                        self.assertIn(f'-X {mode}={known}', run.err)

    def test_an_unknown_value_in_the_environment(self):
        # The program runs.
        for variable in VARIABLES.values():
            for value in ('call', '2', 'true', 'calls ', 'line', 'lines,calls'):
                with self.subTest(variable=variable, value=value):
                    run = self.run_python(TELL, None, env={variable: value})
                    self.assertEqual(run.out, 'False\n')
                    self.assertEqual(
                        run.err, f'python: perf profiling is off: cannot read {variable}: '
                                 'unknown value, expected 1, lines, calls or 0\n')

    def test_an_unknown_value_and_the_other_variable(self):
        # Profiling is off, as the line says, and there is only one line.
        for unknown, other in (VARIABLES.values(), reversed(VARIABLES.values())):
            for value in ('1', 'calls', 'lines', 'call'):
                with self.subTest(unknown=unknown, value=value):
                    run = self.run_python(TELL, None, env={unknown: 'call', other: value})
                    self.assertEqual(run.out, 'False\n')
                    self.assert_one_warning(run, 'unknown value')
                    self.assertFalse(run.has_map)

    def test_an_option_and_an_unknown_value_in_the_environment(self):
        # Variables are not read then.
        for mode in MODES:
            run = self.run_python(TELL, mode, env=dict.fromkeys(VARIABLES.values(), 'call'))
            self.assertEqual((run.out, run.err), ('True\n', ''))

    def test_of_an_embedding_program(self):
        import_helper.import_module('_testinternalcapi')
        for number in (3, 4, 7, 8, 12, 13, 14, 16, 17):
            run = self.run_python(f"""\
                from _testinternalcapi import get_config, set_config
                config = get_config()
                config['perf_profiling'] = {number}
                try:
                    set_config(config)
                except Exception as error:
                    print(type(error).__name__, error)
                """, None)
            self.assertIn('PyConfig.perf_profiling: expected 0, 1, 2, 5, 6, 9 or 10',
                          run.out)

    def test_at_run_time(self):
        run = self.run_python("""\
            import sys
            for arguments in ((), (1,), ('perf', True), ('perf', 1, 2)):
                try:
                    sys.activate_stack_trampoline(*arguments)
                except TypeError:
                    print('TypeError')
            for keywords in ({'call': True}, {'line': True}, {'backend': 'perf'}):
                try:
                    sys.activate_stack_trampoline('perf', **keywords)
                except TypeError:
                    print('TypeError')
            try:
                sys.activate_stack_trampoline('perf', lines=True, calls=True)
            except ValueError as error:
                print(error)
            print(sys.is_stack_trampoline_active())
            sys.activate_stack_trampoline('perf', calls=True)
            sys.activate_stack_trampoline('perf', lines=True)
            print(sys.is_stack_trampoline_active())
            """, None)
        self.assertEqual(run.out, 'TypeError\n' * 7
                         + 'lines and calls exclude each other\nFalse\nTrue\n')

    def test_child_processes_inherit_it(self):
        for value in VALUES:
            for mode in MODES:
                run = self.run_python("""\
                    import subprocess, sys
                    print(subprocess._args_from_interpreter_flags())
                    """, f'{mode}={value}')
                self.assertIn(f"'-X', '{mode}={value}'", run.out)


if __name__ == '__main__':
    unittest.main()
