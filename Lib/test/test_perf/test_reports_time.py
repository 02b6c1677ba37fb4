"""owntime.py: the own time of Python functions."""

import ast
import collections
import os
import re
import unittest

from test.test_perf import fixtures, scenarios
from test.test_perf.reports import BadInputTests, ReportTestCase, below, sample
from test.test_perf.parsers import python_names

ROW = re.compile(r'((?:\s+\d+\.\d\d%){6})  py::(.*)')
COLUMNS = ('total', 'own', 'eval loop', 'interpreter', 'library', 'kernel')


def setUpModule():
    fixtures.require_trampoline()


def rows(text):
    """Return {name: {column: percents}} of a table."""
    table = {}
    for line in text.splitlines():
        match = ROW.fullmatch(line)
        if match:
            numbers = [float(number) for number in match[1].replace('%', '').split()]
            table[match[2]] = dict(zip(COLUMNS, numbers))
    return table


class TableTests(BadInputTests, ReportTestCase):
    """The table of recordings that were written by hand."""

    command = 'owntime.py'

    def table(self, text, *arguments):
        return rows(self.report('--percent-limit=0', *arguments, text=text).out)

    def test_the_kinds_of_own_time(self):
        f = below('py::f:/s.py')
        table = self.table(
            sample(*f)
            + sample('PyNumber_Add', *f) * 2
            + sample('deflate (/lib/libz.so.1)', 'zlib_compress (/lib/zlib.so)', *f) * 3
            + sample('vfs_read ([kernel.kallsyms])', 'read (/lib/libc.so.6)', *f) * 4
            + sample('_PyPerf_EnterEvalLoop', *f[2:]) * 5
            + sample('py::f:/s.py', 'main') * 5)
        self.assertEqual(table, {'f:/s.py': {
            'total': 100, 'own': 100, 'eval loop': 55, 'interpreter': 10, 'library': 15,
            'kernel': 20}})

    def test_functions_of_modules_of_the_kernel_are_the_kernel(self):
        f = below('py::f:/s.py')
        table = self.table(sample('xfs_read ([xfs])', *f)
                           + sample('__vdso_gettimeofday ([vdso])', *f))
        self.assertEqual(table['f:/s.py']['kernel'], 50)
        self.assertEqual(table['f:/s.py']['library'], 50)

    def test_a_function_is_counted_once_in_a_sample(self):
        table = self.table(sample(*below('py::f:/s.py', 'py::f:/s.py', 'py::g:/s.py'))
                           + sample(*below('py::g:/s.py')))
        self.assertEqual([table['f:/s.py'][name] for name in ('total', 'own')], [50, 50])
        self.assertEqual([table['g:/s.py'][name] for name in ('total', 'own')], [100, 50])

    def test_samples_without_python_functions_do_not_count(self):
        run = self.report(text=sample(*below('py::f:/s.py')) + sample('main') * 3)
        self.assertIn('Samples: 4 of cpu-clock, 1 of them (25.00%) with Python', run.out)
        self.assertEqual(rows(run.out)['f:/s.py']['own'], 100)

    def test_lines(self):
        text = (sample(*below('py::f:/s.py:3', 'py::g:/s.py:9'))
                + sample(*below('py::f:/s.py:4', 'py::g:/s.py:9')))
        self.assertEqual(set(self.table(text)), {'f:/s.py', 'g:/s.py'})
        table = self.table(text, '--lines')
        self.assertEqual({name: row['own'] for name, row in table.items()},
                         {'f:/s.py:3': 50, 'f:/s.py:4': 50, 'g:/s.py:9': 0})

    def test_one_event_one_process_one_thread(self):
        f, g = below('py::f:/s.py'), below('py::g:/s.py')
        text = (sample(*f, event='cycles') + sample(*g, event='instructions') * 2
                + sample(*g, event='cycles', pid=8, tid=8)
                + sample(*g, event='cycles', pid=8, tid=9) * 3)
        self.assertEqual(self.table(text, '--event=instructions')['g:/s.py']['own'], 100)
        self.assertEqual(self.table(text)['g:/s.py']['own'], 80)
        self.assertEqual(set(self.table(text, '--pid=7')), {'f:/s.py'})
        self.assertIn('Samples: 1 of', self.report('--tid=8', text=text).out)

    def test_control_characters_do_not_reach_the_terminal(self):
        self.assertIn(r'py::f\x1b[31m:/s.py',
                      self.report(text=sample(*below('py::f\x1b[31m:/s.py'))).out)

    def test_what_perf_script_prints_without_options(self):
        run = self.report(text=(
            'python   42 [001]  7.000000:   101010 cpu-clock:u: \n'
            '\t          1000 x_add+0x10 (/usr/bin/python3)\n'
            '\t          1001 _PyEval_EvalFrameDefault+0x7 (/usr/bin/python3)\n'
            '\t          1002 py::f:/s.py+0x6 (/tmp/perf-42.map)\n\n'))
        self.assertIn('100.00%   100.00%      0.00%      100.00%', run.out)

    def test_offsets_in_text_do_not_tell_functions_apart(self):
        table = self.table(sample(*below('py::f:/s.py:3+0x27'))
                           + sample(*below('py::f:/s.py:3+0x2a')))
        self.assertEqual(list(table), ['f:/s.py'])

    def test_inlined_functions_are_where_they_are_inlined(self):
        f = below('py::f:/s.py')
        table = self.table(sample('visit (inlined)', 'clear (inlined)', 'collect', *f)
                           + sample('copy (inlined)', 'deflate (/lib/libz.so)', *f) * 2
                           + sample('get (inlined)', 'vfs_read ([kernel.kallsyms])', *f))
        row = table['f:/s.py']
        self.assertEqual((row['interpreter'], row['library'], row['kernel']), (25, 50, 25))

    def test_an_interpreter_without_symbols(self):
        self.report(text=sample('[unknown]', 'py::f:/s.py'),
                    note='no symbols of the interpreter')

    def test_a_dump_that_is_missing(self):
        self.report(text=sample(*below('py::f:/s.py')).replace('/tmp/perf-7.map',
                                                               '/no/jitted-7-1.so'),
                    note='/no/jit-7.dump is missing')

    def test_the_commands_run_with_python_3_9(self):
        for name in sorted(os.listdir(self.profilers)):
            if name.endswith('.py'):
                with open(os.path.join(self.profilers, name), encoding='utf-8') as file:
                    ast.parse(file.read(), name, feature_version=(3, 9))


class RecordingTests(ReportTestCase, scenarios.PerfToolTestCase):
    """Real recordings."""

    command = 'owntime.py'

    def table(self, *arguments):
        return rows(self.report(self.path('perf.data'), '--percent-limit=0', *arguments,
                                env=fixtures.clean_environment(PERF=self.perf)).out)

    def test_own_times_add_up_to_the_samples_with_python_functions(self):
        # Generators, C code that calls Python code, recursion, an exception.
        run, samples = self.record("""\
            import json, re

            def recursive(n): return n and recursive(n - 1) + 1
            def key(x): return -x
            def items():
                for i in range(100):
                    yield i
            def work():
                recursive(20)
                sorted(range(100), key=key)
                json.loads(json.dumps([{'a': list(range(50))}] * 20))
                re.sub('a+', lambda match: 'b', 'caat' * 50)
                sum(items())

            until(1, work)
            """)
        chains = [names for names in map(python_names, samples) if names]
        self.assertGreater(len(chains), 1000)
        own = collections.Counter(names[0] for names in chains)
        total = collections.Counter(name for names in chains for name in set(names))
        table = self.table()
        self.assertEqual({f'py::{name}' for name in table}, set(total))
        for name, row in table.items():
            for column, counts in (('own', own), ('total', total)):
                self.assertAlmostEqual(
                    row[column], 100 * counts[f'py::{name}'] / len(chains), delta=0.0051)
            self.assertAlmostEqual(
                row['own'], sum(row[kind] for kind in COLUMNS[2:]), delta=0.021)
        # The table has two decimals.
        self.assertAlmostEqual(sum(row['own'] for row in table.values()), 100,
                               delta=0.005 * len(table))
        self.assertEqual(sum(own.values()), len(chains))

    def test_each_kind_of_work_is_where_it_belongs(self):
        run, samples = self.record("""\
            import _blake2

            exec('def loop():\\n x = y = z = 1\\n for _ in range(50):\\n  '
                 + 'x, y, z = y, z, x; ' * 500)
            def builtin(numbers=[*range(900), *range(900)]): sorted(numbers)
            def library(data=bytes(100_000)): _blake2.blake2b(data)

            for function in loop, builtin, library:
                until(0.4, function)
            """)
        table = self.table()
        for name, kind in (('loop', 'eval loop'), ('builtin', 'interpreter'),
                           ('library', 'library')):
            with self.subTest(function=name):
                [row] = [row for function, row in table.items()
                         if function.startswith(name + ':')]
                self.assertGreater(row['own'], 20)
                self.assertGreater(row[kind], 0.8 * row['own'])


class JitdumpLineTests(ReportTestCase, scenarios.JitdumpToolTestCase):
    """Lines of a jitdump, compared with those that perf finds."""

    command = 'owntime.py'

    def test_lines_are_those_that_perf_finds(self):
        self.record_injected("""\
            def inner():
                spin(5_000)
                spin(10_000)
            def outer():
                inner()
            until(0.3, outer)
            """, mode='perf_jit=lines', frequency=999)
        expected = collections.Counter()
        innermost = None
        for line in self.script('ip,sym,srcline', data='jit.data').splitlines():
            if not line.strip():
                innermost = None
            elif match := re.match(r'\s*[0-9a-f]+ py::(.*)', line):
                innermost = match[1] if innermost is None else ''
            elif innermost and (match := re.fullmatch(r'\s*.*:(\d+)', line)):
                expected[f'{innermost}:{match[1]}'] += 1
                innermost = ''
        count = sum(expected.values())
        self.assertGreater(count, 100)
        out = self.report(self.path('jit.data'), '--percent-limit=0', '--lines',
                          env=fixtures.clean_environment(PERF=self.perf)).out
        # perf does not find all places of C functions, which may look like a line.
        own = {name: row['own'] * count / 100 for name, row in rows(out).items()}
        for name in {*own, *expected}:
            self.assertAlmostEqual(own.get(name, 0), expected[name], delta=3, msg=name)
        spin = [own[f'spin:{self.path("script.py")}:{number}'] for number in (10, 11)]
        self.assertGreater(min(spin), 40)

if __name__ == '__main__':
    unittest.main()
