"""What tests of the commands of Misc/profilers share.

The environment variable PROFILERS names the directory with these commands.  This file
has no tests.
"""

import os
import re
import sys

from test.test_perf.fixtures import PerfTestCase, clean_environment, tool_missing

MAP = '/tmp/perf-7.map'
PYTHON = '/usr/bin/python3'


def profilers_directory():
    """Return the directory of the commands, or skip the test if there is none."""
    path = os.environ.get('PROFILERS', '')
    if not os.path.exists(os.path.join(path, 'perfscript.py')):
        tool_missing('no commands for reports: $PROFILERS is not their directory')
    return path


def sample(*frames, pid=7, tid=7, comm='python', time=1.5, event='cpu-clock'):
    """Return the lines in which perf script shows a sample.

    frames   the innermost first: py::NAME, or NAME (OBJECT FILE)
    """
    lines = [f'{comm} {pid}/{tid} {time:.6f}: {event}: ']
    for number, frame in enumerate(frames):
        address = number + 0x1000
        if frame.startswith('py::'):
            frame = f'{frame} ({MAP})'
        elif not frame.endswith(')'):
            frame = f'{frame} ({PYTHON})'
        if frame.endswith('([kernel.kallsyms])'):
            address += 0xffffffff81000000
        lines.append(f'\t{address:16x} {frame}')
    return '\n'.join(lines) + '\n\n'


def below(*functions):
    """Return the frames of functions that call each other, as seen from the eval loop."""
    return ('_PyEval_EvalFrameDefault', '_PyPerf_EnterEvalLoop', *functions)


class ReportTestCase(PerfTestCase):
    """Tests of a command of Misc/profilers."""

    command = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.profilers = profilers_directory()

    def report(self, *arguments, text=None, returncode=0, note='', **options):
        """Run the command and return it, Finished.

        text   what perf script has printed, str or bytes, as the input
        note   a part of the one line that is expected on standard error
        """
        if text is not None:
            if isinstance(text, str):
                text = text.encode()
            with open(self.path('perf.txt'), 'wb') as file:
                file.write(text)
            arguments = (self.path('perf.txt'), *arguments)
        run = self.run_command(
            [sys.executable, '-E', os.path.join(self.profilers, self.command), *arguments],
            returncode=returncode, **options)
        if note:
            self.assertEqual(run.err.count('\n'), 1, run)
            self.assertIn(f'{self.command}: note: ', run.err)
            self.assertIn(note, run.err)
        elif not returncode:
            self.assertEqual(run.err, '')
        return run

    def assert_refused(self, *words, arguments=(), **options):
        """The command says in one line why it cannot do it.  The line has these words."""
        run = self.report(*arguments, returncode=1, **options)
        self.assertEqual(run.out, '')
        self.assertEqual(run.err.count('\n'), 1, run)
        self.assertTrue(run.err.startswith(f'{self.command}: '), run)
        for word in words:
            self.assertIn(word, run.err)


class BadInputTests:
    """What each command does with input that it cannot use."""

    def test_a_file_that_does_not_exist(self):
        self.assert_refused('no.data', 'No such file', arguments=[self.path('no.data')])

    def test_a_directory(self):
        self.assert_refused('Is a directory', arguments=[self.directory])

    def test_a_file_that_perf_has_not_made(self):
        for text in (b'', b'\x00\xff\n\n' * 1000, b'hello: 1\n\n', b'\x7fELF' + bytes(5000)):
            with self.subTest(text=text[:10]):
                self.assert_refused('neither a recording of perf nor', text=text)

    def test_a_recording_that_is_cut_off(self):
        self.assert_refused('perf script: ', text=b'PERFILE2' + bytes(100),
                            env=clean_environment())

    def test_no_perf(self):
        self.assert_refused('/no/perf', text=b'PERFILE2' + bytes(100),
                            env=clean_environment(PERF='/no/perf'))
        self.assert_refused('no-such-perf: not found in PATH',
                            text=b'PERFILE2' + bytes(100),
                            env=clean_environment(PERF='no-such-perf'))

    def test_no_python_functions(self):
        self.assert_refused('no sample shows a Python function', '-X perf',
                            text=sample('main', '_start') * 10)

    def test_no_map(self):
        self.assert_refused(
            'no sample shows a Python function', '/tmp/perf-PID.map is missing',
            text=sample(*below('[unknown] (//anon)', 'main')) * 10)

    def test_no_stacks(self):
        self.assert_refused(
            'no stacks: record with perf record -g',
            text='python 7/7 1.5: cpu-clock:   1234 main (/usr/bin/python3)\n' * 10)

    def test_no_samples_of_this_event_process_or_thread(self):
        text = sample(*below('py::f:/s.py:1'))
        for option, word in (('--event=cycles', 'it has cpu-clock'),
                             ('--pid=8', 'process 8'), ('--tid=8', 'thread 8')):
            with self.subTest(option=option):
                self.assert_refused(word, arguments=[option], text=text)

    def test_a_pipe(self):
        text = sample(*below('py::f:/s.py:1'), 'main') * 100
        with open(self.path('text'), 'w') as file:
            file.write(text)
        command = [sys.executable, '-E', os.path.join(self.profilers, self.command)]
        run = self.run_command(['sh', '-c', 'cat "$0" | "$@"', self.path('text'), *command,
                                '/dev/stdin'], returncode=0)
        self.assertEqual(run.out, self.report(text=text).out)
        self.assertIn('100', run.out)

    def test_names_that_try_to_be_something_else(self):
        for name in ('a;b', '<script>alert(1)</script>', 'x (/lib/evil.so)', '"\'&',
                     'sp ace', ':', 'é', r'new\nline', '$(touch x)', 'a' * 5000):
            with self.subTest(name=name[:20]):
                self.report(text=sample(*below(f'py::{name}:/dir:1/s p.py:3',
                                               'py::g:/x.py:1')))

    def test_bytes_that_are_no_utf_8(self):
        text = sample(*below('py::f@:/dir/@.py:3')).encode().replace(b'@', b'\xff\xfe')
        self.report(text=text + text.replace(b'python 7', b'\xff\x1b[31m 7'))

    def test_lines_that_are_none_of_perf(self):
        self.report(text='# a comment\n\nwarning: x\n' + sample(*below('py::f:/s.py:1'))
                    + 'more\n\tzz\n')


def without_colors(text):
    return re.sub('\x1b\\[[0-9;]*m', '', text)
