"""-X perf=calls: each Python function is really called through its trampoline."""

import collections
import re
import sys
import textwrap
import unittest

from test.test_perf import fixtures, walker
from test.test_perf.modes import MODES
from test.test_perf.programs import TELL


def setUpModule():
    fixtures.require_trampoline()


class MapTests(fixtures.PerfTestCase):

    def test_the_functions_are_announced(self):
        for mode in MODES:
            run = self.run_python(TELL, f'{mode}=calls')
            self.assert_once([name for start, end, name in walker.regions(run, mode)],
                             'tell')


class StackTests(walker.RecordTestCase):
    """Between two functions there is the eval loop that the trampoline called."""

    def setUp(self):
        super().setUp()
        fixtures.require_frame_pointers()

    SOURCE = """\
        import sys
        class Class:
            def __getitem__(self, index):
                chains.append((walk(), 'Class.__getitem__ inner outer'.split()))
        def generator():
            chains.append((walk(), 'generator inner outer'.split()))
            yield
        def inner(c):
            c[0]
            list(generator())
            for _ in generator(): pass
        def outer(c):
            inner(c)
        def many():
            c = Class()
            for _ in range(100):        # enough to be specialized
                outer(c)
        """

    def check(self, source, mode, are_called):
        names, chains = self.run_child(source, mode)
        del chains[-1:]
        self.assertGreaterEqual(len(chains), 300)
        for addresses, wanted in chains:
            chain = names.chain(addresses)
            seen = [name for name in chain if walker.is_python(name)]
            self.assertEqual(seen[:len(wanted)], wanted)
            inner, outer = chain.index('inner'), chain.index('outer')
            self.assertEqual(outer - inner > 1, are_called, chain)

    def test_each_function_is_called(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                self.check(self.SOURCE + 'many()\n', f'{mode}=calls', True)
                self.check(self.SOURCE + 'many()\n', mode, False)

    def test_switched_at_run_time(self):
        for calls in (True, False):
            for mode in (None, *MODES, *(f'{mode}=calls' for mode in MODES)):
                with self.subTest(mode=mode, calls=calls):
                    backend = (mode or 'perf').partition('=')[0]
                    self.check(self.SOURCE + f"""
        sys.activate_stack_trampoline('{backend}', calls={calls})
        many()
        """, mode, calls)

    def test_recursion_deeper_than_the_c_stack(self):
        # Each call takes C stack, without profiling none does.
        run = self.run_python("""\
            import sys
            def deep(n):
                return n and deep(n - 1)
            sys.setrecursionlimit(200_100)
            print(deep(200_000), sys.is_stack_trampoline_active())
            """, 'perf=calls')
        self.assertEqual(run.out, '0 False\n')
        self.assertEqual(len(run.warnings), 1)
        self.assertIn('recursion', run.warnings[0])

    def test_the_recursion_limit(self):
        run = self.run_python("""\
            def deep(n):
                return n and deep(n - 1)
            try:
                deep(10 ** 6)
            except RecursionError:
                print('RecursionError')
            print(deep(900))
            """, 'perf=calls', preexec_fn=fixtures.allow_large_stack)
        self.assertEqual(run.out, 'RecursionError\n0\n')
        self.assertEqual(run.err, '')


class CallgrindTests(fixtures.PerfTestCase):
    """callgrind counts calls, and resolve.py finds the names."""

    SOURCE = """\
        class Class:
            def __getitem__(self, index):
                return index
            def method(self):
                return leaf(1)
        def leaf(n):
            return n
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        def generator(n):
            for i in range(n):
                yield leaf(i)
        def raising():
            raise LookupError
        def catching():
            try:
                raising()
            except LookupError:
                pass
        def main():
            c = Class()
            for i in range(700):
                c[i]
                c.method()
            for i in range(60):
                catching()
            fibonacci(12)
            sum(generator(50))
            sorted(range(30), key=leaf)
        main()
        """

    # A generator is called once to be made, and resumed once for each value and for
    # its end.
    CALLS = {'<module>': 1, 'main': 1, 'Class': 1, 'Class.__getitem__': 700,
             'Class.method': 700, 'leaf': 700 + 50 + 30, 'fibonacci': 465,
             'generator': 1 + 51, 'raising': 60, 'catching': 60}

    def calls(self, text):
        """Return how often each function of the script was called."""
        names, calls, called = {}, collections.Counter(), None
        for line in text.splitlines():
            if match := re.fullmatch(r'(c?)fn=\((\d+)\)(?: (.*))?', line):
                kind, number, name = match.groups()
                if name:
                    names[number] = re.sub(r"'\d+$", '', name)     # of a recursion
                if kind:
                    called = names[number]
            elif match := re.match(r'calls=(\d+) ', line):
                calls[called] += int(match[1])
        suffix = ':' + self.path('script.py')
        return {name.removeprefix('py::').removesuffix(suffix): count
                for name, count in calls.items() if name.endswith(suffix)}

    @fixtures.not_emulated('valgrind here runs only programs of this processor')
    def test_the_number_of_calls(self):
        valgrind = fixtures.find_tool('VALGRIND', 'valgrind')
        resolve = fixtures.find_tool('RESOLVE', 'resolve.py')
        script = self.path('script.py')
        with open(script, 'w', encoding='utf-8') as file:
            file.write(textwrap.dedent(self.SOURCE))
        out = self.path('callgrind.out')
        self.run_command(
            [valgrind, '-q', '--tool=callgrind', f'--callgrind-out-file={out}',
             sys.executable, '-X', 'perf=calls', script])
        with open(out, encoding='utf-8') as file:
            self.track(int(re.search(r'^pid: (\d+)$', file.read(), re.M)[1]))
        run = self.run_command([sys.executable, resolve, out])
        self.assertEqual(self.calls(run.out), self.CALLS)


class MassifTests(fixtures.PerfTestCase):
    """massif shows who allocates, and resolve.py finds the names."""

    @unittest.skipIf(fixtures.FREE_THREADED,
                     'without the GIL, memory does not come from malloc()')
    @fixtures.not_emulated('valgrind here runs only programs of this processor')
    def test_who_allocates(self):
        valgrind = fixtures.find_tool('VALGRIND', 'valgrind')
        resolve = fixtures.find_tool('RESOLVE', 'resolve.py')
        out = self.path('massif.out')
        command = self.python_command("""\
            import os
            def allocate(n): return [bytearray(10_000) for i in range(n)]
            def keep(): return allocate(200)
            def main(): return keep()
            kept = main()
            print(os.getpid())
            """)
        run = self.run_command([valgrind, '-q', '--tool=massif', '--depth=60',
                                f'--massif-out-file={out}', *command])
        pid = self.track(run.out)
        self.run_command([sys.executable, resolve, '--pid', str(pid), out, '-o', out])
        with open(out) as file:
            names = re.findall(r'^ *n\d+: (\d+) 0x[0-9A-F]+: py::(\S+?):', file.read(), re.M)
        largest = {name: max(int(size) for size, other in names if other == name)
                   for _, name in names}
        for name in ('allocate', 'keep', 'main', '<module>'):
            self.assertGreaterEqual(largest[name], 2_000_000)


class ResolveTests(fixtures.PerfTestCase):
    """resolve.py alone."""

    MAP = '1000 20 py::f:/a b\n2000 10 py::g\n1000 20 py::again\nbad line\n'

    def resolve(self, text, *options, **rest):
        tool = fixtures.find_tool('RESOLVE', 'resolve.py')
        with open(self.path('map'), 'w') as file:
            file.write(self.MAP)
        with open(self.path('in'), 'w') as file:
            file.write(text)
        return self.run_command(
            [sys.executable, tool, *options, self.path('in')], **rest)

    def test_addresses_in_entries_are_replaced(self):
        run = self.resolve('at 0x1000, 0x101f 0x1020 0xfff 0x0000000000002004 0x200g\n',
                           '--map', self.path('map'))
        self.assertEqual(run.out, 'at py::again, py::again 0x1020 0xfff py::g 0x200g\n')
        self.assertEqual(run.err, '')

    def test_what_each_tool_writes(self):
        for tool, text, expected in (
                # massif and ms_print; ms_print reads the file again
                ('massif', '->9.0% (8B) 0x1003: ???\n  n1: 5 0x9009: f (a.c:1)\n',
                 '->9.0% (8B) 0x1003: py::again\n  n1: 5 0x9009: f (a.c:1)\n'),
                ('heaptrack', '    0x1003\n      in ??\n', '    py::again\n      in ??\n'),
                ('gperftools', 'main;0x000000000000100f;0x0000000000002001;f 7\n',
                 'main;py::again;py::g;f 7\n'),
                ('eu-stack', '#8  0x0000000000002004\n#9  0x0000000000003004 f\n',
                 '#8  py::g\n#9  0x0000000000003004 f\n'),
                ('gdb', '#3  0x0000000000002004 in ?? ()\n', '#3  py::g in ?? ()\n')):
            with self.subTest(tool=tool):
                run = self.resolve(text, '--map', self.path('map'))
                self.assertEqual(run.out, expected)

    HEAPTRACK = ('v 10400 3\nX python\nI 1000 10\ns 3 /py\ns 1 f\ni 9009 1 2 1 a\nt 1 0\n'
                 'i 1003 0\ns 3 a.c\ni 9109 1 2 3 b 2 3 3\ni 2000 0\ni 1010 0\ni 3000 0\n'
                 'i 1003 1 2 0 0\n+ 1\n')
    HEAPTRACK_NAMED = (
        'v 10400 3\nX python\nI 1000 10\ns 3 /py\ns 1 f\ni 9009 1 2 1 a\nt 1 0\n'
        's c py::[a]\\x3bb\ni 1003 0 3 0 0\ns 3 a.c\ni 9109 1 2 4 b 2 4 3\n'
        's 5 py::g\ni 2000 0 5 0 0\ni 1010 0 3 0 0\ni 3000 0\ni 1003 1 2 0 0\n+ 1\n')

    def test_the_file_of_heaptrack(self):
        # A name is one more string, so the numbers of later strings change.
        self.MAP = '1000 20 py::<a>;b\n2000 10 py::g\n'
        options = ('--map', self.path('map'))
        self.assertEqual(self.resolve(self.HEAPTRACK, *options).out, self.HEAPTRACK_NAMED)
        text = self.HEAPTRACK.replace('v 10400 3', 'v 10200 2')
        run = self.resolve(text, *options, returncode=1)
        self.assertEqual(run.out, '')
        self.assertIn('only format 3 is known', run.err)
        run = self.resolve(self.HEAPTRACK, returncode=1)
        self.assertIn('--pid', run.err)
        for line in 'i 1003', 'i x 0', 'i 1003 9':
            with self.subTest(line=line):
                run = self.resolve(f'v 10400 3\n{line}\n', *options, returncode=1)
                self.assertEqual(run.out, '')
                self.assertIn('line 2 of the file of heaptrack is damaged', run.err)

    def test_compressed_files(self):
        zstd = fixtures.find_tool('ZSTD', 'zstd')
        tool = fixtures.find_tool('RESOLVE', 'resolve.py')
        self.resolve('0x2000\n', '--map', self.path('map'), '-o', self.path('out.zst'))
        self.run_command([zstd, '-dq', self.path('out.zst')])
        with open(self.path('out')) as file:
            self.assertEqual(file.read(), 'py::g\n')
        for ending in ('.zst', '.gz'):
            with self.subTest(ending=ending):
                first, second = self.path('1' + ending), self.path('2' + ending)
                self.resolve('0x1000 0x2000\n', '--map', self.path('map'), '-o', first)
                self.run_command([sys.executable, tool, '--map', self.path('map'),
                                  first, '-o', second])
                run = self.run_command([sys.executable, tool, '--map', self.path('map'),
                                        second])
                self.assertEqual(run.out, 'py::again py::g\n')
                with open(second, 'rb') as file:
                    damaged = bytearray(file.read())
                damaged[12] ^= 0xff
                for data in b'neither', damaged:
                    with open(first, 'wb') as file:
                        file.write(data)
                    run = self.run_command([sys.executable, tool, '--map', self.path('map'),
                                            first], returncode=1)
                    self.assertEqual(run.err.count('\n'), 1)
        run = self.run_command([sys.executable, tool, '--map', self.path('map'),
                                self.path('2.zst')], returncode=1, env={'PATH': '/nowhere'})
        self.assertIn('install zstd', run.err)

    def test_semicolons_in_names_do_no_harm(self):
        self.MAP = '1000 20 py::a;b:/x\n'
        run = self.resolve('main;0x1000;f 7\n', '--map', self.path('map'))
        self.assertEqual(run.out, r'main;py::a\x3bb:/x;f 7' + '\n')

    def test_each_process_has_its_own_map(self):
        for pid in (999999998, 999999999):
            with open(f'/tmp/perf-{self.track(pid)}.map', 'w') as file:
                file.write(f'1000 20 py::of_{pid}\n')
        for marker in ('pid: {}', 'PID {} - process'):
            with self.subTest(marker=marker):
                first, second = map(marker.format, (999999998, 999999999))
                run = self.resolve(f'x\n{first}\n0x1000\n{second}\n0x1000\n')
                self.assertEqual(run.out, f'x\n{first}\npy::of_999999998\n'
                                          f'{second}\npy::of_999999999\n')
        run = self.resolve('0x1000\n', '--pid', '999999998')
        self.assertEqual(run.out, 'py::of_999999998\n')

    def test_the_output_may_be_a_file(self):
        run = self.resolve('0x2000\n', '--map', self.path('map'),
                           '-o', self.path('out'))
        self.assertEqual(run.out, '')
        with open(self.path('out')) as file:
            self.assertEqual(file.read(), 'py::g\n')

    def test_what_is_missing(self):
        for text, options, word in (
                ('no number', (), '--map'),
                ('pid: 999999999\n', (), '/tmp/perf-999999999.map'),
                ('', ('--map', self.path('no')), self.path('no')),
                ('', ('--map', self.path('map'), '-o', self.path('no/out')),
                 self.path('no/out'))):
            with self.subTest(options=options):
                run = self.resolve(text, *options, returncode=1)
                self.assertEqual(run.out, '')
                self.assertEqual(run.err.count('\n'), 1)
                self.assertIn(word, run.err)


if __name__ == '__main__':
    unittest.main()
