"""File systems that are full, read-only, not executable or not there."""

import errno
import os
import sys
import textwrap
import unittest
from textwrap import dedent

from test.support import os_helper
from test.test_perf import fixtures, jitdump, parsers
from test.test_perf.modes import JitdumpMode
from test.test_perf.programs import FLAT_PROGRAM


def setUpModule():
    fixtures.require_trampoline()


@fixtures.requires_root
@unittest.skipUnless(sys.platform == 'linux', 'needs mount namespaces')
class MapMountTests(fixtures.PerfTestCase):
    """Another /tmp, in a mount namespace of the child's own.

    The test's directory is hidden by it, but is the current one.
    """

    def setUp(self):
        super().setUp()
        trial = self.run_command(['unshare', '-m', 'true'], returncode=None)
        if trial.returncode:
            self.skipTest('no mount namespaces here')

    def run_mounted(self, prepare, source=FLAT_PROGRAM, mode='perf',
                    returncode=3, unshare=()):
        """Run the source after the preparation.

        What maps are in /tmp afterwards is kept as self.path('map').
        """
        switch = [] if mode is None else ['-X', mode]
        return self.run_command(
            ['unshare', '-m', *unshare, '/bin/sh', '-c',
             f'set -e; {prepare}; set +e; "$@"; status=$?; '
             'cat /tmp/perf-*.map >map 2>/dev/null; exit $status', 'sh',
             sys.executable, *switch, '-c', source],
            returncode=returncode, cwd=self.directory)

    def run_refused(self, prepare, *parts, **options):
        off = self.run_mounted(prepare, mode=None, **options)
        run = self.run_mounted(prepare, **options)
        self.assertEqual(run.out, off.out)
        self.assertEqual(off.err, '')
        self.assert_one_warning(run, '/tmp/perf-', *parts)
        return run

    def test_a_read_only_tmp(self):
        self.run_refused('mount -t tmpfs -o ro none /tmp', 'cannot open',
                         os.strerror(errno.EROFS))

    # What is left of the child is written there.
    KEEP_DIRECTORY = 'mount --bind . .; cd "$(pwd)"'

    def test_a_read_only_root(self):
        self.run_refused(f'{self.KEEP_DIRECTORY}; mount --bind /tmp /tmp; '
                         'mount -o remount,bind,ro /tmp; '
                         'mount -o remount,bind,ro /', 'cannot open',
                         os.strerror(errno.EROFS))

    def test_a_read_only_root_with_a_tmp(self):
        run = self.run_mounted(f'{self.KEEP_DIRECTORY}; '
                               'mount -t tmpfs none /tmp; '
                               'mount -o remount,bind,ro /', textwrap.dedent(
            """\
            import os
            def function(): pass
            function()
            with open(f'/tmp/perf-{os.getpid()}.map') as file:
                print('py::function:<string>' in file.read())
            """), returncode=0)
        self.assertEqual((run.out, run.err), ('True\n', ''))

    def test_no_room_for_another_file(self):
        self.run_refused('mount -t tmpfs -o nr_inodes=1 none /tmp',
                         'cannot open', os.strerror(errno.ENOSPC))

    def test_a_full_tmp(self):
        self.run_refused(
            'mount -t tmpfs -o size=16k none /tmp; '
            'head -c 16384 /dev/zero >/tmp/full',
            'cannot write', os.strerror(errno.ENOSPC))

    def test_a_tmp_that_becomes_full_takes_the_torn_line_back(self):
        # The names have all lengths, so that no line ends where a page does.
        source = FLAT_PROGRAM.replace('f{i}', '{"f" * (i + 1)}')
        self.run_refused('mount -t tmpfs -o size=8k none /tmp',
                         'cannot write', os.strerror(errno.ENOSPC),
                         source=source)
        with open(self.path('map'), 'rb') as file:
            data = file.read()
        entries = parsers.parse_map(data)
        self.assert_good_map(entries)
        self.assertGreater(len(data), 4096)
        self.assertLess(len(data), 8192)

    def test_a_tmp_that_was_full_can_be_used_when_there_is_room(self):
        self.run_mounted(
            'mount -t tmpfs -o size=16k none /tmp; '
            'head -c 16384 /dev/zero >/tmp/full',
            textwrap.dedent("""\
                import os, sys
                def late(): pass
                assert not sys.is_stack_trampoline_active()
                os.unlink('/tmp/full')
                sys.activate_stack_trampoline('perf')
                assert sys.is_stack_trampoline_active()
                late()
                import colorsys
                """), returncode=0)
        with open(self.path('map'), 'rb') as file:
            entries = parsers.parse_map(file.read())
        names = [entry.name for entry in entries]
        self.assertIn('py::late:<string>', names)
        # Called while the interpreter started, so its name was lost then.
        self.assertIn('py::_find_and_load:<frozen importlib._bootstrap>', names)

    def test_a_tmp_without_permission(self):
        run = self.run_mounted(
            'mount -t tmpfs -o mode=0755 none /tmp', textwrap.dedent("""\
                import os, sys
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                sys.activate_stack_trampoline('perf')
                assert not sys.is_stack_trampoline_active()
                """), mode=None, returncode=0)
        self.assert_one_warning(run, 'cannot open', '/tmp/perf-',
                                os.strerror(errno.EACCES))

    def test_no_tmp_at_all(self):
        if os.path.realpath(sys.executable).startswith('/tmp/'):
            self.skipTest('the interpreter itself lies in /tmp')
        # A root that has all that is in this one but /tmp.
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

    def test_a_file_in_the_way_of_a_forked_child(self):
        # In a process namespace of its own the child's number is known.
        source = textwrap.dedent("""\
            import os, sys

            def in_child():
                return 7

            for number in range(os.getpid() + 1, os.getpid() + 5):
                os.mkdir(f'/tmp/perf-{number}.map')
            child = os.fork()
            if not child:
                os._exit(in_child() + sys.is_stack_trampoline_active())
            print(os.waitpid(child, 0)[1] >> 8)
            """)
        run = self.run_refused(
            'mount -t tmpfs none /tmp; mount -t proc none /proc',
            'cannot open', source=source, returncode=0,
            unshare=['-p', '-f'])
        self.assertEqual(run.out, '7\n')

    def test_the_name_has_the_pid_that_the_process_itself_knows(self):
        run = self.run_mounted(
            'mount -t tmpfs none /tmp; mount -t proc none /proc',
            textwrap.dedent("""\
                import os
                def function(): pass
                function()
                assert os.getpid() < 100
                print(os.listdir('/tmp') == [f'perf-{os.getpid()}.map'])
                """), unshare=['-p', '-f'], returncode=0)
        self.assertEqual(run.out, 'True\n')
        self.assertEqual(run.err, '')


@fixtures.requires_root
@unittest.skipUnless(sys.platform == 'linux', 'needs mount namespaces')
class JitdumpMountTests(JitdumpMode):
    """Other file systems, in a mount namespace of the child's own."""

    def setUp(self):
        super().setUp()
        trial = self.run_command(['unshare', '-m', 'true'], returncode=None)
        if trial.returncode:
            self.skipTest('no mount namespaces here')
        self.mounted = self.path('mounted')
        os.mkdir(self.mounted)

    def run_mounted(self, options, prepare='true', source=FLAT_PROGRAM,
                    mode='perf_jit', returncode=3, env=None):
        """Run the source where JITDUMPDIR is a file system of its own.

        What is in it afterwards is copied to self.path('left').
        """
        left = self.path('left')
        os_helper.rmtree(left)
        switch = [] if mode is None else ['-X', mode]
        if env is None:
            env = {'JITDUMPDIR': self.mounted}
        return self.run_command(
            ['unshare', '-m', '/bin/sh', '-c',
             f'set -e; cd {self.mounted}; mount -t tmpfs {options} none .; '
             f'cd {self.mounted}; {prepare}; set +e; "$@"; status=$?; '
             f'cp -r . {left}; exit $status', 'sh',
             sys.executable, *switch, '-c', dedent(source)],
            returncode=returncode, env=fixtures.clean_environment(**env))

    def left(self):
        """Return the dumps that were left there."""
        return [os.path.join(self.path('left'), name)
                for name in os.listdir(self.path('left'))
                if name.startswith('jit-')]

    def run_refused(self, options, *parts, **rest):
        off = self.run_mounted(options, mode=None, **rest)
        run = self.run_mounted(options, **rest)
        self.assertEqual(run.out, off.out)
        self.assertEqual(off.err, '')
        self.assert_one_warning(run, f' {self.mounted}/jit-', *parts)
        return run

    def test_a_file_system_for_everything(self):
        run = self.run_mounted('-o size=10m')
        self.assertEqual((run.out, run.err), ('20\nTrue\n', ''))
        [path] = self.left()
        dump = jitdump.read(path)
        self.assertEqual(dump.torn, 0)
        self.assertIn('py::main:<string>', dump.names)
        self.assert_good_dump(dump, dump.header.pid)

    @fixtures.requires_the_kernel
    def test_a_file_system_without_execution(self):
        self.run_refused('-o noexec', 'cannot map', 'noexec', 'JITDUMPDIR')
        self.assertEqual(self.left(), [])

    def run_in_tmp_without_execution(self, *options):
        """Return the run and what it left in its /tmp."""
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
        run = self.run_mounted('-o noexec', mode=None, returncode=0,
                               source="""\
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
                """)
        self.assertEqual(run.out, '0 True\nTrue\n')
        self.assertEqual(len(run.warnings), 110)
        self.assertEqual(self.left(), [])

    def test_a_read_only_file_system(self):
        self.run_refused('-o ro', 'cannot open', os.strerror(errno.EROFS))

    def test_no_room_for_another_file(self):
        self.run_refused('-o nr_inodes=1', 'cannot open',
                         os.strerror(errno.ENOSPC))

    def test_a_full_file_system(self):
        self.run_refused('-o size=16k', 'cannot write',
                         os.strerror(errno.ENOSPC),
                         prepare='head -c 16384 /dev/zero >full')
        self.assertEqual(self.left(), [])

    def test_a_file_system_that_becomes_full(self):
        self.run_refused('-o size=16k', 'cannot write',
                         os.strerror(errno.ENOSPC))
        [path] = self.left()
        dump = jitdump.read(path)
        self.assertEqual(dump.torn, 0)
        self.assertGreater(os.path.getsize(path), 8192)
        self.assert_good_dump(dump, dump.header.pid)

    def test_a_file_system_that_was_full_can_be_used_when_there_is_room(self):
        run = self.run_mounted('-o size=64k', returncode=0,
                               prepare='head -c 65536 /dev/zero >full',
                               source="""\
                import os, sys
                def late(): pass
                assert not sys.is_stack_trampoline_active()
                os.unlink('full')
                sys.activate_stack_trampoline('perf_jit')
                assert sys.is_stack_trampoline_active()
                late()
                sys.deactivate_stack_trampoline()
                """)
        self.assert_one_warning(run, 'cannot write')
        [path] = self.left()
        dump = jitdump.read(path)
        self.assertEqual(dump.torn, 0)
        self.assertIn('py::late:<string>', dump.names)

    def test_a_read_only_root(self):
        # In JITDUMPDIR, which is another file system, it may write.
        for env, reason in (({'JITDUMPDIR': self.mounted}, ''),
                            ({}, os.strerror(errno.EROFS))):
            run = self.run_command(
                ['unshare', '-m', '/bin/sh', '-c',
                 'set -e; mount --bind /tmp /tmp; mount -t tmpfs none "$1"; '
                 'mount -o remount,bind,ro /tmp; '
                 'mount -o remount,bind,ro /; set +e; shift; exec "$@"',
                 'sh', self.mounted, sys.executable, '-X', 'perf_jit', '-c',
                 FLAT_PROGRAM], returncode=3,
                env=fixtures.clean_environment(**env))
            self.assertEqual(run.out, f'20\n{not reason}\n')
            if reason:
                self.assert_one_warning(run, 'cannot open /tmp/jit-', reason)
            else:
                self.assertEqual(run.err, '')

    def test_the_name_has_the_pid_that_the_process_itself_knows(self):
        run = self.run_command(
            ['unshare', '-m', '-p', '-f', '/bin/sh', '-c',
             'set -e; cd "$1"; mount -t tmpfs none .; cd "$1"; '
             'mount -t proc none /proc; shift; "$@"; cp jit-* ..', 'sh',
             self.mounted, sys.executable, '-X', 'perf_jit', '-c',
             'import os; print(os.getpid())'],
            env=fixtures.clean_environment(JITDUMPDIR=self.mounted))
        pid = int(run.out)
        self.assertLess(pid, 100)
        self.assertEqual(run.err, '')
        dump = jitdump.read(self.path(f'jit-{pid}.dump'))
        self.assertEqual(dump.header.pid, pid)
        self.assertEqual({f.load.pid for f in dump.functions()}, {pid})
        self.assert_good_dump(dump, pid)

    @fixtures.requires_the_kernel
    def test_no_marker_for_a_forked_child(self):
        run = self.run_mounted(
            '-o size=10m', returncode=0,
            source="""\
                import os, subprocess, sys
                subprocess.run(['mount', '-o', 'remount,noexec', '.'],
                               check=True)
                def in_child(): return 7 + sys.is_stack_trampoline_active()
                child = os.fork()
                if not child:
                    os._exit(in_child())
                print(os.waitpid(child, 0)[1] >> 8,
                      sys.is_stack_trampoline_active())
                """)
        self.assertEqual(run.out, '7 True\n')
        self.assert_one_warning(run, 'cannot map', 'noexec')
        [path] = self.left()
        self.assertEqual(jitdump.read(path).torn, 0)


if __name__ == '__main__':
    unittest.main()
