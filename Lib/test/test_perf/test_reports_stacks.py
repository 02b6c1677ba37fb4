"""fold.py: stacks for flame graphs, speedscope and the Firefox Profiler."""

import collections
import json
import os
import sys
import unittest

from test.test_perf import fixtures, scenarios
from test.test_perf.parsers import samply_samples
from test.test_perf.reports import BadInputTests, ReportTestCase, below, sample

ROOT = ('PyEval_EvalCode', 'run_mod', 'pymain_run_python.constprop.0', 'Py_BytesMain',
        '__libc_start_call_main (/lib/libc.so.6)')


def setUpModule():
    fixtures.require_trampoline()


def folded(text):
    """Return {stack: number} of folded stacks, the stacks as tuples."""
    stacks = {}
    for line in text.splitlines():
        stack, _, number = line.rpartition(' ')
        stacks[tuple(stack.split(';'))] = int(number)
    return stacks


class FoldedTests(BadInputTests, ReportTestCase):
    """Recordings that were written by hand."""

    command = 'fold.py'

    # These stacks have a use too.
    test_no_python_functions = test_no_map = test_no_stacks = None

    def folded(self, text, *arguments):
        return folded(self.report(*arguments, text=text).out)

    def test_names_of_python_functions_come_first(self):
        text = sample('long_add', *below('py::C.f:/dir/s.py:3', 'py::<module>:/dir/s.py:9'))
        loop = ('_PyPerf_EnterEvalLoop', '_PyEval_EvalFrameDefault', 'long_add')
        self.assertEqual(self.folded(text * 2), {
            ('<module> py::/dir/s.py', 'C.f py::/dir/s.py', *loop): 2})
        self.assertEqual(self.folded(text, '--lines'), {
            ('<module> py::/dir/s.py:9', 'C.f py::/dir/s.py:3', *loop): 1})

    def test_without_frames_of_the_interpreter(self):
        key, main = 'py::key:/s.py', 'py::main:/s.py'
        text = sample(
            'long_neg', *below(key), '_PyEval_Vector', 'PyObject_CallOneArg',
            'list_sort_impl', 'list_sort', 'cfunction_vectorcall_FASTCALL_KEYWORDS',
            'PyObject_Vectorcall', 'builtin_sorted', *below(main), *ROOT)
        self.assertEqual(self.folded(text, '--python'), {
            ('main py::/s.py', 'builtin_sorted', 'list_sort', 'list_sort_impl',
             'key py::/s.py', 'long_neg'): 1})
        self.assertEqual(len(next(iter(self.folded(text)))), 19)

    def test_stacks_without_python_functions_are_whole(self):
        self.assertEqual(self.folded(sample('gc_collect_main', *ROOT), '--python'), {
            ('__libc_start_call_main', 'Py_BytesMain', 'pymain_run_python.constprop.0',
             'run_mod', 'PyEval_EvalCode', 'gc_collect_main'): 1})

    def test_what_embeds_the_interpreter_remains(self):
        text = sample(*below('py::f:/s.py'), '_PyEval_Vector', 'serve (/usr/bin/server)',
                      'main (/usr/bin/server)', '_start')
        self.assertEqual(self.folded(text, '--python'),
                         {('serve', 'f py::/s.py'): 1})

    def test_names_do_no_harm(self):
        for name, expected in (('a;b', r'a\x3b'), ('x 12', 'x 12'), (r'n\nl', r'n\nl')):
            with self.subTest(name=name):
                [stack] = self.folded(sample(*below(f'py::{name}:/s;p.py')))
                self.assertTrue(stack[0].startswith(expected), stack)
                self.assertTrue(stack[0].endswith(r' py::/s\x3bp.py'), stack)
                self.assertEqual(len(stack), 3)
        # flamegraph.pl would take 7 for a number of samples.
        [stack] = self.folded(sample('py::f:/dir 7'))
        self.assertEqual(stack, ('f py::/dir_7',))
        [stack] = self.folded(sample('operator; 3 (/lib/x.so)'))
        self.assertEqual(stack, (r'operator\x3b_3',))

    def test_samples_without_stacks(self):
        line = 'python 7/7 1.5: cpu-clock:   1234 {} (/usr/bin/python3)\n'
        self.assertEqual(self.folded(line.format('main') * 10 + line.format('other') * 5),
                         {('main',): 10, ('other',): 5})

    def test_the_difference_to_another_recording(self):
        old = self.path('old.txt')
        f, g, h = (sample(f'py::{name}:/s.py', 'main') for name in 'fgh')
        with open(old, 'w') as file:
            file.write(f * 10 + g * 30)
        run = self.report('--baseline', old, text=f * 60 + h * 20)
        self.assertEqual(run.out.splitlines(), [
            'main;f py::/s.py 20 60', 'main;g py::/s.py 60 0', 'main;h py::/s.py 0 20'])
        # Many stacks of few samples each are not rounded away.
        with open(old, 'w') as file:
            file.write(''.join(sample(f'py::f{i}:/s.py') for i in range(300)))
        run = self.report('--baseline', old, '--pid=7', text=f * 100)
        numbers = [line.split()[-2:] for line in run.out.splitlines()]
        self.assertAlmostEqual(sum(float(old) for old, _ in numbers), 100, delta=0.01)
        with open(old, 'w') as file:
            file.write(sample('py::f:/s.py', event='page-faults'))
        self.assert_refused('page-faults', 'cpu-clock', arguments=['--baseline', old], text=f)
        self.assert_refused('no.data', arguments=['--baseline', self.path('no.data')], text=f)
        run = self.report('--baseline', old, '--format', 'firefox', text=f, returncode=2)
        self.assertIn('--baseline is for --format folded', run.err)

    def test_speedscope(self):
        text = (sample('deflate (/lib/libz.so)', *below('py::f;:/s.py:2'), time=1)
                + sample(*below('py::f;:/s.py:3'), time=2)
                + sample('main', pid=8, tid=9, comm='worker;', time=3) * 3)
        profile = json.loads(self.report('--format=speedscope', '--python', '--lines',
                                         text=text).out)
        self.assertEqual(profile['$schema'],
                         'https://www.speedscope.app/file-format-schema.json')
        self.assertEqual(profile['shared']['frames'], [
            {'name': 'f;', 'file': '/s.py', 'line': 2},
            {'name': 'deflate', 'file': '/lib/libz.so'},
            {'name': 'f;', 'file': '/s.py', 'line': 3},
            {'name': 'main', 'file': '/usr/bin/python3'}])
        self.assertEqual([(p['name'], p['samples'], p['weights'], p['endValue'], p['type'])
                          for p in profile['profiles']], [
            ('python 7/7', [[0, 1], [2]], [1, 1], 2, 'sampled'),
            ('worker; 8/9', [[3], [3], [3]], [1, 1, 1], 3, 'sampled')])
        self.assertEqual(profile['activeProfileIndex'], 1)     # the busiest

    def test_firefox(self):
        text = (sample('deflate (/lib/libz.so)', *below('py::f:/s.py:2'), time=1)
                + sample(*below('py::f:/s.py:2'), time=1.25)
                + sample('main', pid=8, tid=9, comm='worker', time=3))
        profile = json.loads(self.report('--format=firefox', '--python', '--lines',
                                         text=text).out)
        first, second = profile['threads']
        self.assertEqual((first['pid'], first['tid'], first['name']), ('7', '7', 'python'))
        self.assertEqual((second['pid'], second['tid'], second['name']), ('8', '9', 'worker'))
        self.assertEqual([first['isMainThread'], second['isMainThread']], [True, False])
        self.assertEqual(first['samples']['timeDeltas'], [0, 250])
        self.assertEqual(second['samples']['timeDeltas'], [2000])
        # Between its samples a thread has run for one interval, or slept.
        self.assertEqual(first['samples']['threadCPUDelta'], [250_000_000] * 2)
        self.assertEqual(second['samples']['threadCPUDelta'], [250_000_000])
        self.assertEqual([[frame.symbol for frame in sample.chain]
                          for sample in samply_samples(profile)],
                         [['deflate', 'f'], ['f'], ['main']])
        names = [profile['meta']['categories'][number]['name']
                 for number in first['frameTable']['category']]
        self.assertEqual(names, ['Python', 'Library'])
        self.assertEqual(first['frameTable']['line'], [2, None])

    def test_events_that_do_not_count_time(self):
        for event, counts in (('cycles:P', True), ('cpu_core/cycles/P', True),
                              ('task-clock:u', True), ('page-faults', False),
                              ('sched:sched_switch', False)):
            with self.subTest(event=event):
                profile = json.loads(self.report(
                    '--format=firefox', text=sample('main', event=event)).out)
                [thread] = profile['threads']
                self.assertEqual('threadCPUDelta' in thread['samples'], counts)

    def test_one_event_and_one_process_in_the_order_of_time(self):
        text = (sample('a', event='x') + sample('b', event='y') + sample('c', event='y', pid=8)
                + sample('d', event='y'))
        profile = json.loads(self.report('--format=speedscope', '--pid=7', text=text).out)
        self.assertEqual([frame['name'] for frame in profile['shared']['frames']], ['b', 'd'])

    def test_the_output_may_be_a_file(self):
        path = self.path('out')
        run = self.report('-o', path, text=sample('main'))
        self.assertEqual(run.out, '')
        with open(path) as file:
            self.assertEqual(file.read(), 'main 1\n')
        self.assert_refused('perf.txt: is the input', arguments=['-o', self.path('perf.txt')],
                            text=sample('main'))
        self.report('-o', '/dev/null', text=sample('main'))
        self.assert_refused('No such file', arguments=['-o', self.path('no/out')],
                            text=sample('main'))

    def test_a_reader_that_has_seen_enough(self):
        self.report(text=sample('main'))
        text = ''.join(sample(f'f{number}') for number in range(20_000))
        with open(self.path('perf.txt'), 'w') as file:
            file.write(text)
        run = self.run_command(
            ['/bin/sh', '-c', '"$@" | head -n 1', 'sh', sys.executable, '-E',
             os.path.join(self.profilers, self.command), self.path('perf.txt')])
        self.assertEqual((run.out.count('\n'), run.err), (1, ''))


class RecordingTests(ReportTestCase, scenarios.PerfToolTestCase):
    """Real recordings."""

    command = 'fold.py'

    def fold(self, *arguments):
        return self.report(self.path('perf.data'), *arguments,
                           env=fixtures.clean_environment(PERF=self.perf)).out

    def test_all_samples_are_there(self):
        run, samples = self.record_callback()[:2]
        def name(frame):
            if not frame.symbol.startswith('py::'):
                return frame.symbol
            function, _, file = frame.symbol[4:].partition(':')
            return f'{function} py::{file}'
        expected = collections.Counter(
            tuple(name(frame) for frame in reversed(sample.chain)) for sample in samples)
        self.assertEqual(folded(self.fold()), expected)
        # Between Python functions, only sorted() remains.
        stacks = folded(self.fold('--python'))
        self.assertEqual(sum(stacks.values()), len(samples))
        whole = collections.Counter()
        for stack, number in stacks.items():
            names = [entry.partition(' py::')[0] for entry in stack]
            if 'key' in names:
                at = names.index('key')
                whole[tuple(names[:at + 1])] += number
        [(stack, number)] = whole.most_common(1)
        self.assertEqual(stack, ('<module>', 'until', 'sorting', 'builtin_sorted', 'list_sort',
                                 'list_sort_impl', 'key'))
        self.assertGreater(number, 0.8 * sum(whole.values()))


class FirefoxTests(ReportTestCase, scenarios.SamplyTestCase):
    """The profile has what those of samply have, which the Firefox Profiler opens."""

    command = 'fold.py'

    def test_the_profile_has_the_fields_of_samply(self):
        self.record('until(0.2, spin)\n')
        theirs = self.profile()
        ours = json.loads(self.report('--format=firefox', text=sample('main') * 2).out)
        # Since version 56 threads share some tables.
        self.assertEqual(ours['meta']['preprocessedProfileVersion'], 55)
        self.assertGreaterEqual(theirs['meta']['preprocessedProfileVersion'], 55)
        if 'shared' in theirs:
            theirs['threads'] = [{**theirs['shared'], **thread}
                                 for thread in theirs['threads']]
            theirs.pop('shared')
        self.assertLessEqual(set(theirs) - set(ours), set())
        thread = max(theirs['threads'], key=lambda thread: thread['samples']['length'])
        [mine] = ours['threads']
        self.assertEqual(set(thread) - set(mine), set())
        for name, table in thread.items():
            if isinstance(table, dict):
                with self.subTest(table=name):
                    self.assertEqual(set(table) - set(mine[name]), set())
        for name, table in mine.items():
            for column in table.values() if isinstance(table, dict) else ():
                if isinstance(column, list):
                    self.assertEqual(len(column), table['length'])


if __name__ == '__main__':
    unittest.main()
