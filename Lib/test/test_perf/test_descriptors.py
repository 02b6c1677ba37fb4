"""The descriptor of our file, in programs that close or use all descriptors.
"""

import os
import unittest

from test.test_perf import fixtures
from test.test_perf.modes import JitdumpMode, MapMode


# Our descriptor is below the limit, so that programs can take its number.
WITHIN_REACH = 'ulimit -n 1024'

NUMBERS = """\
            import os

            def numbers_of(path):
                return [int(fd) for fd in os.listdir('/proc/self/fd')
                        if os.path.exists(f'/proc/self/fd/{fd}')
                        and os.readlink(f'/proc/self/fd/{fd}') == path]
"""


def setUpModule():
    fixtures.require_trampoline()


class DescriptorTests:
    """Programs that close or take over every descriptor."""

    def test_closing_all_descriptors_costs_nothing(self):
        run = self.run_on_and_off("""\
            import os

            def before(): pass
            def after(): pass
            def again(): pass

            before()
            os.closerange(3, 20_000)
            after()
            os.closerange(3, 20_000)
            exec('def late(): pass\\nlate()')
            again()
            print('done')
            """)
        self.assert_written(run, 'before', 'after', 'again')
        self.assertIn('py::late:<string>', run.names)
        self.assertEqual(run.err, '')
        self.assert_good_entries(run.entries)

    def test_a_file_with_its_number_is_not_written(self):
        run = self.run_on_and_off("""\
            import os, sys

            def after(): pass

            os.closerange(3, 20_000)
            own = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            while own < 1000:
                own = os.dup(own)
            for i in range(1000):
                exec(f'def f{i}(): pass\\nf{i}()')
            after()
            print(os.fstat(own).st_size)
            """, args=[self.path('own')], prepare=WITHIN_REACH)
        self.assertEqual(run.out, '0\n')
        self.assert_written(run, 'after')

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
            """, args=[self.path('own')], prepare=WITHIN_REACH)
        self.assertEqual(run.out, 'own data\n')
        self.assert_written(run, 'after')
        self.assert_good_entries(run.entries)

    def test_a_file_opened_in_its_place_is_left_alone(self):
        run = self.run_python(NUMBERS + """\
            import os, sys

            def before(): pass
            def after(): pass

            before()
            [number] = numbers_of(f'@FILE@')
            print(number)
            own = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
            os.dup2(own, number)
            after()
            os.write(number, b'own data')
            print(os.pread(own, 1000, 0))
            """, args=[self.path('own')], prepare=WITHIN_REACH)
        number, data = run.out.splitlines()
        self.assertEqual(data, "b'own data'")
        self.assertGreaterEqual(int(number), 512)
        self.assert_written(run, 'before', 'after')

    def test_a_file_put_in_its_place_between_two_lines_is_left_alone(self):
        run = self.run_python(NUMBERS + """\
            import os, sys

            def before(): pass
            def after(): pass

            [number] = numbers_of(f'@FILE@')
            own = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
            before()
            os.dup2(own, number)
            after()
            print(os.pread(own, 1000, 0))
            """, args=[self.path('own')], prepare=WITHIN_REACH)
        self.assertEqual(run.out, "b''\n")
        self.assert_written(run, 'after')

    def test_a_small_limit_on_descriptors_will_do(self):
        run = self.run_on_and_off("""\
            import os
            def function(): pass
            function()
            print(os.open('/dev/null', os.O_RDONLY))
            """, prepare='ulimit -n 16')
        self.assert_written(run, 'function')
        self.assertEqual(run.err, '')

    def test_no_number_below_the_limit_is_taken(self):
        run = self.run_on_and_off("""\
            import os, resource
            def function(): pass
            function()
            limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            for number in range(limit):
                try:
                    os.fstat(number)
                except OSError:
                    continue
                print(number)
            print(limit, hard)
            """, prepare='ulimit -S -n 1000')
        self.assert_written(run, 'function')

    def test_it_is_high_if_there_are_threads(self):
        # They might see that the limit is raised for a moment.
        run = self.run_python(NUMBERS + """\
            import _thread, sys, time
            _thread.start_new_thread(time.sleep, (60,))
            sys.activate_stack_trampoline('@MODE@')
            print(*numbers_of(f'@FILE@'))
            """, mode=None, prepare='ulimit -S -n 1000')
        self.assertEqual(run.out, '512\n')

    def test_it_is_in_the_last_quarter_of_a_lower_limit(self):
        run = self.run_python(NUMBERS + """\
            print(*numbers_of(f'@FILE@'))
            """, prepare='ulimit -n 100')
        self.assertEqual(run.out, '75\n')

    def test_a_program_that_is_executed_does_not_inherit_it(self):
        run = self.run_python("""\
            import subprocess
            subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False)
            """)
        self.assertIn('/proc/', run.out)
        self.assertNotIn(run.file, run.out)
        self.assertTrue(run.has_file)


class MapDescriptorTests(DescriptorTests, MapMode):
    pass


class JitdumpDescriptorTests(DescriptorTests, JitdumpMode):
    pass


if __name__ == '__main__':
    unittest.main()
