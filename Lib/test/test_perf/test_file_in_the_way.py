"""Our file cannot be opened: the name is taken, or JITDUMPDIR cannot be used.
"""

import errno
import os
import stat
import sys
import unittest
from textwrap import dedent

from test.test_perf import fixtures
from test.test_perf.modes import JitdumpMode, MapMode, dump_path
from test.test_perf.parsers import names_in_map
from test.test_perf.programs import FORK, MARKER, PROGRAM, TELL


def setUpModule():
    fixtures.require_trampoline()


class FileInTheWayTests:
    """Something else has the name of our file."""

    def run_refused(self, prepare, reason=''):
        """Run PROGRAM with this in the way.  It does what it does without
        profiling, and one warning names the file and the reason.
        """
        run = self.run_on_and_off(PROGRAM, returncode=3, prepare=prepare)
        self.assertEqual(run.out, '20\nFalse\n')
        self.assert_one_warning(run, 'cannot open', f' {run.file}: ', reason)
        self.assertFalse(os.path.lexists(self.other_file_of(run.pid)))
        return run

    def test_a_symbolic_link_is_not_followed(self):
        self.run_refused(f'ln -s {self.make_target()} "$FILE"',
                         'symbolic link')
        self.assert_target_untouched()

    def test_a_dangling_symbolic_link_is_not_followed(self):
        self.run_refused(f'ln -s {self.path("nothing")} "$FILE"',
                         'symbolic link')
        self.assertFalse(os.path.exists(self.path('nothing')))

    def test_a_directory_is_left_alone(self):
        run = self.run_refused('mkdir "$FILE"')
        self.assertEqual(os.listdir(run.file), [])

    def test_a_fifo_is_left_alone(self):
        run = self.run_refused('mkfifo "$FILE"')
        self.assertTrue(stat.S_ISFIFO(os.stat(run.file).st_mode))

    @fixtures.requires_root
    def test_a_device_is_left_alone(self):
        run = self.run_refused('mknod "$FILE" c 1 3')
        self.assertTrue(stat.S_ISCHR(os.stat(run.file).st_mode))

    @fixtures.requires_root
    def test_a_device_that_is_a_disk_is_left_alone(self):
        # A disk that does not exist.
        run = self.run_refused('mknod "$FILE" b 259 1048575')
        self.assertTrue(stat.S_ISBLK(os.stat(run.file).st_mode))

    def test_a_socket_is_left_alone(self):
        bind = self.write_script("""\
            import socket, sys
            socket.socket(socket.AF_UNIX).bind(sys.argv[1])
            """, 'bind.py')
        run = self.run_refused(f'{sys.executable} {bind} "$FILE"')
        self.assertTrue(stat.S_ISSOCK(os.stat(run.file).st_mode))

    @fixtures.requires_root
    def test_another_users_file_is_left_alone(self):
        run = self.run_refused(
            'F="$FILE"; '
            'echo theirs >"$F"; chmod 666 "$F"; chown 12345 "$F"',
            'another user')
        status = os.stat(run.file)
        self.assertEqual(status.st_uid, 12345)
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o666)
        with open(run.file) as file:
            self.assertEqual(file.read(), 'theirs\n')

    def test_a_file_with_another_name_is_left_alone(self):
        target = self.make_target()
        if os.stat(self.directory).st_dev != os.stat('/tmp').st_dev:
            self.skipTest('needs a file on the file system of /tmp')
        self.run_refused(f'ln {target} "$FILE"', 'link')
        self.assert_target_untouched()

    def test_it_can_be_activated_when_the_way_is_clear(self):
        for command, clear in (('ln -s /', 'unlink'), ('mkdir', 'rmdir'),
                               ('mkfifo', 'unlink')):
            with self.subTest(command=command):
                run = self.run_python(f"""\
                    import os, sys

                    def late(): pass

                    print(sys.is_stack_trampoline_active())
                    os.{clear}(f'@FILE@')
                    sys.activate_stack_trampoline('@MODE@')
                    print(sys.is_stack_trampoline_active())
                    late()
                    """, prepare=f'{command} "$FILE"')
                self.assertEqual(run.out, 'False\nTrue\n')
                self.assert_one_warning(run)
                self.assert_written(run, 'late')

    def test_each_attempt_in_vain_leaks_nothing(self):
        run = self.run_python("""\
            import os, sys

            def count():
                with open('/proc/self/maps') as file:
                    return len(os.listdir('/proc/self/fd')), len(list(file))

            os.mkdir(f'@FILE@')
            for i in range(10):
                sys.activate_stack_trampoline('@MODE@')
            before = count()
            for i in range(1000):
                sys.activate_stack_trampoline('@MODE@')
            descriptors, mappings = count()
            print(descriptors - before[0], mappings - before[1] < 100)
            """, mode=None)
        self.assertEqual(run.out, '0 True\n')
        self.assertEqual(len(run.warnings), 1010)

    def test_the_file_may_be_deleted_while_the_program_runs(self):
        run = self.run_on_and_off("""\
            import os

            def before(): pass
            def after(): return 'after'

            before()
            try:
                os.unlink(f'@FILE@')
            except FileNotFoundError:
                pass
            print(after())
            """, silent=True)
        self.assertLessEqual(len(run.warnings), 1)

    def test_a_symbolic_link_to_itself_is_not_followed(self):
        self.run_refused('ln -s "$FILE" "$FILE"', 'symbolic link')

    def test_a_fifo_with_a_reader_gets_nothing(self):
        # The shell opens it for reading and writing and hands it on.
        self.run_refused('mkfifo "$FILE"; exec 5<>"$FILE"')

    def test_our_own_old_file_is_started_afresh(self):
        for old in 'echo "1 1 old"', 'head -c 100000 /dev/zero':
            with self.subTest(old=old):
                run = self.run_python(
                    'pass', prepare=f'{old} >"$FILE"; chmod 644 "$FILE"')
                self.assertNotIn('old', run.names)
                self.assert_good_entries(run.entries)
                self.assertEqual(stat.S_IMODE(os.stat(run.file).st_mode), 0o600)
                self.assertEqual(run.err, '')

    def test_activating_in_vain_is_no_exception(self):
        run = self.run_python("""\
            import os, sys
            os.mkdir(f'@FILE@')
            print(sys.activate_stack_trampoline('@MODE@'))
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'None\nFalse\n')
        self.assert_one_warning(run, 'cannot open', run.file)

    def test_a_link_put_in_its_place_is_not_followed(self):
        target = self.make_target()
        run = self.run_on_and_off("""\
            import os, sys

            def before(): pass
            def after(): return 'after'

            before()
            path = f'@FILE@'
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            os.symlink(sys.argv[1], path)
            print(after())
            os.closerange(3, 20_000)
            exec('def late(): return "late"\\nprint(late())')
            """, args=[target], silent=True)
        self.assert_target_untouched()
        self.assertEqual(run.out, 'after\nlate\n')


class MapInTheWayTests(FileInTheWayTests, MapMode):
    pass


class JitdumpInTheWayTests(FileInTheWayTests, JitdumpMode):

    def test_the_map_is_no_way_out_but_can_be_asked_for(self):
        run = self.run_python("""\
            import sys

            def late(): pass

            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            late()
            """, prepare='mkdir "$DUMP"')
        self.assertEqual(run.out, 'True\n')
        self.assert_one_warning(run, 'cannot open')
        self.assert_once(names_in_map(run.pid), 'late')

    def test_a_switch_from_the_map_that_fails_switches_off(self):
        run = self.run_python("""\
            import os, sys

            def before(): pass
            def after(): pass

            before()
            os.mkdir(f'/tmp/jit-{os.getpid()}.dump')
            sys.activate_stack_trampoline('perf_jit')
            print(sys.is_stack_trampoline_active())
            after()
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            """, mode='perf')
        self.assertEqual(run.out, 'False\nTrue\n')
        self.assert_one_warning(run, 'cannot open', dump_path(run.pid))
        names = names_in_map(run.pid)
        self.assert_once(names, 'before')
        self.assert_none(names, 'after')

    def test_a_dump_that_is_gone_is_made_anew(self):
        run = self.run_python(MARKER + dedent("""\
            def before(): pass
            def after(): pass

            before()
            os.unlink(f'/tmp/jit-{os.getpid()}.dump')
            os.closerange(3, 20_000)    # so that it is opened again
            exec('def late(): pass\\nlate()')
            after()
            before()
            print(len(marker()))
            """))
        # The new file is sound and has the functions called since.
        self.functions(run, 'before', 'after')
        self.assertEqual(run.out, '1\n')
        self.assertEqual(run.err, '')


class JitdumpDirectoryTests(JitdumpMode):
    """The directory in JITDUMPDIR."""

    def setUp(self):
        super().setUp()
        self.other = self.path('dumps')
        os.mkdir(self.other)

    def run_refused(self, prepare, *parts, env=None, action='cannot open',
                    directory='/tmp'):
        run = self.run_on_and_off(PROGRAM, returncode=3, prepare=prepare,
                                   env=env)
        self.assertEqual(run.out, '20\nFalse\n')
        self.assert_one_warning(run, action, *parts)
        if directory:
            self.assertIn(f' {dump_path(run.pid, directory)}: ',
                          run.warnings[0])
        self.assertFalse(run.has_map)
        return run

    def run_in(self, source=TELL, directory=None, **options):
        return self.run_python(source, env={'JITDUMPDIR': directory
                                         or self.other}, **options)

    def test_the_dump_is_written_there(self):
        run = self.run_in()
        self.functions(run, 'tell', directory=self.other)
        self.assertEqual(run.err, '')
        self.assertFalse(os.path.lexists(dump_path(run.pid)))
        self.assertEqual(os.listdir(self.other), [f'jit-{run.pid}.dump'])

    def test_the_marker_is_there(self):
        run = self.run_in(MARKER + 'print(marker())')
        [[*_, path]] = eval(run.out)
        self.assertEqual(path, dump_path(run.pid, self.other))

    def test_it_may_be_relative(self):
        run = self.run_in(directory='.', cwd=self.other)
        self.functions(run, 'tell', directory=self.other)

    def test_it_may_have_a_space_in_its_name(self):
        directory = self.path('a b')
        os.mkdir(directory)
        run = self.run_in(directory=directory)
        self.functions(run, 'tell', directory=directory)

    def test_it_may_be_a_link_to_a_directory(self):
        os.symlink(self.other, self.path('link'))
        run = self.run_in(directory=self.path('link'))
        self.functions(run, 'tell', directory=self.other)

    def test_empty_it_does_not_count(self):
        run = self.run_python(TELL, env={'JITDUMPDIR': ''})
        self.functions(run, 'tell')

    def test_the_map_does_not_go_there(self):
        run = self.run_in(mode='perf')
        self.assert_once(names_in_map(run.pid), 'tell')
        self.assertEqual(os.listdir(self.other), [])

    def test_it_is_read_when_profiling_is_switched_on(self):
        run = self.run_python("""\
            import os, sys
            def first(): pass
            def second(): pass
            first()
            sys.deactivate_stack_trampoline()
            os.environ['JITDUMPDIR'] = sys.argv[1]
            sys.activate_stack_trampoline('perf_jit')
            first()
            second()
            """, args=[self.other])
        self.functions(run, 'first')
        self.functions(run, 'first', 'second', directory=self.other)

    def test_the_child_of_a_fork_writes_there_too(self):
        run = self.run_in(FORK + 'forking()')
        self.functions(run, 'forking', directory=self.other)
        self.functions(self.track(run.out), 'forking', 'only_child',
                       directory=self.other)

    def run_there(self, name, *parts, prepare='true', action='cannot open'):
        return self.run_refused(
            prepare, *parts, env={'JITDUMPDIR': name}, action=action,
            directory=name)

    def test_a_directory_that_does_not_exist(self):
        self.run_there(self.path('missing'), os.strerror(errno.ENOENT))
        self.assertFalse(os.path.lexists(self.path('missing')))

    def test_a_directory_that_is_a_file(self):
        with open(self.path('file'), 'w'):
            pass
        self.run_there(self.path('file'), os.strerror(errno.ENOTDIR))

    def test_a_directory_whose_name_is_too_long(self):
        for name in ('/' + 'd' * 300, '/' + 'd/' * 3000, '/d' * 510):
            with self.subTest(length=len(name)):
                run = self.run_refused('true', env={'JITDUMPDIR': name},
                                       directory=None)
                self.assertRegex(run.warnings[0],
                                 f'{os.strerror(errno.ENAMETOOLONG)}|'
                                 f'{os.strerror(errno.ENOENT)}')

    def test_a_directory_whose_name_is_just_not_too_long(self):
        # A path of 1024 bytes or more is refused; no path is cut.
        for length in range(990, 1010):
            directory = self.other
            while len(directory) < length - 130:
                directory += '/' + 'd' * 100
            directory += '/' + 'd' * (length - len(directory) - 1)
            os.makedirs(directory, exist_ok=True)
            run = self.run_in('pass', directory=directory)
            if run.warnings:
                self.assert_one_warning(run, os.strerror(errno.ENAMETOOLONG))
                self.assertEqual(os.listdir(directory), [])
                self.assertGreater(len(dump_path(run.pid, directory)), 1000)
            else:
                self.read(run, directory)

    @fixtures.requires_root
    def test_a_directory_without_permission(self):
        os.chmod(self.directory, 0o755)
        run = self.run_python("""\
            import os, sys
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            sys.activate_stack_trampoline('perf_jit')
            assert not sys.is_stack_trampoline_active()
            """, mode=None, env={'JITDUMPDIR': self.other})
        self.assert_one_warning(run, 'cannot open',
                                dump_path(run.pid, self.other),
                                os.strerror(errno.EACCES))

    def test_a_link_in_it_is_not_followed(self):
        self.run_there(
            self.other, 'symbolic link',
            prepare=f'ln -sf {self.make_target()} {self.other}/jit-$$.dump')
        self.assert_target_untouched()


if __name__ == '__main__':
    unittest.main()
