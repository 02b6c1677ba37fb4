"""The C API: writing entries to /tmp/perf-PID.map.

In each test a child writes and the test reads its file.  The child calls the C
functions through _testinternalcapi.  It uses ctypes for names that are not
valid UTF-8 and for calls without the GIL.
"""

import os
import stat
import sys
import unittest

from test.support import import_helper
from test.test_perf import fixtures, parsers

# CPython 3.12 to 3.14 declare the size of an entry as unsigned int.
large_sizes = unittest.skipIf((3, 12) <= sys.version_info < (3, 15),
                              'the release declares a size of 32 bits')


def setUpModule():
    fixtures.require_trampoline()
    import_helper.import_module('_testinternalcapi')


class MapFileTests(fixtures.PerfTestCase):
    """_testinternalcapi.write_perf_map_entry(), perf_map_state_teardown()."""

    def write(self, *statements, **options):
        """Run statements in a child that has profiling off."""
        source = ('from _testinternalcapi import (\n'
                  '    write_perf_map_entry as write,\n'
                  '    perf_map_state_teardown as teardown)\n'
                  + '\n'.join(statements))
        return self.run_python(source, mode=None, **options)

    def written(self, run):
        with open(run.map_path, 'rb') as file:
            return file.read()

    def test_an_entry_is_a_line_of_start_size_and_name(self):
        run = self.write('print(write(0xABCDEF0123, 0xfa, "a name"))')
        self.assertEqual(run.out, '0\n')
        self.assertEqual(self.written(run), b'abcdef0123 fa a name\n')

    def test_entries_come_one_after_the_other(self):
        run = self.write('write(0x1000, 1, "first")',
                         'write(0x2000, 2, "second")',
                         'write(0x1800, 3, "third")')
        self.assertEqual(
            self.written(run), b'1000 1 first\n2000 2 second\n1800 3 third\n')

    def test_the_ends_of_the_number_ranges_are_written_whole(self):
        run = self.write('write(2**47 - 1, 2**32 - 1, "high")',
                         'write(1, 0, "low")')
        self.assertEqual(self.written(run),
                         b'7fffffffffff ffffffff high\n1 0 low\n')

    @large_sizes
    def test_a_size_of_more_than_32_bits_is_written_whole(self):
        run = self.write('write(16, 2**33, "large")',
                         'write(32, 2**33 + 1, "larger")',
                         'write(48, 2**64 - 1, "largest")')
        self.assertEqual(self.written(run),
                         b'10 200000000 large\n20 200000001 larger\n'
                         b'30 ffffffffffffffff largest\n')

    def test_a_size_that_is_no_size_is_refused(self):
        run = self.write('for size in (-1, 2**64):',
                         '    try:',
                         '        write(16, size, "name")',
                         '    except OverflowError:',
                         '        print("refused")')
        self.assertEqual(run.out, 'refused\nrefused\n')
        self.assertFalse(run.has_map)

    def test_the_file_is_its_owners_alone(self):
        run = self.write('import os', 'os.umask(0)', 'write(1, 1, "name")')
        status = os.stat(run.map_path)
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertEqual(status.st_uid, os.geteuid())

    def test_without_an_entry_there_is_no_file(self):
        self.assertFalse(self.write().has_map)

    def test_an_entry_is_in_the_file_when_the_call_returns(self):
        run = self.write('import os',
                         'write(0x10, 1, "name")',
                         'path = f"/tmp/perf-{os.getpid()}.map"',
                         'with open(path) as file:',
                         '    print(file.read(), end="", flush=True)',
                         'write(0x20, 1, "last")',
                         'os._exit(0)')
        self.assertEqual(run.out, '10 1 name\n')
        self.assertEqual(self.written(run), b'10 1 name\n20 1 last\n')

    def test_the_file_is_continued_after_a_teardown(self):
        run = self.write('write(0x10, 1, "before")',
                         'teardown()',
                         'print(write(0x20, 1, "after"))')
        self.assertEqual(run.out, '0\n')
        self.assertEqual(self.written(run), b'10 1 before\n20 1 after\n')

    def test_tearing_down_twice_or_for_nothing_does_no_harm(self):
        run = self.write('teardown()', 'teardown()', 'write(16, 1, "name")',
                         'teardown()', 'teardown()')
        self.assertEqual(self.written(run), b'10 1 name\n')

    def test_a_teardown_closes_the_descriptor(self):
        run = self.write(
            'import os',
            'count = lambda: len(os.listdir("/proc/self/fd"))',
            'before = count()',
            'write(1, 1, "name")',
            'print(count() - before)',
            'teardown()',
            'print(count() - before)')
        self.assertEqual(run.out, '1\n0\n')

    def test_the_file_of_an_earlier_process_is_started_afresh(self):
        run = self.write('write(0x10, 1, "new")',
                         prepare='echo "10 1 an old name" >"$MAP"')
        self.assertEqual(self.written(run), b'10 1 new\n')

    def test_a_name_is_kept_on_one_line(self):
        names = {
            r'a\nb': r'a\nb',
            r'a\rb\tc': r'a\rb\tc',
            r'a\\b': r'a\\b',
            r'\x1b[31m\x01\x7f': r'\x1b[31m\x01\x7f',
            r'\x85\x9f': r'\x85\x9f',
            r'\u2028\u2029': r'\u2028\u2029',
            r'1 1 x\n2 2 y': r'1 1 x\n2 2 y',
            r'Gr\xfc\xdfe \u65e5\u672c \U0001f40d': 'Grüße 日本 🐍',
        }
        for literal, expected in names.items():
            with self.subTest(name=literal):
                run = self.write(f'write(16, 1, "{literal}")')
                line = f'10 1 {expected}\n'
                self.assertEqual(self.written(run).decode(), line)

    def test_a_name_of_100_000_characters_is_written_whole(self):
        run = self.write('write(16, 1, "n" * 99_999 + "é")',
                         'write(32, 1, "next")')
        self.assertEqual(self.written(run).decode(),
                         '10 1 ' + 'n' * 99_999 + 'é\n20 1 next\n')

    def test_minus_one_tells_that_the_file_cannot_be_opened(self):
        target = self.path('target')
        run = self.write('print(write(1, 1, "name"))',
                         prepare=f'echo precious >{target}; '
                                 f'ln -s {target} "$MAP"')
        self.assertEqual(run.out, '-1\n')
        with open(target) as file:
            self.assertEqual(file.read(), 'precious\n')

    def test_a_file_that_could_not_be_opened_is_tried_again(self):
        run = self.write('import os',
                         'print(write(1, 1, "name"))',
                         'os.rmdir(f"/tmp/perf-{os.getpid()}.map")',
                         'print(write(2, 1, "again"))',
                         prepare='mkdir "$MAP"')
        self.assertEqual(run.out, '-1\n0\n')
        self.assertEqual(self.written(run), b'2 1 again\n')

    def test_entries_and_functions_share_one_file(self):
        run = self.run_python("""\
            from _testinternalcapi import write_perf_map_entry

            def function():
                pass

            write_perf_map_entry(16, 1, 'of another compiler')
            function()
            """)
        self.assertIn('of another compiler', run.names)
        self.assert_written(run, 'function')

    def test_a_forked_child_writes_to_a_file_of_its_own(self):
        run = self.write(
            'import os',
            'write(0x10, 1, "parent")',
            'child = os.fork()',
            'if not child:',
            '    write(0x20, 1, "child")',
            '    os._exit(0)',
            'os.waitpid(child, 0)',
            'write(0x30, 1, "parent again")',
            'print(child)')
        child = self.track(run.out)
        self.assertEqual(self.written(run),
                         b'10 1 parent\n30 1 parent again\n')
        self.assertEqual(
            [entry.name for entry in parsers.read_map(child)], ['child'])

    def test_many_threads_tear_no_line(self):
        run = self.write(
            'import threading',
            'def work(n):',
            '    for i in range(500):',
            '        write(n << 32 | i << 4, 16, f"{n} {i} " + "x" * 200 * n)',
            'threads = [threading.Thread(target=work, args=(n,))',
            '           for n in range(1, 9)]',
            'for thread in threads: thread.start()',
            'for thread in threads: thread.join()')
        expected = {(n << 32 | i << 4, 16, f'{n} {i} ' + 'x' * 200 * n)
                    for n in range(1, 9) for i in range(500)}
        self.assertEqual(len(run.entries), len(expected))
        self.assertEqual(set(run.entries), expected)


class CFunctionTests(fixtures.PerfTestCase):
    """The C functions, called as C code calls them."""

    def setUp(self):
        super().setUp()
        import_helper.import_module('ctypes')

    def call(self, *statements, **options):
        """Run statements.  `c` is the C library of the interpreter, without
        the GIL.
        """
        source = ('import ctypes, os\n'
                  'c = ctypes.CDLL(None)\n'
                  'def write(address, size, name):\n'
                  '    return c.PyUnstable_WritePerfMapEntry(\n'
                  '        ctypes.c_void_p(address), ctypes.c_size_t(size),\n'
                  '        ctypes.c_char_p(name))\n'
                  'def copy(path):\n'
                  '    path = os.fsencode(path)\n'
                  '    return c.PyUnstable_CopyPerfMapFile(path)\n'
                  + '\n'.join(statements))
        return self.run_python(source, mode=None, **options)

    def written(self, run):
        with open(run.map_path, 'rb') as file:
            return file.read()

    def test_init_opens_and_fini_closes(self):
        run = self.call(
            'count = lambda: len(os.listdir("/proc/self/fd"))',
            'before = count()',
            'print(c.PyUnstable_PerfMapState_Init(), count() - before)',
            'print(c.PyUnstable_PerfMapState_Init(), count() - before)',
            'c.PyUnstable_PerfMapState_Fini()',
            'print(count() - before)')
        self.assertEqual(run.out, '0 1\n0 1\n0\n')
        self.assertEqual(self.written(run), b'')

    @large_sizes
    def test_a_size_of_more_than_32_bits_is_written_whole(self):
        run = self.call('print(write(16, 2**33, b"large"))')
        self.assertEqual(run.out, '0\n')
        self.assertEqual(self.written(run), b'10 200000000 large\n')

    def test_init_tells_that_the_file_cannot_be_opened(self):
        run = self.call('print(c.PyUnstable_PerfMapState_Init())',
                        prepare='mkdir "$MAP"')
        self.assertEqual(run.out, '-1\n')

    def test_no_gil_is_needed(self):
        run = self.call(
            'import threading',
            'def work(n):',
            '    for i in range(500):',
            '        write(n << 32 | i << 4, 16, b"%d %d" % (n, i))',
            'threads = [threading.Thread(target=work, args=(n,))',
            '           for n in range(1, 9)]',
            'for thread in threads: thread.start()',
            'for thread in threads: thread.join()')
        self.assertEqual(
            set(run.entries),
            {(n << 32 | i << 4, 16, f'{n} {i}')
             for n in range(1, 9) for i in range(500)})

    def test_bytes_that_are_no_utf_8_are_escaped(self):
        names = {
            rb'\xff\xfe': rb'\xff\xfe',
            rb'cut \xe2\x82': rb'cut \xe2\x82',
            rb'surrogate \xed\xb2\x80': None,
            rb'overlong \xc0\xaf': rb'overlong \xc0\xaf',
            rb'beyond \xf4\x90\x80\x80': rb'beyond \xf4\x90\x80\x80',
            rb'lone \x80': rb'lone \x80',
        }
        for literal, expected in names.items():
            with self.subTest(name=literal):
                run = self.call(f'write(16, 1, b"{literal.decode()}")')
                line = self.written(run)
                line.decode('ascii')
                self.assertEqual(line.count(b'\n'), 1)
                if expected is not None:
                    self.assertEqual(line, b'10 1 ' + expected + b'\n')

    def test_a_copy_is_appended(self):
        other = self.path('other.map')
        with open(other, 'w') as file:
            file.write('30 1 théirs\n40 1 theirs too\n')
        run = self.call('write(16, 1, b"ours")',
                        f'print(copy({other!r}))',
                        'write(32, 1, b"ours again")')
        self.assertEqual(run.out, '0\n')
        self.assertEqual(self.written(run).decode(),
                         '10 1 ours\n30 1 théirs\n40 1 theirs too\n'
                         '20 1 ours again\n')

    def test_a_copy_opens_our_file(self):
        other = self.path('other.map')
        with open(other, 'w') as file:
            file.write('30 1 theirs\n')
        run = self.call(f'print(copy({other!r}))')
        self.assertEqual(run.out, '0\n')
        self.assertEqual(self.written(run), b'30 1 theirs\n')

    def test_a_copy_of_any_size_is_whole(self):
        for size in (0, 100, 4095, 4096, 4097, 8192, 32768, 65535, 65536,
                     131072, 1 << 20, (1 << 20) + 1):
            with self.subTest(size=size):
                line = b'30 1 ' + b'x' * 94 + b'\n'
                count, rest = divmod(size, 100)
                data = line * count
                if rest:
                    data = (b'30 1 ' + b'y' * (94 + rest) + b'\n'
                            + data[100:])
                other = self.path('other.map')
                with open(other, 'wb') as file:
                    file.write(data)
                self.assertEqual(len(data), size)
                run = self.call(f'print(copy({other!r}))',
                                'write(16, 1, b"after")')
                self.assertEqual(run.out, '0\n')
                self.assertTrue(self.written(run) == data + b'10 1 after\n')

    def test_a_copy_that_ends_in_the_middle_of_a_line_tears_no_other(self):
        other = self.path('other.map')
        with open(other, 'w') as file:
            file.write('30 1 whole\n40 1 cut o')
        run = self.call(f'copy({other!r})', 'write(16, 1, b"after")')
        self.assertEqual(run.entries[0], (0x30, 1, 'whole'))
        self.assertEqual(run.entries[-1], (0x10, 1, 'after'))

    def test_a_copy_of_nothing_is_minus_one(self):
        run = self.call(f'print(copy({self.path("missing")!r}))',
                        f'print(copy({self.directory!r}))',
                        'write(16, 1, b"after")')
        self.assertEqual(run.out, '-1\n-1\n')
        self.assertEqual(self.written(run), b'10 1 after\n')

    def test_a_copy_into_a_file_refused_is_minus_one(self):
        other = self.path('other.map')
        with open(other, 'w') as file:
            file.write('30 1 theirs\n')
        run = self.call(f'print(copy({other!r}))', prepare='mkdir "$MAP"')
        self.assertEqual(run.out, '-1\n')

    def test_compiling_code_while_off_does_nothing(self):
        run = self.run_python("""\
            from _testinternalcapi import compile_perf_trampoline_entry

            def function():
                pass

            print(compile_perf_trampoline_entry(function.__code__))
            """, mode=None)
        self.assertEqual(run.out, '0\n')
        self.assertFalse(run.has_map)

    def test_compiled_code_is_announced_without_being_run(self):
        run = self.run_python("""\
            from _testinternalcapi import compile_perf_trampoline_entry

            def function():
                print('was run')

            print(compile_perf_trampoline_entry(function.__code__))
            print(compile_perf_trampoline_entry(function.__code__))
            """)
        self.assertEqual(run.out, '0\n0\n')
        self.assert_written(run, 'function')

    def test_compiled_code_keeps_its_trampoline_when_called(self):
        run = self.run_python("""\
            from _testinternalcapi import compile_perf_trampoline_entry

            def function():
                return 'was run'

            compile_perf_trampoline_entry(function.__code__)
            print(function())
            """)
        self.assertEqual(run.out, 'was run\n')
        self.assert_written(run, 'function')

    def test_only_code_can_be_compiled(self):
        self.run_python("""\
            from _testinternalcapi import compile_perf_trampoline_entry

            for wrong in (None, len, compile_perf_trampoline_entry, 'code'):
                try:
                    compile_perf_trampoline_entry(wrong)
                except TypeError:
                    continue
                raise AssertionError(wrong)
            """)

    def test_persist_after_fork_returns_what_programs_of_this_release_expect(self):
        run = self.run_python("""\
            import ctypes
            set_persist = ctypes.pythonapi.PyUnstable_PerfTrampoline_SetPersistAfterFork
            print(set_persist(1), set_persist(0), set_persist(7))
            """, mode=None)
        # CPython 3.13's own callers take 0 for a failure.
        self.assertEqual(run.out, '1 1 1\n' if sys.version_info >= (3, 12) else '0 0 0\n')


if __name__ == '__main__':
    unittest.main()
