"""Ten thousand names that a fuzzer makes, read back by all readers there are.

Every Unicode category, surrogates, controls, pieces of the formats themselves,
up to a million characters: all must come out as one line of UTF-8 from which the
name can be told, in the map and in the jitdump, and profilers must resolve them.
"""

import re
import sys
import unittest

from test.test_perf import fixtures, jitdump, namegen, parsers, scenarios
from test.test_perf.test_hostile import unescape

COUNT = 10_000

# Calls a function of each name.  What it does is given by the test.
PROGRAM = """\
import sys, types
from test.test_perf import namegen

{prepare}

def function():
    {body}

def main():
    for qualname, filename in namegen.generate({count}, {seed}, {longest}):
        types.FunctionType(function.__code__.replace(
            co_qualname=qualname, co_filename=filename), globals())()

main()
"""


def setUpModule():
    fixtures.require_trampoline()


def program(count=COUNT, seed=namegen.SEED, longest=sys.maxsize,
            prepare='', body='pass'):
    return PROGRAM.format(count=count, seed=seed, longest=longest,
                          prepare=prepare, body=body)


def expected(*args, **options):
    return [f'py::{qualname}:{filename}'
            for qualname, filename in namegen.generate(*args, **options)]


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


def strangers(seen, names):
    """Return what was seen that is none of the names, nor of a function of
    the program itself, which is in a file or frozen."""
    # samply shows each function another time without its prefix.
    names = names | {name.removeprefix('py::') for name in names}
    return {name for name in seen - names if not name.endswith(('.py', '>'))}


FORBIDDEN = re.compile('[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


class NameTests(fixtures.PerfTestCase):

    def check(self, names, **options):
        """These are the names that the file has, in this order, and those of
        the program's other functions before and after them."""
        wanted = expected(COUNT, **options)
        start = names.index(self.script_name('main')) + 1
        found = [name for name in names[start:]
                 if not name.endswith(('namegen.py', 'random.py'))]
        self.assertGreaterEqual(len(found), len(wanted))
        for name, original in zip(found, wanted):
            self.assertTrue(unescape(name) == original, ascii(name[:200]))
            self.assertIsNone(FORBIDDEN.search(name))

    def test_the_generator_makes_all_kinds(self):
        together = set()
        longest = 0
        for qualname, filename in namegen.generate(COUNT):
            together.update(qualname)
            together.update(filename)
            longest = max(longest, len(qualname))
        self.assertEqual(longest, 1_000_000)
        for characters in namegen.categories():
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
        dump = jitdump.read(f'/tmp/jit-{run.pid}.dump')
        self.assertEqual(dump.torn, 0)
        functions = dump.functions()
        self.check([function.load.name for function in functions])
        for function in functions:
            self.assertTrue(function.load.name.endswith(
                ':' + function.debug.entries[0].filename))


class RecordedTests(scenarios.PerfToolTestCase):
    """perf samples each function: there is a page that it touches first.

    What it recorded is read by perf and by samply.
    """

    PREPARE = f"""\
import itertools, mmap
pages = mmap.mmap(-1, {COUNT} * mmap.PAGESIZE)
pages.madvise(mmap.MADV_NOHUGEPAGE)
places = itertools.count(0, mmap.PAGESIZE)
"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.samply = fixtures.find_tool('SAMPLY', 'samply')

    def record_faults(self, mode):
        command = self.python_command(
            program(prepare=self.PREPARE, body='pages[next(places)] = 1'),
            mode)
        run = self.run_command(
            self.perf_command(
                'record', '-q', '-B', '-N', '-e', 'page-faults:u', '-c', '1',
                '-m', '16M', '-g', '-k', '1', '-o', self.path('perf.data'),
                '--', *self.telling_pid(command)),
            env=fixtures.clean_environment(JITDUMPDIR=self.directory))
        self.told(run)

    def check(self, samples):
        """All were seen, and nothing that is none of them."""
        seen = {name for sample in samples
                for name in parsers.python_names(sample)}
        names = {escape(name) for name in expected(COUNT)}
        for wrong in (names - seen, strangers(seen, names)):
            self.assertEqual(len(wrong), 0, ascii([
                name[:60] for name in sorted(wrong, key=len)[:20]]))

    def check_samply(self):
        self.run_command([self.samply, 'import', '--save-only', '-o',
                          self.path('profile.json.gz'),
                          self.path('perf.data')])
        self.check(parsers.samply_samples(
            parsers.read_profile(self.path('profile.json.gz'))))

    def test_with_a_map(self):
        self.record_faults('perf')
        self.check(self.samples())
        self.check_samply()

    def test_with_a_jitdump(self):
        self.record_faults('perf_jit')
        self.run_command(self.perf_command(
            'inject', '--jit', '-i', self.path('perf.data'),
            '-o', self.path('perf.jit.data')), cwd=self.directory)
        self.check(parsers.parse_perf_script(
            self.script('pid,ip,sym,dso', data='perf.jit.data')))
        self.check_samply()


class SamplyTests(scenarios.SamplyTestCase):
    """samply itself samples by time: it sees most names, and no others."""

    def check(self, mode):
        count = 400
        run, samples = self.record(
            program(count=count, body='until(0.004, spin, 2000)'), mode)
        self.assertEqual(run.err_without_warnings, run.err)
        seen = {name for sample in samples
                for name in parsers.python_names(sample)}
        names = {escape(name) for name in expected(count)}
        self.assertGreater(len(seen & names), 0.9 * len(names))
        self.assertEqual(strangers(seen, names), set())

    def test_with_a_map(self):
        self.check('perf')

    def test_with_a_jitdump(self):
        self.check('perf_jit')


if __name__ == '__main__':
    unittest.main()
