"""Native profiler support in bad surroundings.

Names made to break the map, files in the way, a full disk, memory and
descriptors refused.  The program must do what it does without profiling;
there is one warning that says what failed, and one may try again later.
"""

import errno
import os
import re
import stat
import sys
import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures, parsers


def setUpModule():
    fixtures.require_trampoline()


# ---------------------------------------------------------------------------
# Names

ESCAPE = re.compile(r'\\(\\|n|t|r|x[0-9a-f]{2}|u[0-9a-f]{4})')


def unescape(name):
    """Undo what the writer does to a name."""
    def character(match):
        text = match[1]
        if text[0] in 'xu':
            return chr(int(text[1:], 16))
        return {'\\': '\\', 'n': '\n', 't': '\t', 'r': '\r'}[text]
    return ESCAPE.sub(character, name)


class NameTests(fixtures.PerfTestCase):

    def run_named(self, qualname="'function'", filename="'/file.py'"):
        """Run a function with this name and file name, given as source."""
        return self.run_on_and_off(f"""\
            def function():
                return 'result'

            function.__code__ = function.__code__.replace(
                co_qualname={qualname}, co_filename={filename})
            print(function())
            """)

    def assert_name(self, expected, **names):
        run = self.run_named(**names)
        self.assertIn(expected, run.names)
        self.assertEqual(run.out, 'result\n')
        self.assertEqual(run.err, '')
        self.assert_good_map(run.entries)

    def assert_both(self, literal, expected):
        """The name and the file name get the same treatment."""
        self.assert_name(f'py::{expected}:/file.py', qualname=literal)
        self.assert_name(f'py::function:{expected}', filename=literal)

    def test_a_newline_in_a_name_stays_on_one_line(self):
        self.assert_both(r"'a\nb'", r'a\nb')

    def test_a_name_cannot_forge_an_entry(self):
        self.assert_both(r"'a\n1000 10 py::forged:/x'",
                         r'a\n1000 10 py::forged:/x')

    def test_a_name_that_ends_in_a_newline_does_not_end_the_line(self):
        self.assert_both(r"'a\n'", r'a\n')

    def test_a_carriage_return_and_a_tab_are_escaped(self):
        self.assert_both(r"'a\rb\tc'", r'a\rb\tc')

    def test_controls_are_escaped(self):
        self.assert_both(r"'\x01\x08\x0b\x0c\x1f\x7f'",
                         r'\x01\x08\x0b\x0c\x1f\x7f')

    def test_a_terminal_sequence_is_escaped(self):
        self.assert_both(r"'\x1b[31mred\x1b]0;title\x07'",
                         r'\x1b[31mred\x1b]0;title\x07')

    def test_c1_controls_are_escaped(self):
        self.assert_both(r"'\x80\x85\x9b\x9f\xa0'",
                         '\\x80\\x85\\x9b\\x9f\xa0')

    def test_line_and_paragraph_separators_are_escaped(self):
        self.assert_both(r"'a\u2028b\u2029c'", r'a\u2028b\u2029c')

    def test_lone_surrogates_are_escaped(self):
        self.assert_both(r"'a\udc80b\ud800\udfff\ud83d'",
                         r'a\udc80b\ud800\udfff\ud83d')

    def test_a_backslash_is_doubled(self):
        self.assert_both(r"'a\\nb\\'", r'a\\nb\\')

    def test_a_nul_does_not_end_a_name(self):
        self.assert_both(r"'a\0b'", r'a\x00b')

    def test_non_ascii_names_stand_as_they_are(self):
        self.assert_both(
            r"'Gr\xfc\xdfe \u65e5\u672c\u8a9e \U0001f40d e\u0301'",
            'Grüße 日本語 🐍 e\u0301')

    def test_spaces_stand_as_they_are(self):
        self.assert_both("' a  b '", ' a  b ')

    def test_a_name_may_be_one_character(self):
        self.assert_both("'f'", 'f')

    def test_a_name_may_be_empty(self):
        self.assert_both("''", '')

    def test_a_name_may_look_like_a_number(self):
        self.assert_both("'7f0000000000 100'", '7f0000000000 100')

    def test_a_name_of_100_000_characters_is_whole(self):
        self.assert_both("'n' * 99_999 + 'm'", 'n' * 99_999 + 'm')

    def test_a_name_of_100_000_escapes_is_whole(self):
        self.assert_both(r"'\n' * 100_000", r'\n' * 100_000)

    def test_names_about_the_size_of_a_buffer_are_whole(self):
        sizes = [n + d for n in (128, 256, 512, 1024, 2048, 4096, 8192, 65536)
                 for d in range(-40, 8)]
        run = self.run_on_and_off(f"""\
            def function():
                return 'result'

            for size in {sizes}:
                function.__code__ = function.__code__.replace(
                    co_qualname='é' + 'n' * (size - 2), co_filename='/f')
                function()
            """)
        self.assertEqual(
            [name for name in run.names if name.endswith(':/f')],
            ['py::é' + 'n' * (size - 2) + ':/f' for size in sizes])

    def test_every_character_can_be_told_from_the_line(self):
        every = "''.join(map(chr, [*range(0x10000), *range(0x10000, " \
                "0x110000, 97)]))"
        run = self.run_named(qualname=every)
        [name] = [name for name in run.names if name.endswith(':/file.py')]
        self.assertTrue(
            unescape(name.removeprefix('py::').removesuffix(':/file.py'))
            == eval(every))
        with open(run.map_path, 'rb') as file:
            data = file.read()
        self.assertEqual(
            [byte for byte in set(data) if byte < 32 or byte == 127], [10])
        self.assertFalse(re.search('[\x80-\x9f\u2028\u2029]', data.decode()))

    def test_a_name_from_source_code_may_be_hostile(self):
        run = self.run_on_and_off(r"""
            exec(compile('def function(): return 1\nprint(function())',
                         'a\n\udcff\x1b file', 'exec'))
            """)
        self.assertIn(r'py::function:a\n\udcff\x1b file', run.names)

    def test_a_hostile_name_is_told_to_the_child_of_a_fork(self):
        import_helper.import_module('_testinternalcapi')
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_python(f"""\
                    import os, _testinternalcapi

                    def function():
                        child = os.fork()
                        if not child:
                            os._exit(0)
                        os.waitpid(child, 0)
                        print(child)

                    function.__code__ = function.__code__.replace(
                        co_qualname='a\\n\\udc80' + 'n' * 100_000)
                    _testinternalcapi.perf_trampoline_set_persist_after_fork(
                        {persist})
                    function()
                    """)
                name = self.script_name(r'a\n\udc80' + 'n' * 100_000)
                child = parsers.read_map(self.track(run.out))
                self.assertIn(name, [entry.name for entry in child])


# ---------------------------------------------------------------------------
# Surroundings

# A program with an output and an exit status of its own.
PROGRAM = """\
    import sys

    def recursive(n):
        return n and recursive(n - 1) + 1

    def main():
        print(recursive(20))
        for i in range(100):
            exec(f'def f{i}(): pass\\nf{i}()')
        print(sys.is_stack_trampoline_active())
        sys.exit(3)

    main()
    """

# The same for -c.
FLAT_PROGRAM = textwrap.dedent(PROGRAM)


class MapTestCase(fixtures.PerfTestCase):
    """What the mixins below are told of the file that profiling makes."""

    mode = 'perf'
    variable = '"$MAP"'             # its path, for the shell, in `prepare`
    run_profiled = fixtures.PerfTestCase.run_python

    def file_of(self, pid):
        return parsers.map_path(pid)

    def assert_written(self, run, qualname):
        """It has this function of the script."""
        self.assertIn(self.script_name(qualname), run.names)


class FileInTheWay:
    """What stands where profiling would make a file.

    run_refused() runs the program with something in the way.
    """

    def path_in_program(self):
        """Return the path as an expression."""
        return "f'" + self.file_of('{os.getpid()}') + "'"

    def test_a_symbolic_link_is_not_followed(self):
        self.run_refused(f'ln -s {self.make_target()} {self.variable}',
                         'symbolic link')
        self.assert_target_untouched()

    def test_a_dangling_symbolic_link_is_not_followed(self):
        self.run_refused(f'ln -s {self.path("nothing")} {self.variable}',
                         'symbolic link')
        self.assertFalse(os.path.exists(self.path('nothing')))

    def test_a_directory_is_left_alone(self):
        run = self.run_refused(f'mkdir {self.variable}')
        self.assertEqual(os.listdir(self.file_of(run.pid)), [])

    def test_a_fifo_is_left_alone(self):
        run = self.run_refused(f'mkfifo {self.variable}')
        self.assertTrue(stat.S_ISFIFO(os.stat(self.file_of(run.pid)).st_mode))

    @fixtures.requires_root
    def test_a_device_is_left_alone(self):
        run = self.run_refused(f'mknod {self.variable} c 1 3')
        self.assertTrue(stat.S_ISCHR(os.stat(self.file_of(run.pid)).st_mode))

    @fixtures.requires_root
    def test_a_device_that_is_a_disk_is_left_alone(self):
        # One that does not exist.
        run = self.run_refused(f'mknod {self.variable} b 259 1048575')
        self.assertTrue(stat.S_ISBLK(os.stat(self.file_of(run.pid)).st_mode))

    def test_a_socket_is_left_alone(self):
        bind = self.write_script("""\
            import socket, sys
            socket.socket(socket.AF_UNIX).bind(sys.argv[1])
            """, 'bind.py')
        run = self.run_refused(f'{sys.executable} {bind} {self.variable}')
        self.assertTrue(stat.S_ISSOCK(os.stat(self.file_of(run.pid)).st_mode))

    @fixtures.requires_root
    def test_another_users_file_is_left_alone(self):
        run = self.run_refused(
            f'F={self.variable}; '
            'echo theirs >"$F"; chmod 666 "$F"; chown 12345 "$F"',
            'another user')
        status = os.stat(self.file_of(run.pid))
        self.assertEqual(status.st_uid, 12345)
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o666)
        with open(self.file_of(run.pid)) as file:
            self.assertEqual(file.read(), 'theirs\n')

    def test_a_file_with_another_name_is_left_alone(self):
        target = self.make_target()
        if os.stat(self.directory).st_dev != os.stat('/tmp').st_dev:
            self.skipTest('needs a file on the file system of /tmp')
        self.run_refused(f'ln {target} {self.variable}', 'link')
        self.assert_target_untouched()

    def test_it_can_be_activated_when_the_way_is_clear(self):
        for command, clear in (('ln -s /', 'unlink'), ('mkdir', 'rmdir'),
                               ('mkfifo', 'unlink')):
            with self.subTest(command=command):
                run = self.run_profiled(f"""\
                    import os, sys

                    def late(): pass

                    print(sys.is_stack_trampoline_active())
                    os.{clear}({self.path_in_program()})
                    sys.activate_stack_trampoline({self.mode!r})
                    print(sys.is_stack_trampoline_active())
                    late()
                    """, prepare=f'{command} {self.variable}')
                self.assertEqual(run.out, 'False\nTrue\n')
                self.assert_one_warning(run)
                self.assert_written(run, 'late')

    def test_each_attempt_in_vain_leaks_nothing(self):
        run = self.run_profiled(f"""\
            import os, sys

            def count():
                with open('/proc/self/maps') as file:
                    return len(os.listdir('/proc/self/fd')), len(list(file))

            os.mkdir({self.path_in_program()})
            for i in range(10):
                sys.activate_stack_trampoline({self.mode!r})
            before = count()
            for i in range(1000):
                sys.activate_stack_trampoline({self.mode!r})
            descriptors, mappings = count()
            print(descriptors - before[0], mappings - before[1] < 100)
            """, mode=None)
        self.assertEqual(run.out, '0 True\n')
        self.assertEqual(len(run.warnings), 1010)

    def test_the_file_may_be_deleted_while_the_program_runs(self):
        run = self.run_on_and_off(f"""\
            import os

            def before(): pass
            def after(): return 'after'

            before()
            try:
                os.unlink({self.path_in_program()})
            except FileNotFoundError:
                pass
            print(after())
            """, silent=True, run=self.run_profiled)
        self.assertLessEqual(len(run.warnings), 1)


class FileInTheWayTests(FileInTheWay, MapTestCase):

    def run_refused(self, prepare, reason=''):
        """Run the program with this in the way and return what it left."""
        run = self.run_on_and_off(PROGRAM, returncode=3, prepare=prepare)
        self.assertEqual(run.out, '20\nFalse\n')
        self.assert_one_warning(run, 'cannot open', run.map_path, reason)
        return run

    def test_a_symbolic_link_to_itself_is_not_followed(self):
        self.run_refused('ln -s "$MAP" "$MAP"', 'symbolic link')

    def test_a_fifo_with_a_reader_gets_nothing(self):
        # The shell holds it open for reading and writing, and hands it on.
        self.run_refused('mkfifo "$MAP"; exec 5<>"$MAP"')

    def test_our_own_old_file_is_started_afresh(self):
        run = self.run_python(
            'pass', prepare='echo "1 1 old" >"$MAP"; chmod 644 "$MAP"')
        self.assertNotIn('old', run.names)
        self.assert_good_map(run.entries)
        self.assertEqual(stat.S_IMODE(os.stat(run.map_path).st_mode), 0o600)
        self.assertEqual(run.err, '')

    def test_activating_in_vain_is_no_exception(self):
        run = self.run_python("""\
            import os, sys
            os.mkdir(f'/tmp/perf-{os.getpid()}.map')
            print(sys.activate_stack_trampoline('perf'))
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'None\nFalse\n')
        self.assert_one_warning(run, 'cannot open', run.map_path)

    def test_a_link_put_in_its_place_is_not_followed(self):
        target = self.make_target()
        run = self.run_on_and_off("""\
            import os, sys

            def before(): pass
            def after(): return 'after'

            before()
            path = f'/tmp/perf-{os.getpid()}.map'
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


class StandardErrorTests(fixtures.PerfTestCase):
    """Where the warning goes when nobody can hear it."""

    def test_stderr_may_be_closed(self):
        for prepare in ('mkdir "$MAP"', 'true'):
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
        for mode in ('perf', None):
            self.run_python(
                script, mode, returncode=3, args=[self.path('out')],
                prepare='mkdir "$MAP"; exec <&- >&- 2>&-')
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
            os.mkdir(f'/tmp/perf-{os.getpid()}.map')
            sys.activate_stack_trampoline('perf')
            os.write(2, b'own data')
            with open(path) as file:
                print(file.read())
            """, mode=None, args=[self.path('own')], prepare='exec 2>&-')
        self.assertEqual(run.out, 'own data\n')

    def test_stderr_may_be_full(self):
        self.run_on_and_off(PROGRAM, returncode=3, silent=True,
                            prepare='mkdir "$MAP"; exec 2>/dev/full')

    def test_stderr_may_be_a_pipe_without_a_reader(self):
        read, write = os.pipe()
        os.close(read)
        self.addCleanup(os.close, write)
        self.run_on_and_off(PROGRAM, returncode=3, prepare='mkdir "$MAP"',
                            stderr=write, silent=True)

    def test_a_pipe_without_a_reader_does_not_kill_by_a_signal(self):
        read, write = os.pipe()
        os.close(read)
        self.addCleanup(os.close, write)
        self.run_on_and_off("""\
            import os, signal, sys
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            path = f'/tmp/perf-{os.getpid()}.map'
            if os.path.exists(path):
                os.unlink(path)
            os.mkdir(path)
            sys.deactivate_stack_trampoline()
            sys.activate_stack_trampoline('perf')
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
            path = f'/tmp/perf-{os.getpid()}.map'
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
                                  prepare='mkdir "$MAP"')
        self.assert_one_warning(run)


class Limits:
    """Limits that the system has set to the process."""

    def test_descriptors_used_up(self):
        run = self.run_profiled(f"""\
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
            sys.activate_stack_trampoline({self.mode!r})
            print(sys.is_stack_trampoline_active())
            for descriptor in used:
                os.close(descriptor)
            sys.activate_stack_trampoline({self.mode!r})
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None)
        self.assertEqual(run.out, 'False\nTrue\n')
        self.assert_one_warning(run, 'cannot open', self.file_of(run.pid),
                                os.strerror(errno.EMFILE))
        self.assert_written(run, 'late')

    @fixtures.requires_the_kernel
    def test_a_limit_on_memory(self):
        run = self.run_profiled(f"""\
            import re, resource, sys

            def late(): pass

            unlimited = resource.getrlimit(resource.RLIMIT_AS)
            with open('/proc/self/status') as file:
                status = file.read()
            size = int(re.search(r'VmSize:\\s*(\\d+) kB', status)[1]) << 10
            resource.setrlimit(resource.RLIMIT_AS, (size, unlimited[1]))
            sys.activate_stack_trampoline({self.mode!r})
            late()
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
            print(sys.is_stack_trampoline_active())
            sys.activate_stack_trampoline({self.mode!r})
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None)
        self.assertEqual(run.out, 'False\nTrue\n')
        self.assert_one_warning(run, os.strerror(errno.ENOMEM))
        self.assert_written(run, 'late')


class LimitTests(Limits, MapTestCase):

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
        self.assertIn(self.script_name('late'), run.names)
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
        self.assert_one_warning(run, run.map_path, os.strerror(errno.EMFILE))
        self.assert_good_map(run.entries)

    def test_a_limit_on_the_size_of_files(self):
        run = self.run_python("""\
            import os, resource, sys

            def late(): pass

            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            for i in range(100):
                exec(f'def function{i}(): pass\\nfunction{i}()')
            print(sys.is_stack_trampoline_active())
            with open(f'/tmp/perf-{os.getpid()}.map') as file:
                print(file.read(), end='')
            print()
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None)
        head, _, tail = run.out.partition('\n\n')
        first, second, lines = head.split('\n', 2)
        self.assertEqual((first, second, tail), ('True', 'False', 'True\n'))
        # It stopped at the last line that fitted.
        lines = parsers.parse_map(lines + '\n')
        self.assertGreater(len(lines), 3)
        self.assert_one_warning(run, 'cannot write', run.map_path,
                                os.strerror(errno.EFBIG))
        self.assertEqual(run.entries[:len(lines)], lines)
        self.assert_good_map(run.entries)
        self.assertIn(self.script_name('late'), run.names)

    def test_a_limit_on_the_size_of_files_from_the_start(self):
        for blocks in (0, 1, 2):
            with self.subTest(blocks=blocks):
                run = self.run_on_and_off(PROGRAM, returncode=3,
                                          prepare=f'ulimit -f {blocks}')
                self.assertEqual(run.out, '20\nFalse\n')
                self.assert_one_warning(run, 'cannot write', run.map_path,
                                        os.strerror(errno.EFBIG))
                self.assertEqual(parsers.overlapping(run.entries), [])

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
            print('alive')
            """)
        self.assert_one_warning(run, 'cannot write', run.map_path)
        self.assert_good_map(run.entries)

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
        self.assert_good_map(run.entries)


# Runs the rest of its command line with no right to make memory executable:
# a filter that answers mprotect(..., PROT_EXEC) with EPERM.
FORBID_EXECUTABLE_MEMORY = """\
    import ctypes, os, platform

    class Instruction(ctypes.Structure):
        _fields_ = [('code', ctypes.c_uint16), ('jt', ctypes.c_uint8),
                    ('jf', ctypes.c_uint8), ('k', ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [('len', ctypes.c_uint16),
                    ('filter', ctypes.POINTER(Instruction))]

    def forbid_executable_memory():
        mprotect = 10 if platform.machine() == 'x86_64' else 226
        instructions = (Instruction * 6)(
            (0x20, 0, 0, 0),            # load the number of the call
            (0x15, 0, 3, mprotect),     # unless it is mprotect, allow it
            (0x20, 0, 0, 32),           # load the third argument
            (0x45, 0, 1, 4),            # unless PROT_EXEC is in it, allow it
            (0x06, 0, 0, 0x50001),      # fail with EPERM
            (0x06, 0, 0, 0x7fff0000))   # allow
        libc = ctypes.CDLL(None, use_errno=True)
        zero = ctypes.c_ulong(0)
        if (libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero)
                or libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(Program(
                    len(instructions), instructions)))):
            raise OSError(ctypes.get_errno(), 'no filter')
    """


@fixtures.requires_the_kernel
@unittest.skipUnless(sys.platform == 'linux', 'seccomp is of Linux')
class ExecutableMemoryTests(fixtures.PerfTestCase):

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
                for mode in ('perf', None)]
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
            print(sys.activate_stack_trampoline('perf'))
            print(late())
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual(run.out, 'None\nlate\nFalse\n')
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
        self.assertIn(self.script_name('early'), run.names)
        self.assert_good_map(run.entries)

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
        self.assertIn(self.script_name('in_parent'), run.names)
        self.track(run.out)
        self.assert_one_warning(run, 'memory executable',
                                os.strerror(errno.EPERM))


@fixtures.requires_root
@unittest.skipUnless(sys.platform == 'linux', 'needs mount namespaces')
class MountTests(fixtures.PerfTestCase):
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


@unittest.skipUnless(sys.platform == 'linux', 'needs /proc')
class ForkTests(fixtures.PerfTestCase):

    def test_a_parents_map_that_is_gone_does_the_child_no_harm(self):
        import_helper.import_module('_testinternalcapi')
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_python(f"""\
                    import os, _testinternalcapi

                    def in_child():
                        return 7

                    _testinternalcapi.perf_trampoline_set_persist_after_fork(
                        {persist})
                    os.unlink(f'/tmp/perf-{{os.getpid()}}.map')
                    child = os.fork()
                    if not child:
                        os._exit(in_child())
                    assert os.waitpid(child, 0)[1] == 7 << 8
                    print(child)
                    """)
                child = parsers.read_map(self.track(run.out))
                names = [entry.name for entry in child]
                if self.script_name('in_child') not in names:
                    self.assert_one_warning(run)

    def test_a_child_that_closed_everything_has_its_map(self):
        run = self.run_python("""\
            import os

            def in_child(): pass

            child = os.fork()
            if not child:
                os.closerange(0, 20_000)
                in_child()
                os._exit(0)
            os.waitpid(child, 0)
            print(child)
            """)
        names = [entry.name
                 for entry in parsers.read_map(self.track(run.out))]
        self.assertIn(self.script_name('in_child'), names)


if __name__ == '__main__':
    unittest.main()
