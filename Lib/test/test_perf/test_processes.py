"""Processes that are executed, killed, or crash at any moment."""

import random
import signal
import subprocess
import sys
import unittest
from textwrap import dedent

from test.test_perf import fixtures, jitdump, parsers
from test.test_perf.modes import JitdumpMode, MODES, MapMode, dump_path


def setUpModule():
    fixtures.require_trampoline()


class ExecutedChildTests:
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
            """, mode=None, env={self.variable: '1'})
        child = [entry.name
                 for entry in self.read_entries(self.track(run.out))]
        self.assertIn('py::child:<string>', child)
        self.assert_none(child, 'parent')
        self.assert_written(run, 'parent')
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
                os.execv(sys.executable, [sys.executable, '-X', '@MODE@',
                                          sys.argv[0], 'again'])
            second()
            """)
        self.assert_written(run, 'second')
        self.assert_none(run.names, 'first')
        self.assert_good_entries(run.entries)


class MapExecutedChildTests(ExecutedChildTests, MapMode):
    pass


class JitdumpExecutedChildTests(ExecutedChildTests, JitdumpMode):
    pass


class DyingTests:
    """The file of a process that dies has all functions that it called."""

    CALL_MANY = dedent("""\
        import os, signal, sys

        def announce(first, last):
            for i in range(first, last):
                exec(compile(f'def f{i}(): pass\\nf{i}()', '/made', 'exec'))

        announce(0, 500)
        """)

    def assert_all(self, run):
        self.assert_good_entries(run.entries)
        self.assertEqual([name for name in run.names
                          if name.startswith('py::f')
                          and name.endswith(':/made')],
                         [f'py::f{i}:/made' for i in range(500)])

    def test_nothing_is_lost_by_a_kill(self):
        self.assert_all(self.run_python(
            self.CALL_MANY + 'os.kill(os.getpid(), signal.SIGKILL)',
            returncode=-signal.SIGKILL))

    def test_nothing_is_lost_by_an_exit_without_finalization(self):
        self.assert_all(self.run_python(self.CALL_MANY
                                     + 'os._exit(3)', returncode=3))

    def test_nothing_is_lost_by_an_abort(self):
        self.assert_all(self.run_python(
            self.CALL_MANY + 'os.abort()',
            returncode=-signal.SIGABRT, prepare='ulimit -c 0'))

    def test_nothing_is_lost_by_another_program(self):
        self.assert_all(self.run_python(
            self.CALL_MANY + "os.execv('/bin/true', ['true'])"))

    def test_the_last_function_is_not_lost_by_a_kill(self):
        run = self.run_python("""\
            import os, signal
            def last(): os.kill(os.getpid(), signal.SIGKILL)
            last()
            """, returncode=-signal.SIGKILL)
        self.assertEqual(run.names[-1], self.script_name('last'))
        self.assert_good_entries(run.entries)


class MapDyingTests(DyingTests, MapMode):
    pass


class JitdumpDyingTests(DyingTests, JitdumpMode):

    def test_a_kill_at_any_time_costs_the_last_record_at_most(self):
        command = self.python_command(self.CALL_MANY + dedent("""\
            print(flush=True)
            while True:
                announce(0, 100)
            """), 'perf_jit')
        with subprocess.Popen(command, stdout=subprocess.PIPE,
                              env=fixtures.clean_environment()) as child:
            self.track(child.pid)
            child.stdout.readline()
            child.kill()
        dump = jitdump.read(dump_path(child.pid))
        self.assertGreaterEqual(len(dump.functions()), 500)
        self.assert_good_dump(dump, child.pid)


class SuddenDeathTests(fixtures.PerfTestCase):
    """A process dies at a moment that a seed chooses."""

    # Prints the name of each function after its call, and then dies.
    PROGRAM = """\
        import os, signal, sys, threading

        way, moment, threads = sys.argv[1], *map(int, sys.argv[2:])

        def work(thread):
            for i in range(1_000_000):
                name = f't{thread}_{"x" * (i * 37 % 900)}{i}'
                exec(compile(f'def {name}(): pass\\n{name}()', '/made',
                             'exec'))
                os.write(1, f'{name}\\n'.encode())
                if i == moment:
                    die()

        def die():
            if way == '_exit':
                os._exit(3)
            elif way == 'abort':
                os.abort()
            elif way == 'kill':
                os.kill(os.getpid(), signal.SIGKILL)
            elif way == 'exec':
                os.execv('/bin/true', ['true'])

        for thread in range(1, threads):
            threading.Thread(target=work, args=(thread,), daemon=True).start()
        work(0)
        """

    STATUS = {'_exit': 3, 'abort': -signal.SIGABRT, 'kill': -signal.SIGKILL,
              'exec': 0, 'killed': -signal.SIGKILL}

    def die(self, mode, way, moment, threads):
        """Let a process die. Its file has all names that it printed."""
        command = [sys.executable, '-X', mode, self.script, way, str(moment),
                   str(threads)]
        with subprocess.Popen(
                command, env=fixtures.clean_environment(),
                stdout=subprocess.PIPE,
                preexec_fn=no_core) as child:
            self.track(child.pid)
            told = []
            if way == 'killed':     # by another process, at any instruction
                for _ in range(moment):
                    told.append(child.stdout.readline())
                child.kill()
            told += child.stdout.read().splitlines()
            child.wait(fixtures.TIMEOUT)
        self.assertEqual(child.returncode, self.STATUS[way])
        names = self.names_of_dead(mode, child.pid)
        wanted = {f'py::{name.decode().strip()}:/made' for name in told}
        self.assertGreaterEqual(len(wanted), moment)
        self.assertEqual(wanted - names, set())

    def names_of_dead(self, mode, pid):
        """Return the names.  Only an entry that was not printed may be
        partial.
        """
        if mode == 'perf':
            with open(parsers.map_path(pid), 'rb') as file:
                whole, newline, rest = file.read().rpartition(b'\n')
            entries = parsers.parse_map(whole + newline)
            self.assertEqual(parsers.overlapping(entries), [])
            return {entry.name for entry in entries}
        dump = jitdump.read(f'/tmp/jit-{pid}.dump')
        return {function.load.name for function in dump.functions()}

    def check_way(self, way, times=12):
        self.script = self.write_script(self.PROGRAM)
        for mode in MODES:
            choice = random.Random(f'{mode} {way}')
            for _ in range(times):
                moment = choice.randrange(1, 400)
                threads = choice.choice([1, 1, 4])
                with self.subTest(mode=mode, moment=moment, threads=threads):
                    self.die(mode, way, moment, threads)

    def test_exit_without_finalization(self):
        self.check_way('_exit')

    def test_abort(self):
        self.check_way('abort')

    def test_a_kill_of_its_own(self):
        self.check_way('kill')

    def test_a_kill_by_another_process(self):
        self.check_way('killed', times=40)

    def test_another_program_in_its_place(self):
        self.check_way('exec')


def no_core():
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == '__main__':
    unittest.main()
