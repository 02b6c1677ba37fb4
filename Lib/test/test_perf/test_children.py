"""Interpreters that a profiled one starts: what they inherit of its options."""

import textwrap
import unittest

from test.test_perf import fixtures
from test.test_perf.modes import MODES, names_of


def setUpModule():
    fixtures.require_trampoline()


class ArgumentsTests(fixtures.PerfTestCase):
    """The options that subprocess and test.support hand on."""

    PROGRAM = """\
        import subprocess, sys
        from test import support
        arguments = subprocess._args_from_interpreter_flags()
        assert support.args_from_interpreter_flags() == arguments
        # Tests have -B in the environment.
        print([argument for argument in arguments if argument != '-B'])
        """

    def arguments(self, *options, program=PROGRAM, **rest):
        run = self.run_python(program, mode=None, options=options, **rest)
        return run.out.strip()

    def test_options_are_handed_on_as_they_were_given(self):
        for value in ('perf', 'perf=1', 'perf=0',
                      'perf_jit', 'perf_jit=1', 'perf_jit=0'):
            with self.subTest(value=value):
                self.assertEqual(self.arguments('-X', value),
                                 repr(['-X', value]))

    def test_both_options_are_handed_on(self):
        self.assertEqual(self.arguments('-Xperf=0', '-Xperf_jit'),
                         repr(['-X', 'perf=0', '-X', 'perf_jit']))

    def test_the_last_of_several_is_handed_on(self):
        self.assertEqual(self.arguments('-Xperf', '-Xperf=0'),
                         repr(['-X', 'perf=0']))

    def test_they_are_handed_on_with_other_options(self):
        self.assertEqual(
            self.arguments('-I', '-X', 'utf8', '-X', 'perf'),
            repr(['-I', '-X', 'perf', '-X', 'utf8']))

    def test_without_them_nothing_is_handed_on(self):
        self.assertEqual(self.arguments(env={'PYTHONPERFSUPPORT': '1'}), '[]')
        self.assertEqual(
            self.arguments(program='import sys\n'
                                   'sys.activate_stack_trampoline("perf")\n'
                                   + textwrap.dedent(self.PROGRAM)), '[]')


class InheritanceTests(fixtures.PerfTestCase):
    """Workers of multiprocessing and concurrent.futures."""

    PROGRAM = """\
        import concurrent.futures, multiprocessing, os, sys
        from multiprocessing import forkserver, resource_tracker

        def work(number):
            return os.getpid(), sys.is_stack_trampoline_active()

        def main(method, way):
            if way == 'activated':
                sys.activate_stack_trampoline('perf')
            context = multiprocessing.get_context(method)
            if way == 'executor':
                with concurrent.futures.ProcessPoolExecutor(
                        1, mp_context=context) as executor:
                    results = list(executor.map(work, range(3)))
            else:
                with context.Pool(1) as pool:
                    results = pool.map(work, range(3))
            [(pid, is_active)] = set(results)
            print(pid, is_active)
            # They leave files too.
            print(resource_tracker._resource_tracker._pid or '',
                  forkserver._forkserver._forkserver_pid or '')

        if __name__ == '__main__':
            main(*sys.argv[1:])
        """

    def worker(self, mode, method, way='pool', **options):
        """Return the worker's pid and whether it was profiled."""
        run = self.run_python(self.PROGRAM, mode, args=[method, way], **options)
        worker, others = run.out.splitlines()
        pid, is_active = worker.split()
        for other in [pid, *others.split()]:
            self.track(other)
        self.assertEqual(run.err, '')
        return int(pid), is_active == 'True'

    def assert_inherited(self, method, way='pool'):
        for mode in MODES:
            with self.subTest(mode=mode):
                pid, is_active = self.worker(mode, method, way)
                self.assertTrue(is_active)
                self.assert_once(names_of(mode, pid), 'work')

    def test_spawn(self):
        self.assert_inherited('spawn')

    def test_forkserver(self):
        self.assert_inherited('forkserver')

    def test_fork(self):
        self.assert_inherited('fork')

    def test_executor_that_spawns(self):
        self.assert_inherited('spawn', 'executor')

    def test_executor_with_a_forkserver(self):
        self.assert_inherited('forkserver', 'executor')

    def test_an_option_that_switches_off_is_inherited(self):
        for method in 'spawn', 'forkserver':
            for mode, variable in zip(MODES, fixtures.SWITCHES):
                with self.subTest(method=method, mode=mode):
                    pid, is_active = self.worker(f'{mode}=0', method,
                                                 env={variable: '1'})
                    self.assertFalse(is_active)

    def test_the_environment_is_inherited(self):
        for method in 'spawn', 'forkserver':
            with self.subTest(method=method):
                pid, is_active = self.worker(None, method,
                                             env={'PYTHONPERFSUPPORT': '1'})
                self.assertTrue(is_active)
                self.assert_once(names_of('perf', pid), 'work')

    def test_activation_by_the_program_is_not_inherited(self):
        for method in 'spawn', 'forkserver':
            with self.subTest(method=method):
                self.assertFalse(self.worker(None, method, 'activated')[1])


if __name__ == '__main__':
    unittest.main()
