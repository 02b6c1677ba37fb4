"""Ten thousand names that a fuzzer makes, read back by all readers there are.

Every Unicode category, surrogates, controls, pieces of the formats themselves,
up to a million characters: all must come out as one line of UTF-8 from which the
name can be told, in the map and in the jitdump, and profilers must resolve them.
"""

import re
import sys
import unittest

from test import perf_jitdump
from test import perf_names
from test import perf_support
from test.test_perf_hostile import unescape

COUNT = 10_000

# Calls a function of each name.  What it does is given by the test.
PROGRAM = """\
import sys, types
from test import perf_names

{prepare}

def function():
    {body}

def main():
    for qualname, filename in perf_names.generate({count}, {seed}, {longest}):
        types.FunctionType(function.__code__.replace(
            co_qualname=qualname, co_filename=filename), globals())()

main()
"""


def setUpModule():
    perf_support.require_trampoline()


def program(count=COUNT, seed=perf_names.SEED, longest=sys.maxsize,
            prepare='', body='pass'):
    return PROGRAM.format(count=count, seed=seed, longest=longest,
                          prepare=prepare, body=body)


def expected(*args, **options):
    return [f'py::{qualname}:{filename}'
            for qualname, filename in perf_names.generate(*args, **options)]


ESCAPED = re.compile('[\\\\\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


def escape(name):
    """Write a name as Doc/howto/perf_internals.rst says."""
    def escaped(match):
        character = match[0]
        short = {'\\': '\\\\', '\n': r'\n', '\t': r'\t', '\r': r'\r'}
        point = ord(character)
        return short.get(character) or (
            f'\\x{point:02x}' if point < 256 else f'\\u{point:04x}')
    return ESCAPED.sub(escaped, name)


FORBIDDEN = re.compile('[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


class NameTests(perf_support.PerfTestCase):

    def check(self, names, **options):
        """These are the names that the file has, in this order, and those of
        the program's other functions before and after them."""
        wanted = expected(COUNT, **options)
        start = names.index(self.script_name('main')) + 1
        found = [name for name in names[start:]
                 if not name.endswith(('perf_names.py', 'random.py'))]
        self.assertGreaterEqual(len(found), len(wanted))
        for name, original in zip(found, wanted):
            self.assertTrue(unescape(name) == original, ascii(name[:200]))
            self.assertIsNone(FORBIDDEN.search(name))

    def test_the_generator_makes_all_kinds(self):
        together = set()
        longest = 0
        for qualname, filename in perf_names.generate(COUNT):
            together.update(qualname)
            together.update(filename)
            longest = max(longest, len(qualname))
        self.assertEqual(longest, 1_000_000)
        for characters in perf_names.categories():
            self.assertTrue(together & set(characters))

    def test_in_a_map(self):
        run = self.run_python(program())
        self.assertEqual(run.err, '')
        self.assert_good_map(run.entries)
        self.check(run.names)

    def test_in_a_jitdump(self):
        run = self.run_python(program(), 'perf_jit',
                              prepare='rm -f /tmp/jit-$$.dump')
        self.assertEqual(run.err, '')
        dump = perf_jitdump.read(f'/tmp/jit-{run.pid}.dump')
        self.assertEqual(dump.torn, 0)
        functions = dump.functions()
        self.check([function.load.name for function in functions])
        for function in functions:
            self.assertTrue(function.load.name.endswith(
                ':' + function.debug.entries[0].filename))


class PerfTests(perf_support.PerfToolTestCase):
    """perf samples each function: there is a page that it touches first."""

    TOUCH = {
        'prepare': 'import itertools, mmap\n'
                   'pages = mmap.mmap(-1, {count} * mmap.PAGESIZE)\n'
                   'pages.madvise(mmap.MADV_NOHUGEPAGE)\n'
                   'places = itertools.count(0, mmap.PAGESIZE)',
        'body': 'pages[next(places)] = 1',
    }

    def record_faults(self, count, mode, *options, env={}):
        touch = dict(self.TOUCH)
        touch['prepare'] = touch['prepare'].format(count=count)
        command = self.python_command(
            program(count=count, **touch), mode)
        self.run_command(self.perf_command(
            'record', '-q', '-B', '-N', '-e', 'page-faults:u', '-c', '1',
            '-m', '16M', '-g', '-o', self.path('perf.data'), *options, '--',
            '/bin/sh', '-c', perf_support.TELL_PID.replace(
                'echo $$', 'echo $$ >"$PID"'), 'sh', *command),
            env=perf_support.clean_environment(PID=self.path('pid'), **env))
        with open(self.path('pid')) as file:
            return self.track(file.read())

    def check(self, names, count, **options):
        """All were seen and nothing that is none of them."""
        seen = {name for name in names if name.startswith('py::')}
        missing = {name for name in expected(count, **options)
                   if escape(name) not in seen}
        self.assertEqual(len(missing), 0, ascii([
            name[:60] for name in sorted(missing, key=len)[:20]]))

    def test_with_a_map(self):
        self.record_faults(COUNT, 'perf')
        self.check({frame.symbol for sample in self.samples()
                    for frame in sample.chain}, COUNT)

    def test_with_a_jitdump(self):
        # perf inject writes an ELF file for each function.
        count = 1000
        pid = self.record_faults(count, 'perf_jit', '-k', '1',
                                 env={'JITDUMPDIR': self.directory})
        self.run_command(self.perf_command(
            'inject', '--jit', '-i', self.path('perf.data'),
            '-o', self.path('perf.jit.data')), cwd=self.directory)
        script = self.run_command(self.perf_command(
            'script', '--no-inline', '-f', '-F', 'pid,ip,sym,dso',
            '-i', self.path('perf.jit.data')))
        self.check({frame.symbol
                    for sample in perf_support.parse_perf_script(script.out)
                    for frame in sample.chain}, count)


class SamplyTests(perf_support.SamplyTestCase):
    """samply samples by time: it sees most of some names, and no others."""

    def check(self, mode):
        count = 400
        run, samples = self.record(
            program(count=count, body='until(0.004, spin, 2000)'), mode)
        self.assertEqual(run.err_without_warnings, run.err)
        seen = {name for sample in samples
                for name in perf_support.python_names(sample)}
        names = [escape(name) for name in expected(count)]
        self.assertGreater(len(seen & set(names)), 0.9 * len(set(names)))
        strange = {name for name in seen - set(names)
                   if not name.endswith('.py') and '<' not in name}
        self.assertEqual(strange, set())

    def test_with_a_map(self):
        self.check('perf')

    def test_with_a_jitdump(self):
        self.check('perf_jit')


if __name__ == '__main__':
    unittest.main()
