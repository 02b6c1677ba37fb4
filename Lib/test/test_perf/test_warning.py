"""The one line on standard error that says why profiling is off."""

import os
import unittest

from test.test_perf import fixtures
from test.test_perf.modes import JitdumpMode, MapMode
from test.test_perf.programs import PROGRAM


def setUpModule():
    fixtures.require_trampoline()


class StandardErrorTests:
    """The warning when standard error is closed, full or replaced."""

    def test_stderr_may_be_closed(self):
        for prepare in ('mkdir "$FILE"', 'true'):
            with self.subTest(prepare=prepare):
                run = self.run_on_and_off("""\
                    import os, sys
                    def function(): return os.open('/dev/null', os.O_RDONLY)
                    print(function(), function())
                    sys.exit(3)
                    """, returncode=3, prepare=f'{prepare}; exec 2>&-',
                    silent=True)
                self.assertEqual(run.err, '')

    def test_all_three_may_be_closed(self):
        script = """\
            import os, sys
            def function(): return os.open('/dev/null', os.O_RDONLY)
            with open(sys.argv[1], 'w') as file:
                print(function(), function(), file=file)
            sys.exit(3)
            """
        written = []
        for mode in (self.mode, None):
            self.run_python(
                script, mode, returncode=3, args=[self.path('out')],
                prepare='mkdir "$FILE"; exec <&- >&- 2>&-')
            with open(self.path('out')) as file:
                written.append(file.read())
        self.assertEqual(written[0], written[1])

    def test_a_file_that_took_its_number_gets_no_warning(self):
        run = self.run_python("""\
            import os, sys
            path = sys.argv[1]
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
            while descriptor < 2:
                descriptor = os.dup(descriptor)
            os.dup2(descriptor, 2)
            os.mkdir(f'@FILE@')
            sys.activate_stack_trampoline('@MODE@')
            os.write(2, b'own data')
            with open(path) as file:
                print(file.read())
            """, mode=None, args=[self.path('own')], prepare='exec 2>&-')
        self.assertEqual(run.out, 'own data\n')

    def test_stderr_may_be_full(self):
        self.run_on_and_off(PROGRAM, returncode=3, silent=True,
                            prepare='mkdir "$FILE"; exec 2>/dev/full')

    def test_stderr_may_be_a_pipe_without_a_reader(self):
        read, write = os.pipe()
        os.close(read)
        self.addCleanup(os.close, write)
        self.run_on_and_off(PROGRAM, returncode=3, prepare='mkdir "$FILE"',
                            stderr=write, silent=True)

    def test_a_pipe_without_a_reader_does_not_kill_by_a_signal(self):
        read, write = os.pipe()
        os.close(read)
        self.addCleanup(os.close, write)
        self.run_on_and_off("""\
            import os, signal, sys
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            path = f'@FILE@'
            if os.path.exists(path):
                os.unlink(path)
            os.mkdir(path)
            sys.deactivate_stack_trampoline()
            sys.activate_stack_trampoline('@MODE@')
            print(sys.is_stack_trampoline_active())
            print(signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL)
            print(signal.sigpending())
            """, stderr=write, silent=True)

    def test_a_sys_stderr_that_raises_does_no_harm(self):
        self.run_on_and_off("""\
            import os, sys

            class Raising:
                def write(self, text):
                    raise RuntimeError('on purpose')
                flush = write

            original = sys.stderr
            sys.stderr = Raising()
            path = f'@FILE@'
            if os.path.exists(path):
                os.unlink(path)
            os.mkdir(path)
            os.closerange(3, 20_000)    # so that it is opened again
            exec('def late(): return "late"\\nprint(late())')
            sys.stderr = original
            """)

    def test_the_warning_is_no_python_warning(self):
        run = self.run_on_and_off(PROGRAM, returncode=3,
                                  options=['-W', 'error'],
                                  prepare='mkdir "$FILE"')
        self.assert_one_warning(run)


class MapStandardErrorTests(StandardErrorTests, MapMode):
    pass


class JitdumpStandardErrorTests(StandardErrorTests, JitdumpMode):
    pass


if __name__ == '__main__':
    unittest.main()
