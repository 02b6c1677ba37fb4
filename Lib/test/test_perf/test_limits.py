"""Limits on descriptors, memory and file sizes; no executable memory."""

import errno
import os
import sys
import unittest
from textwrap import dedent

from test.support import import_helper
from test.test_perf import fixtures, parsers
from test.test_perf.modes import JitdumpMode, MapMode, dump_path
from test.test_perf.parsers import names_in_map
from test.test_perf.programs import FORBID_EXECUTABLE_MEMORY, MARKER, PROGRAM


def setUpModule():
    fixtures.require_trampoline()


class LimitTests:
    """Limits of the process."""

    def test_descriptors_used_up(self):
        run = self.run_python("""\
            import errno, os, resource, sys

            def late(): pass

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            used = []
            try:
                while True:
                    used.append(os.open('/dev/null', os.O_RDONLY))
            except OSError as error:
                assert error.errno == errno.EMFILE
            sys.activate_stack_trampoline('@MODE@')
            print(sys.is_stack_trampoline_active())
            for descriptor in used:
                os.close(descriptor)
            sys.activate_stack_trampoline('@MODE@')
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None)
        self.assertEqual(run.out, 'False\nTrue\n')
        self.assert_one_warning(run, 'cannot open', run.file,
                                os.strerror(errno.EMFILE))
        self.assert_written(run, 'late')

    @fixtures.requires_the_kernel
    def test_a_limit_on_memory(self):
        run = self.run_python("""\
            import re, resource, sys

            def late(): pass

            unlimited = resource.getrlimit(resource.RLIMIT_AS)
            with open('/proc/self/status') as file:
                status = file.read()
            size = int(re.search(r'VmSize:\\s*(\\d+) kB', status)[1]) << 10
            resource.setrlimit(resource.RLIMIT_AS, (size, unlimited[1]))
            sys.activate_stack_trampoline('@MODE@')
            late()
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
            print(sys.is_stack_trampoline_active())
            sys.activate_stack_trampoline('@MODE@')
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None)
        self.assertEqual(run.out, 'False\nTrue\n')
        self.assert_one_warning(run, os.strerror(errno.ENOMEM))
        self.assert_written(run, 'late')

    def test_descriptors_used_up_after_the_file_was_opened(self):
        run = self.run_on_and_off("""\
            import os, resource

            def late(): pass

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            used = []
            try:
                while True:
                    used.append(os.open('/dev/null', os.O_RDONLY))
            except OSError:
                pass
            print(len(used))
            late()
            """)
        self.assert_written(run, 'late')
        self.assertEqual(run.err, '')

    def test_descriptors_used_up_after_the_file_was_closed(self):
        run = self.run_on_and_off("""\
            import os, resource, sys

            def late(): pass

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            os.closerange(3, 70_000)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            used = []
            try:
                while True:
                    used.append(os.open('/dev/null', os.O_RDONLY))
            except OSError:
                pass
            for i in range(10):
                exec(f'def f{i}(): pass\\nf{i}()')
            print(len(used), sys.is_stack_trampoline_active())
            """)
        self.assert_one_warning(run, run.file, os.strerror(errno.EMFILE))
        self.assert_good_entries(run.entries)

    def test_a_limit_on_the_size_of_files_does_not_kill_by_a_signal(self):
        run = self.run_on_and_off("""\
            import resource, signal, time

            def before(): pass
            def after(): pass

            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            limit = (1000, unlimited[1])
            before()
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            time.sleep(0.001)       # the limit is known for 100 microseconds
            after()
            exec('def late(): pass\\nlate()')
            print('alive')
            """)
        self.assert_one_warning(run, 'cannot write', run.file)
        self.assert_written(run, 'before')
        self.assert_good_entries(run.entries)

    @fixtures.requires_the_kernel
    def test_a_limit_on_memory_that_is_reached_on_the_way(self):
        run = self.run_on_and_off("""\
            import re, resource

            functions = []
            for i in range(20_000):
                exec(f'def f{i}(): return {i}')
                functions.append(locals()[f'f{i}'])
            unlimited = resource.getrlimit(resource.RLIMIT_AS)
            with open('/proc/self/status') as file:
                status = file.read()
            size = int(re.search(r'VmSize:\\s*(\\d+) kB', status)[1]) << 10
            resource.setrlimit(resource.RLIMIT_AS, (size, unlimited[1]))
            total = 0
            for function in functions:
                total += function()
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
            print(total)
            """)
        self.assert_one_warning(run, os.strerror(errno.ENOMEM))
        self.assert_good_entries(run.entries)

    def test_a_limit_on_the_size_of_files(self):
        run = self.run_python("""\
            import os, resource, sys

            def late(): pass

            limit = int(sys.argv[1])
            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
            sys.activate_stack_trampoline('@MODE@')
            print(sys.is_stack_trampoline_active())
            for i in range(1000):
                exec(f'def function{i}(): pass\\nfunction{i}()')
            print(sys.is_stack_trampoline_active())
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            with open(f'@FILE@', 'rb') as file, open(sys.argv[2], 'wb') as copy:
                copy.write(file.read())
            sys.activate_stack_trampoline('@MODE@')
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None, args=[str(self.limit), self.path('copy')])
        self.assertEqual(run.out, 'True\nFalse\nTrue\n')
        self.assert_one_warning(run, 'cannot write', run.file,
                                os.strerror(errno.EFBIG))
        # It stopped at the last entry that fitted.
        size = os.path.getsize(self.path('copy'))
        self.assertLessEqual(size, self.limit)
        self.assertGreater(size, self.limit - 2 * self.largest_entry)
        # The entries from before are still there.
        before = self.read_file(self.path('copy'), run.pid)
        self.assertGreater(len(before), 3)
        self.assertEqual(run.entries[:len(before)], before)
        self.assert_good_entries(run.entries)
        self.assert_written(run, 'late')

    def test_a_limit_on_the_size_of_files_from_the_start(self):
        for blocks in (0, 1, 2, 10):
            with self.subTest(blocks=blocks):
                # The map exceeds two blocks, the jitdump ten.
                program = PROGRAM.replace('range(100)', 'range(1000)')
                run = self.run_on_and_off(program, returncode=3,
                                          prepare=f'ulimit -f {blocks}')
                self.assertEqual(run.out, '20\nFalse\n')
                self.assert_one_warning(run, 'cannot write', run.file,
                                        os.strerror(errno.EFBIG))
                self.assert_cut_file(run, blocks)


class MapLimitTests(LimitTests, MapMode):

    limit = 1000

    def assert_cut_file(self, run, blocks):
        """The file ends with a whole entry."""
        self.assertEqual(parsers.overlapping(run.entries), [])
        self.assertEqual(bool(run.entries), blocks > 0)


class JitdumpLimitTests(LimitTests, JitdumpMode):

    limit = 10_000

    def assert_cut_file(self, run, blocks):
        """The file ends with a whole entry, or is not there."""
        if blocks:
            self.read(run)
        else:
            self.assertFalse(run.has_file)

    def test_a_header_that_cannot_be_written_leaves_no_marker(self):
        run = self.run_python(MARKER + dedent("""\
            import resource, sys
            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (39, unlimited[1]))
            sys.activate_stack_trampoline('perf_jit')
            print(sys.is_stack_trampoline_active(), marker())
            """), mode=None)
        self.assert_one_warning(run, 'cannot write')
        self.assertEqual(run.out, 'False []\n')
        self.assertFalse(os.path.exists(dump_path(run.pid)))


class ExecutableMemoryTests:

    def setUp(self):
        super().setUp()
        import_helper.import_module('ctypes')
        self.filter = self.write_script(FORBID_EXECUTABLE_MEMORY, 'forbid.py')
        self.launcher = self.write_script("""\
            import forbid, os, sys
            forbid.forbid_executable_memory()
            os.execv(sys.argv[1], sys.argv[1:])
            """, 'launcher.py')

    def test_refused_from_the_start(self):
        runs = [self.run_command(
                    [sys.executable, self.launcher,
                     *self.python_command(PROGRAM, mode)], returncode=3)
                for mode in (self.mode, None)]
        self.assertEqual(runs[0].out, '20\nFalse\n')
        self.assertEqual(runs[1].out, runs[0].out)
        self.assertEqual(runs[1].err, '')
        self.assert_one_warning(runs[0], 'memory executable',
                                os.strerror(errno.EPERM))

    def test_refused_at_run_time(self):
        run = self.run_python("""\
            import forbid, sys

            def late(): return 'late'

            forbid.forbid_executable_memory()
            print(sys.activate_stack_trampoline('@MODE@'))
            print(late())
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'None\nlate\nFalse\n')
        self.assertFalse(run.has_file)
        self.assert_one_warning(run, 'memory executable',
                                os.strerror(errno.EPERM))

    def test_refused_when_the_first_arena_is_full(self):
        run = self.run_on_and_off("""\
            import forbid

            def early(): pass

            early()
            forbid.forbid_executable_memory()
            total = 0
            for i in range(20_000):
                exec(f'def f{i}(): return {i}\\ntotal += f{i}()')
            print(total)
            """)
        self.assert_one_warning(run, 'memory executable',
                                os.strerror(errno.EPERM))
        self.assert_written(run, 'early')
        self.assert_good_entries(run.entries)

    def test_refused_to_the_child_of_a_fork(self):
        run = self.run_python("""\
            import forbid, os

            def in_child():
                return 7

            def in_parent():
                pass

            forbid.forbid_executable_memory()
            child = os.fork()
            if not child:
                # Its new trampolines do not go into its parent's memory.
                os._exit(in_child())
            assert os.waitpid(child, 0)[1] == 7 << 8
            in_parent()
            print(child)
            """)
        self.assert_written(run, 'in_parent')
        self.track(run.out)
        self.assert_one_warning(run, 'memory executable',
                                os.strerror(errno.EPERM))


@fixtures.requires_the_kernel
@unittest.skipUnless(sys.platform == 'linux', 'seccomp is of Linux')
class MapExecutableMemoryTests(ExecutableMemoryTests, MapMode):
    pass


@fixtures.requires_the_kernel
@unittest.skipUnless(sys.platform == 'linux', 'seccomp is of Linux')
class JitdumpExecutableMemoryTests(ExecutableMemoryTests, JitdumpMode):

    # Refuses mmap() as the other module refuses mprotect(): the marker's mmap
    # fails.
    FORBID_MMAP = FORBID_EXECUTABLE_MEMORY.replace(
        "mprotect = 10 if platform.machine() == 'x86_64' else 226",
        "mprotect = 9 if platform.machine() == 'x86_64' else 222")

    def test_no_marker(self):
        self.write_script(self.FORBID_MMAP, 'forbid.py')
        run = self.run_python("""\
            import forbid, os, sys
            def late(): return 'late'
            forbid.forbid_executable_memory()
            print(sys.activate_stack_trampoline('perf_jit'))
            print(late(), sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'None\nlate False\n')
        self.assert_one_warning(run, 'cannot map')
        self.assertFalse(run.has_file)

    def test_no_marker_leaves_the_map(self):
        self.write_script(self.FORBID_MMAP, 'forbid.py')
        run = self.run_python("""\
            import forbid, sys
            def late(): pass
            forbid.forbid_executable_memory()
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None)
        self.assertEqual(run.out, 'True\n')
        self.assert_once(names_in_map(run.pid), 'late')


if __name__ == '__main__':
    unittest.main()
