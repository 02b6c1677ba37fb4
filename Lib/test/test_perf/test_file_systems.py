"""File systems that are full, read-only, not executable or missing."""

import errno
import os
import re
import sys
import unittest
from textwrap import dedent

from test.support import os_helper
from test.test_perf import fixtures, jitdump
from test.test_perf.modes import JitdumpMode, MapMode
from test.test_perf.programs import FLAT_PROGRAM


def setUpModule():
    fixtures.require_trampoline()


class FileSystemTests:
    """Our file is in a file system of the child's mount namespace.

    place  the directory of the file, where that file system is mounted
    small  the size of a file system that is too small for all entries, in KiB
    """

    def setUp(self):
        super().setUp()
        trial = self.run_command(['unshare', '-m', 'true'], returncode=None)
        if trial.returncode:
            self.skipTest('no mount namespaces here')

    def run_prepared(self, prepare, source=FLAT_PROGRAM, mode='default',
                     returncode=3, unshare=(), env=None):
        """Run `source` after shell commands in a mount namespace.

        $PLACE is the place.  Our files in it are copied afterwards; left()
        returns them.  The current directory is the test's directory, even if
        /tmp is mounted over.
        """
        os_helper.rmtree(self.path('left'))
        os.mkdir(self.path('left'))
        if mode == 'default':
            mode = self.mode
        switch = [] if mode is None else ['-X', mode]
        source = self.fill_in(dedent(source))
        return self.run_command(
            ['unshare', '-m', *unshare, '/bin/sh', '-c',
             f'set -e; {prepare}; set +e; "$@"; status=$?; '
             'cp "$PLACE"/perf-*.map "$PLACE"/jit-*.dump left 2>/dev/null; '
             'exit $status', 'sh', sys.executable, *switch, '-c', source],
            returncode=returncode, cwd=self.directory,
            env=fixtures.clean_environment(**self.environment(), **(env or {})))

    def run_mounted(self, options, source=FLAT_PROGRAM, prepare='true', **rest):
        """Mount a tmpfs with these options at the place.  Run `source` in it.
        """
        return self.run_prepared(
            f'mount -t tmpfs {options} none "$PLACE"; {prepare}', source, **rest)

    def run_refused(self, options, *parts, **rest):
        """Run `source` with profiling and without.

        Both do the same.  One warning has all `parts`.
        """
        off = self.run_mounted(options, mode=None, **rest)
        run = self.run_mounted(options, **rest)
        self.assertEqual(run.out, off.out)
        self.assertEqual(off.err, '')
        self.assert_one_warning(run, f' {self.place}/', *parts)
        return run

    def left(self):
        """Return the paths of the copies of the files at the place."""
        return [self.path('left', name)
                for name in os.listdir(self.path('left'))]

    def read_left(self):
        """Return the entries of the file that was left.  There must be one
        file.
        """
        [path] = self.left()
        [pid] = re.findall(r'\d+', os.path.basename(path))
        return self.read_file(path, int(pid))

    def names_left(self):
        return [entry.name for entry in self.read_left()]

    def test_a_file_system_of_its_own(self):
        run = self.run_mounted('-o size=10m')
        self.assertEqual((run.out, run.err), ('20\nTrue\n', ''))
        self.assertIn('py::main:<string>', self.names_left())

    def test_a_read_only_file_system(self):
        self.run_refused('-o ro', 'cannot open', os.strerror(errno.EROFS))

    def test_no_room_for_another_file(self):
        self.run_refused('-o nr_inodes=1', 'cannot open',
                         os.strerror(errno.ENOSPC))

    def test_a_full_file_system(self):
        self.run_refused('-o size=16k', 'cannot write',
                         os.strerror(errno.ENOSPC),
                         prepare='head -c 16384 /dev/zero >"$PLACE/full"')
        self.assertEqual([os.path.getsize(path) for path in self.left()],
                         self.sizes_left_when_full)

    def test_a_file_system_that_becomes_full_keeps_whole_entries(self):
        # The names have all lengths, so that no entry ends where a page ends.
        source = FLAT_PROGRAM.replace('f{i}', '{"f" * (i + 1)}')
        self.run_refused(f'-o size={self.small}k', 'cannot write',
                         os.strerror(errno.ENOSPC), source=source)
        [path] = self.left()
        self.assertGreater(os.path.getsize(path), self.small * 512)
        self.assertLess(os.path.getsize(path), self.small * 1024)
        self.assert_good_entries(self.read_left())

    def test_a_file_system_that_was_full_can_be_used_when_there_is_room(self):
        run = self.run_mounted(
            '-o size=64k', """\
                import os, sys
                def late(): pass
                assert not sys.is_stack_trampoline_active()
                os.unlink(os.environ['PLACE'] + '/full')
                sys.activate_stack_trampoline('@MODE@')
                assert sys.is_stack_trampoline_active()
                late()
                import colorsys
                sys.deactivate_stack_trampoline()
                """, prepare='head -c 65536 /dev/zero >"$PLACE/full"',
            returncode=0)
        self.assert_one_warning(run, 'cannot write')
        names = self.names_left()
        self.assertIn('py::late:<string>', names)
        # This was called while the interpreter started; its name was lost
        # then.
        self.assertIn('py::_find_and_load:<frozen importlib._bootstrap>', names)

    def test_a_directory_without_permission(self):
        os.chmod(self.directory, 0o755)
        run = self.run_mounted(
            '-o mode=0755', """\
                import os, sys
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                sys.activate_stack_trampoline('@MODE@')
                assert not sys.is_stack_trampoline_active()
                """, mode=None, returncode=0)
        self.assert_one_warning(run, 'cannot open', f' {self.place}/',
                                os.strerror(errno.EACCES))

    def test_a_file_in_the_way_of_a_forked_child(self):
        # In a new process namespace the pid of the child is known.
        name = os.path.basename(self.file_of('{number}'))
        run = self.run_refused(
            '', 'cannot open', prepare='mount -t proc none /proc',
            source=f"""\
                import os, sys

                def in_child():
                    return 7

                for number in range(os.getpid() + 1, os.getpid() + 5):
                    os.mkdir(os.environ['PLACE'] + f'/{name}')
                child = os.fork()
                if not child:
                    os._exit(in_child() + sys.is_stack_trampoline_active())
                print(os.waitpid(child, 0)[1] >> 8)
                """, returncode=0, unshare=['-p', '-f'])
        self.assertEqual(run.out, '7\n')

    def test_the_name_has_the_pid_that_the_process_itself_knows(self):
        run = self.run_mounted(
            '', 'import os; print(os.getpid())',
            prepare='mount -t proc none /proc', unshare=['-p', '-f'],
            returncode=0)
        self.assertEqual(run.err, '')
        pid = int(run.out)
        self.assertLess(pid, 100)
        [path] = self.left()
        self.assertEqual(os.path.basename(path),
                         os.path.basename(self.file_of(pid)))
        self.assert_good_entries(self.read_left())


class LostFileTests:
    """Somebody deletes or empties the file while the program runs."""

    def check(self, lose):
        run = self.run_on_and_off(f"""\
            import os, time

            def before(): pass
            def after(): pass
            def lose(path):
                try:
                    {lose}
                except FileNotFoundError:
                    pass                # profiling is off

            before()
            lose(f'@FILE@')
            time.sleep(0.01)        # what is known of the file is used for a moment
            after()
            before()
            """)
        self.assertEqual(run.err, '')
        self.assert_once(run.names, 'before', 'after', '<module>')
        self.assert_good_entries(run.entries)

    def test_it_is_deleted(self):
        self.check('os.unlink(path)')

    def test_it_is_deleted_and_there_is_another(self):
        self.check("os.unlink(path); os.close(os.open(path, os.O_CREAT))")

    def test_it_is_emptied(self):
        self.check('os.truncate(path, 0)')


class MapLostFileTests(LostFileTests, MapMode):
    pass


class JitdumpLostFileTests(LostFileTests, JitdumpMode):
    pass


@fixtures.requires_root
@unittest.skipUnless(sys.platform == 'linux', 'needs mount namespaces')
class MapFileSystemTests(FileSystemTests, MapMode):

    place = '/tmp'
    small = 8
    sizes_left_when_full = [0]

    def environment(self):
        return {'PLACE': self.place}

    # Keeps the current directory writable.
    KEEP_DIRECTORY = 'mount --bind . .; cd "$(pwd)"'

    def test_a_read_only_root(self):
        prepare = (f'{self.KEEP_DIRECTORY}; mount --bind /tmp /tmp; '
                   'mount -o remount,bind,ro /tmp; '
                   'mount -o remount,bind,ro /')
        off = self.run_prepared(prepare, mode=None)
        run = self.run_prepared(prepare)
        self.assertEqual(run.out, off.out)
        self.assertEqual(off.err, '')
        self.assert_one_warning(run, 'cannot open', ' /tmp/perf-',
                                os.strerror(errno.EROFS))

    def test_a_read_only_root_with_a_tmp(self):
        run = self.run_prepared(
            f'{self.KEEP_DIRECTORY}; mount -t tmpfs none /tmp; '
            'mount -o remount,bind,ro /', """\
                import os
                def function(): pass
                function()
                with open(f'/tmp/perf-{os.getpid()}.map') as file:
                    print('py::function:<string>' in file.read())
                """, returncode=0)
        self.assertEqual((run.out, run.err), ('True\n', ''))

    def test_no_tmp_at_all(self):
        if os.path.realpath(sys.executable).startswith('/tmp/'):
            self.skipTest('the interpreter itself lies in /tmp')
        # A root directory with everything but /tmp.
        script = self.write_script("""\
            set -e
            mkdir -p root
            mount -t tmpfs none root
            for path in /*
            do
                if [ "$path" = /tmp ]; then
                    continue
                elif [ -L "$path" ]; then
                    cp -P "$path" root
                elif [ -d "$path" ]; then
                    mkdir "root$path"
                    mount --rbind "$path" "root$path"
                fi
            done
            exec chroot root "$@"
            """, 'chroot.sh')
        runs = [self.run_command(
                    ['unshare', '-m', '/bin/sh', script, sys.executable,
                     *switch, '-c', FLAT_PROGRAM],
                    returncode=3, cwd=self.directory)
                for switch in (['-X', 'perf'], [])]
        self.assertEqual(runs[0].out, '20\nFalse\n')
        self.assertEqual(runs[1].out, runs[0].out)
        self.assertEqual(runs[1].err, '')
        self.assert_one_warning(runs[0], 'cannot open', runs[0].map_path,
                                os.strerror(errno.ENOENT))


@fixtures.requires_root
@unittest.skipUnless(sys.platform == 'linux', 'needs mount namespaces')
class JitdumpFileSystemTests(FileSystemTests, JitdumpMode):

    small = 16
    sizes_left_when_full = []

    def setUp(self):
        super().setUp()
        self.place = self.path('mounted')
        os.mkdir(self.place)

    def environment(self):
        return {'PLACE': self.place, 'JITDUMPDIR': self.place}

    @fixtures.requires_the_kernel
    def test_a_file_system_without_execution(self):
        self.run_refused('-o noexec', 'cannot map', 'noexec', 'JITDUMPDIR')
        self.assertEqual(self.left(), [])

    def run_in_tmp_without_execution(self, *options):
        """Return the run and the list of files in its /tmp."""
        run = self.run_command(
            ['unshare', '-m', '/bin/sh', '-c',
             'set -e; mount -t tmpfs -o noexec none /tmp; set +e; '
             '"$@"; status=$?; ls /tmp >left; exit $status', 'sh',
             sys.executable, *options, '-c', FLAT_PROGRAM],
            cwd=self.directory, returncode=3)
        with open(self.path('left')) as file:
            return run, file.read()

    @fixtures.requires_the_kernel
    def test_a_tmp_without_execution(self):
        off, _ = self.run_in_tmp_without_execution()
        run, left = self.run_in_tmp_without_execution('-X', 'perf_jit')
        self.assertEqual(run.out, '20\nFalse\n')
        self.assertEqual(run.out, off.out)
        self.assertEqual(off.err, '')
        self.assert_one_warning(run, 'cannot map /tmp/jit-', 'noexec')
        self.assertEqual(left, '')

    def test_no_execution_does_not_concern_the_map(self):
        run, left = self.run_in_tmp_without_execution('-X', 'perf')
        self.assertEqual((run.out, run.err), ('20\nTrue\n', ''))
        self.assertRegex(left, r'^perf-\d+\.map\n$')

    @fixtures.requires_the_kernel
    def test_activation_in_vain_can_be_repeated_without_a_leak(self):
        run = self.run_mounted(
            '-o noexec', """\
                import os, sys
                def count():
                    with open('/proc/self/maps') as file:
                        return (len(os.listdir('/proc/self/fd')),
                                len(list(file)))
                for i in range(10):
                    sys.activate_stack_trampoline('perf_jit')
                before = count()
                for i in range(100):
                    sys.activate_stack_trampoline('perf_jit')
                descriptors, mappings = count()
                print(descriptors - before[0], mappings - before[1] < 10)
                os.environ['JITDUMPDIR'] = '/tmp'
                sys.activate_stack_trampoline('perf_jit')
                print(sys.is_stack_trampoline_active())
                os.unlink(f'/tmp/jit-{os.getpid()}.dump')
                """, mode=None, returncode=0)
        self.assertEqual(run.out, '0 True\nTrue\n')
        self.assertEqual(len(run.warnings), 110)
        self.assertEqual(self.left(), [])

    def test_a_read_only_root(self):
        # In JITDUMPDIR, which is another file system, it may write.
        for env, reason in (({'JITDUMPDIR': self.place}, ''),
                            ({}, os.strerror(errno.EROFS))):
            run = self.run_command(
                ['unshare', '-m', '/bin/sh', '-c',
                 'set -e; mount --bind /tmp /tmp; mount -t tmpfs none "$1"; '
                 'mount -o remount,bind,ro /tmp; '
                 'mount -o remount,bind,ro /; set +e; shift; exec "$@"',
                 'sh', self.place, sys.executable, '-X', 'perf_jit', '-c',
                 FLAT_PROGRAM], returncode=3,
                env=fixtures.clean_environment(**env))
            self.assertEqual(run.out, f'20\n{not reason}\n')
            if reason:
                self.assert_one_warning(run, 'cannot open /tmp/jit-', reason)
            else:
                self.assertEqual(run.err, '')

    @fixtures.requires_the_kernel
    def test_no_marker_for_a_forked_child(self):
        run = self.run_mounted(
            '-o size=10m', """\
                import os, subprocess, sys
                subprocess.run(['mount', '-o', 'remount,noexec',
                                os.environ['PLACE']], check=True)
                def in_child(): return 7 + sys.is_stack_trampoline_active()
                child = os.fork()
                if not child:
                    os._exit(in_child())
                print(os.waitpid(child, 0)[1] >> 8,
                      sys.is_stack_trampoline_active())
                """, returncode=0)
        self.assertEqual(run.out, '7 True\n')
        self.assert_one_warning(run, 'cannot map', 'noexec')
        [path] = self.left()
        self.assertEqual(jitdump.read(path).incomplete, 0)


if __name__ == '__main__':
    unittest.main()
