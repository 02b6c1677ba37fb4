"""annotate.py: the time of each line of the source.

How the page behaves in a browser is in test_reports_page.py.
"""

import json
import os
import pty
import re
import resource
import statistics
import subprocess
import sys
import unittest

from test.test_perf import fixtures, scenarios
from test.test_perf.reports import (
    BadInputTests, ReportTestCase, below, sample, without_colors)

ROW = re.compile(r'(?:([ \d.]{6})%| {7}) (?:([ \d.]{6})%| {7}) *(\d+)  ?(.*)')
NATIVE = re.compile(r' *([\d.]+)% {12,}(\S.*) \((.*)\)(?:, called by (.*))?')


def setUpModule():
    fixtures.require_trampoline()


class Text:
    """What annotate.py has printed.

    files   {path: {line: (own, total, text, native)}}; native are the functions below the
            line: (share, name, object file, caller)
    notes   {path: what the reader should know}
    """

    def __init__(self, text):
        self.files = {}
        self.notes = {}
        lines = None
        for line in text.splitlines():
            header = re.fullmatch(r'(.*?)   own .*?, total \S*(?:   \((.*)\))?', line)
            row = ROW.fullmatch(line)
            native = NATIVE.fullmatch(line)
            if header:
                lines = self.files[header[1]] = {}
                self.notes[header[1]] = header[2]
            elif row:
                number = int(row[3])
                lines[number] = float(row[1] or 0), float(row[2] or 0), row[4], []
            elif native:
                lines[number][3].append((float(native[1]), *native.groups()[1:]))


class TextTests(BadInputTests, ReportTestCase):
    """Recordings that were written by hand."""

    command = 'annotate.py'

    def annotated(self, text, *arguments, **options):
        run = self.report('--percent-limit=0', *arguments, text=text, **options)
        return Text(run.out)

    def script(self, source='def f():\n    g()\n    h()\n\nf()\n', name='script.py'):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w' if isinstance(source, str) else 'wb') as file:
            file.write(source)
        os.utime(path, (1e9, 1e9))
        return path

    def test_own_and_total_of_each_line(self):
        path = self.script()
        f = [f'py::f:{path}:{line}' for line in range(6)]
        module = f'py::<module>:{path}:5'
        text = self.annotated(
            sample(*below(f[2], module)) + sample(*below(f[3], module)) * 2
            + sample(*below(f'py::g:{path}:9'[:-1] + '1', f[2], module)) * 7)
        lines = text.files[path]
        self.assertEqual({number: row[:3] for number, row in lines.items()}, {
            1: (70, 70, 'def f():'), 2: (10, 80, '    g()'), 3: (20, 20, '    h()'),
            4: (0, 0, ''), 5: (0, 100, 'f()')})
        self.assertIsNone(text.notes[path])

    def test_native_functions_most_expensive_first(self):
        path = self.script()
        f = below(f'py::f:{path}:2')
        zlib = ('zlib_compress (/lib/zlib.cpython-311-x86_64-linux-gnu.so)',
                'cfunction_vectorcall_O', 'PyObject_Vectorcall')
        text = self.annotated(
            sample('PyNumber_Add', *f) * 2
            + sample('deflate_fast (/lib/libz.so.1.2.13)', *zlib, *f) * 5
            + sample('vfs_read ([kernel.kallsyms])', '__read (/lib/libc.so.6)', 'os_read', *f)
            * 3
            + sample(*f))
        self.assertEqual(text.files[path][2][3], [
            (45.45, 'deflate_fast', 'libz.so.1', 'zlib_compress'),
            (27.27, 'vfs_read', 'kernel', 'os_read'),
            (18.18, 'PyNumber_Add', 'python3', None),
            (9.09, '_PyEval_EvalFrameDefault', 'python3', None)])

    def test_functions_without_a_name_are_named_by_what_is_around_them(self):
        path = self.script()
        text = self.annotated(sample(
            '[unknown] (/lib/libz.so.1)', '[unknown] (/lib/libz.so.1)',
            'deflate (/lib/libz.so.1)', 'zlib_compress', *below(f'py::f:{path}:2')))
        self.assertEqual(text.files[path][2][3],
                         [(100, '[in deflate]', 'libz.so.1', 'zlib_compress')])

    def test_libraries_without_frame_pointers(self):
        path = self.script()
        usual = sample(*below(f'py::f:{path}:2'))
        text = usual + sample('deflate (/lib/libz.so.1)') * 3
        run = self.report(text=text)
        self.assertIn('75.00% of all samples have no Python function: libz.so.1 (3).',
                      run.out)
        self.assertIn('perf_jit=lines', run.out)
        run = self.report(text=usual * 9 + sample('deflate (/lib/libz.so.1)'))
        self.assertNotIn('no Python function', run.out)

    def test_a_line_is_counted_once_in_a_sample(self):
        path = self.script()
        f = f'py::f:{path}:2'
        text = self.annotated(sample(*below(f, f, f)))
        self.assertEqual(text.files[path][2][:2], (100, 100))

    def test_frozen_modules_have_a_source(self):
        self.script('def _handle():\n    pass\n', 'lib/python3.11/importlib/_bootstrap.py')
        other = self.script('x\n', 'lib/python3.11/other.py')
        text = self.annotated(
            sample(*below('py::_handle:<frozen importlib._bootstrap>:2'))
            + sample(*below(f'py::<module>:{other}:1')))
        self.assertEqual(text.files['<frozen importlib._bootstrap>'][1][2], 'def _handle():')

    def test_a_source_that_is_gone(self):
        path = self.path('gone.py')
        text = self.annotated(sample(*below(f'py::f:{path}:17'))
                              + sample(*below('py::g:<string>:3')))
        self.assertEqual(text.files[path], {17: (50, 50, '', [
            (50, '_PyEval_EvalFrameDefault', 'python3', None)])})
        self.assertIn('No such file', text.notes[path])
        self.assertIn('no source file', text.notes['<string>'])

    def test_a_source_that_has_changed(self):
        path = self.script()
        self.assertIn('has changed', self.annotated(
            sample(*below(f'py::f:{path}:17'))).notes[path])
        os.utime(path, (2e9, 2e9))
        self.assertIn('since the recording', self.annotated(
            sample(*below(f'py::f:{path}:2'))).notes[path])

    def test_sources_that_are_no_text_or_no_files(self):
        for name, source in (('latin.py', b'# coding: latin-1\nx = "\xe9"\n'),
                             ('bad.py', b'x\n\xff\xfe\n\n'), ('empty.py', b''),
                             ('bom.py', b'\xef\xbb\xbfx\ny\n'), ('nul.py', b'\0\n\0\n'),
                             ('coding.py', b'# coding: none\nx\n'), ('ends.py', b'x\ry\r\nz'),
                             ('hex.py', b'# coding: hex\nx\n'),
                             ('idna.py', b'# coding: idna\nx..\n')):
            with self.subTest(name=name):
                path = self.script(source, name)
                self.assertIn(path, self.annotated(
                    sample(*below(f'py::f:{path}:2'))).files)
        os.mkfifo(self.path('fifo.py'))
        for path in (self.path('fifo.py'), self.directory, '/dev/zero'):
            with self.subTest(path=path):
                self.assertIn('not a regular file', self.annotated(
                    sample(*below(f'py::f:{path}:2'))).notes[path])
        self.assertEqual(
            self.annotated(sample(*below(f'py::f:{self.path("latin.py")}:2')))
            .files[self.path('latin.py')][2][2], 'x = "é"')

    def test_names_that_the_map_has_changed(self):
        for name, written in (('back\\slash.py', r'back\\slash.py'),
                              ('new\nline.py', r'new\nline.py'), ('ü.py', 'ü.py'),
                              ('esc\x1b.py', r'esc\x1b.py'),
                              ('not utf-8 \udcff.py', r'not utf-8 \udcff.py'),
                              (r'plain\n.py', r'plain\n.py')):
            with self.subTest(name=ascii(name)):
                self.script('one\ntwo\n', name)
                path = self.path(written)
                for locale in 'C.UTF-8', 'C':
                    env = fixtures.clean_environment(
                        LC_ALL=locale, PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
                    text = self.annotated(sample(*below(f'py::f:{path}:2')), env=env)
                    [(_, lines)] = text.files.items()
                    self.assertEqual(lines[2][2], 'two')

    def test_paths_with_two_slashes(self):
        path = '/' + self.script()
        self.assertEqual(
            self.annotated(sample(*below(f'py::f:{path}:2'))).files[path][2][2], '    g()')

    def test_no_line_is_hot(self):
        run = self.report('--percent-limit=60', text=''.join(
            sample(*below(f'py::f:/s.py:{line}')) for line in (1, 2)))
        self.assertIn('No line has 60% or more', run.out)

    def test_sources_that_have_moved(self):
        path = self.script('one\ntwo\n', 'new/a.py')
        text = self.annotated(sample(*below('py::f:/old/place/a.py:2')),
                              f'--source=/old/place={os.path.dirname(path)}')
        self.assertEqual(text.files['/old/place/a.py'][2][2], 'two')
        self.assert_refused('expected OLD=NEW', arguments=['--source=/old'],
                            text=sample(*below('py::f:/x.py:1')))

    def test_no_lines(self):
        self.assert_refused('has no lines', '-X perf=lines',
                            text=sample(*below('py::f:/s.py')))
        self.assert_refused(
            'has no lines; /no/jit-7.dump is missing',
            text=sample(*below('py::f:/s.py')).replace('/tmp/perf-7.map',
                                                       '/no/jitted-7-1.so'))

    def test_color_on_a_terminal_only(self):
        path = self.script()
        text = sample(*below(f'py::f:{path}:2'))
        plain = self.report(text=text).out
        self.assertNotIn('\x1b', plain)
        colored = self.report('--color=always', text=text).out
        self.assertIn('\x1b[1;31m', colored)
        self.assertEqual(without_colors(colored), plain)
        for environment, on in (({}, True), ({'NO_COLOR': '1'}, False),
                                ({'TERM': 'dumb'}, False)):
            with self.subTest(environment=environment):
                out = self.on_a_terminal(environment)
                self.assertEqual('\x1b[1;31m' in out, on)
                self.assertIn('g()', out)

    def on_a_terminal(self, environment):
        """Return what the command writes to a terminal."""
        ours, theirs = pty.openpty()
        env = fixtures.clean_environment(**{'TERM': 'xterm', **environment})
        if 'NO_COLOR' not in environment:
            env.pop('NO_COLOR', None)
        with subprocess.Popen(
                [sys.executable, '-E', os.path.join(self.profilers, self.command),
                 self.path('perf.txt')], stdin=subprocess.DEVNULL, stdout=theirs,
                env=env) as child:
            os.close(theirs)
            out = b''
            try:
                while data := os.read(ours, 4096):
                    out += data
            except OSError:
                pass                    # the other end is closed
            os.close(ours)
        self.assertEqual(child.returncode, 0)
        return out.decode()

    def test_control_characters_do_not_reach_the_terminal(self):
        path = self.script('x = "\x1b]0;title\x07"\n')
        out = self.report(text=sample('\x1b[5m (/x)', *below(f'py::f\x1b[m:{path}:1'))).out
        self.assertNotIn('\x1b', out)
        self.assertNotIn('\x07', out)

    def test_the_data_of_a_page_does_not_end_the_script(self):
        path = self.script('x = "</script><!--"\n', 'a<b>.py')
        page = self.path('page.html')
        self.report('-o', page, '--title', '</title><script>',
                    text=sample('</script> (/x)', *below(f'py::</script>:{path}:1')))
        with open(page, encoding='utf-8') as file:
            text = file.read()
        self.assertEqual(text.count('</script>'), 2)
        data = json.loads(re.search('id="data">(.*)</script>', text)[1])
        self.assertEqual(data['title'], '</title><script>')
        self.assertEqual(data['files'][0]['segments'], [[1, 'x = "</script><!--"']])

    def test_large_sources_are_cut_to_what_is_near_to_samples(self):
        path = self.script('#' * 99 + '\n' * 1 + ('#' * 99 + '\n') * 99_999)
        page = self.path('page.html')
        self.report('-o', page, text=''.join(
            sample(*below(f'py::f:{path}:{line}')) for line in (1, 50_000, 50_020, 100_000)))
        self.assertLess(os.path.getsize(page), 200_000)
        with open(page, encoding='utf-8') as file:
            data = json.loads(re.search('id="data">(.*)</script>', file.read())[1])
        self.assertEqual([(first, text.count('\n') + 1)
                          for first, text in data['files'][0]['segments']],
                         [(1, 16), (49_985, 51), (99_985, 16)])

    def test_a_page_that_cannot_be_written(self):
        path = self.path('no/page.html')
        self.assert_refused(path, 'No such file', arguments=['-o', path],
                            text=sample(*below('py::f:/s.py:1')))
        page = self.path('page.html')
        for _ in range(2):
            self.report('-o', page, text=sample(*below('py::f:<string>:1')))
        self.assertEqual([name for name in os.listdir(self.directory) if 'page' in name],
                         ['page.html'])
        # The recording is not overwritten.
        self.assert_refused('perf.txt: is the input', arguments=['-o', self.path('perf.txt')],
                            text=sample(*below('py::f:/s.py:1')))

    @fixtures.requires_root
    @unittest.skipUnless(sys.platform == 'linux', 'needs mount namespaces')
    def test_a_full_disk(self):
        # The old page remains, and nothing else does.
        os.mkdir(self.path('small'))
        with open(self.path('perf.txt'), 'w') as file:
            file.write(sample(*below('py::f:/s.py:1')))
        run = self.run_command(
            ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=8k none small && '
             'echo old >small/page.html && { "$@"; cat small/*; ls small; }', 'sh',
             sys.executable, '-E', os.path.join(self.profilers, self.command), 'perf.txt',
             '-o', 'small/page.html'], returncode=0, cwd=self.directory)
        self.assertEqual(run.out, 'old\npage.html\n')
        self.assertEqual(run.err, 'annotate.py: ' + os.path.realpath(
            self.path('small/page.html')) + ': No space left on device\n')


def processor_time():
    """Return the processor time of all children that have ended, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class RecordingTests(ReportTestCase, scenarios.PerfToolTestCase):
    """Real recordings with a perf map."""

    command = 'annotate.py'

    def annotated(self, *arguments, data='perf.data'):
        return Text(self.report(self.path(data), '--percent-limit=0', *arguments,
                                env=fixtures.clean_environment(PERF=self.perf)).out)

    def shares(self, source):
        """Record a script.  Return own and total of its lines, by their comments.

        They are shares of the line "# all": the start of the interpreter, whose share
        depends on the machine, does not count.
        """
        self.record_program(self.python_command(source, 'perf=lines'))
        lines = {row[2].rpartition('#')[2].strip(): row[:2]
                 for row in self.annotated().files[self.path('script.py')].values()}
        self.assertGreater(lines['all'][1], 50)
        return {name: [100 * share / lines['all'][1] for share in row]
                for name, row in lines.items()}

    def test_lines_of_known_cost(self):
        # Each line executes a loop of known length in C, in bytecode, or in a function.
        source = scenarios.WORK + """\
from itertools import repeat

def helper(n):
    sum(repeat(1, n))                   # in helper

def work():
    sum(repeat(1, 100_000))             # own 10
    sum(repeat(1, 200_000))             # own 20
    helper(300_000)                     # total 30
    for _ in range(4):                  # nothing
        sum(repeat(1, 100_000))         # own 40

until(1.5, work)                        # all
"""
        lines = self.shares(source)
        for name, own, total in (('own 10', 10, 10), ('own 20', 20, 20), ('total 30', 0, 30),
                                 ('nothing', 0, 0), ('own 40', 40, 40),
                                 ('in helper', 30, 30)):
            with self.subTest(line=name):
                self.assertAlmostEqual(lines[name][0], own, delta=3)
                self.assertAlmostEqual(lines[name][1], total, delta=3)

    def test_lines_of_bytecode_of_known_cost(self):
        swap = 'a, b, c = b, c, a; '
        source = scenarios.WORK + f"""\
def work():
    a = b = c = 1
    for _ in range(500):
        {swap * 100} # own 10
        {swap * 300} # own 30
        {swap * 600} # own 60

until(1.5, work) # all
"""
        # The line of the loop has a few percent, which depend on the processor.
        names = 'own 10', 'own 30', 'own 60'
        shares = {name: [] for name in names}
        for _ in range(3):
            lines = self.shares(source)
            whole = sum(lines[name][0] for name in names)
            self.assertGreater(whole, 85)
            for name in names:
                shares[name].append(100 * lines[name][0] / whole)
        # Of dozens of recordings one had 35 and 56 percent instead of 30 and 60.
        for name in names:
            with self.subTest(line=name, shares=shares[name]):
                self.assertAlmostEqual(statistics.median(shares[name]), int(name[4:]),
                                       delta=3)

    def test_lib2to3_over_a_package_in_20_seconds_and_5_megabytes(self):
        package = os.path.dirname(json.__file__)
        self.record_program(
            [sys.executable, '-X', 'perf=lines', *LIB2TO3, package])
        page = self.path('page.html')
        begin = processor_time()
        self.report(self.path('perf.data'), '-o', page,
                    env=fixtures.clean_environment(PERF=self.perf))
        self.assertLess(processor_time() - begin, 20)
        self.assertLess(os.path.getsize(page), 5_000_000)
        self.assertGreater(os.path.getsize(page), 100_000)


# Since CPython 3.13 there is no lib2to3.
LIB2TO3 = ['-m', 'lib2to3'] if sys.version_info < (3, 13) else ['-m', 'tabnanny', '-q']


class LibraryTests(ReportTestCase, scenarios.JitdumpToolTestCase):
    """A program that spends its time in libraries without frame pointers."""

    command = 'annotate.py'

    def test_the_time_is_in_zlib_and_sqlite(self):
        self.record_injected("""\
            import sqlite3, zlib

            text = bytes(range(256)) * 400

            def pack():
                zlib.compress(text, 9)                          # pack

            db = sqlite3.connect(':memory:')
            db.execute('create table t (a, b)')
            db.executemany('insert into t values (?, ?)', [(i, str(i % 97)) for i in range(5000)])

            def query():
                db.execute('select b, sum(a) from t group by b order by 2').fetchall()  # query

            until(0.5, pack)
            until(0.5, query)
            """, mode='perf_jit=lines', frequency=999)
        text = Text(self.report(self.path('jit.data'), '--percent-limit=0',
                                env=fixtures.clean_environment(PERF=self.perf)).out)
        lines = {row[2].rpartition('# ')[2]: row
                 for row in text.files[self.path('script.py')].values()}
        for name, library in (('pack', 'libz.so'), ('query', 'libsqlite3.so')):
            with self.subTest(name=name):
                own, _, _, native = lines[name]
                self.assertGreater(own, 15)
                self.assertIn(library, native[0][2])

if __name__ == '__main__':
    unittest.main()
