"""Profiles with lines that perf and samply make.

One line after the other is busy, each for its share of the processor time.  The shares
in a profile are compared with those, within what sampling allows.
"""

import collections
import re
import unittest

from test.test_perf import fixtures, scenarios
from test.test_perf.parsers import python_names
from test.test_perf.test_profile_jitdump import PerfTestCase as JitdumpTestCase

SOURCE = """\
def busy(share):
    until(0.2 * share, spin)    # until

def changing():
    busy(1)                     # one
    busy(
        3                       # its call begins in the line above
    )
    total = [busy(2) for _ in range(2)] # four
    for n in range(2):
        total.append(n)
    return bool(
        [busy(2)])  and 1       # the inner call

changing()                      # module
"""

# The line of changing() and its share, in tenths: the text that the line contains.
SHARES = {'# one': 1, 'busy(\n': 3, '# four': 4, '# the inner call': 2}


def setUpModule():
    fixtures.require_trampoline()


class LineTests:
    """What holds with every profiler."""

    def line_of(self, text):
        """Return the number of the line that ends with or contains this text."""
        source = scenarios.WORK + SOURCE
        self.assertEqual(source.count(text), 1, text)
        return source[:source.index(text)].count('\n') + 1

    def assert_shares(self, places):
        """`places` are the Python functions of each sample, leaf first, as pairs of
        name and line.
        """
        found = collections.Counter()
        for chain in places:
            lines = dict(reversed(chain))
            if 'changing' in lines and 'spin' in lines:
                found[lines['changing']] += 1
                self.assertEqual(lines['<module>'], self.line_of('# module'))
                self.assertEqual(lines['busy'], self.line_of('# until'))
        total = sum(found.values())
        self.assertGreater(total, 200)
        expected = {self.line_of(text): share for text, share in SHARES.items()}
        for line, share in expected.items():
            with self.subTest(line=line):
                self.assertAlmostEqual(found[line] / total, share / 10, delta=0.06)
        self.assertLessEqual(set(found), set(expected))

    def places_in_names(self, samples):
        pattern = re.compile(r'py::(.*?):(.*):(\d+)')
        script = self.path('script.py')
        return [[(match[1], int(match[3]))
                 for match in map(pattern.fullmatch, python_names(sample))
                 if match and match[2] == script]
                for sample in samples]


class PerfMapTests(LineTests, scenarios.PerfToolTestCase):

    def test_each_line_has_its_share(self):
        run, samples = self.record(SOURCE, 'perf=lines')
        self.assert_shares(self.places_in_names(samples))

    def test_101_nested_calls_are_in_one_sample(self):
        levels = ''.join(f'def level{n}(): level{n + 1}()\n' for n in range(100))
        run, samples = self.record(
            levels + 'def level100(): spin()\n\nuntil(0.5, level0)\n', 'perf=lines')
        whole = [chain for chain in self.places_in_names(samples)
                 if len([name for name, line in chain if name.startswith('level')]) == 101]
        self.assertGreater(len(whole), 50)
        first = scenarios.WORK.count('\n') + 1
        for chain in whole:
            self.assertEqual([line for name, line in chain if name.startswith('level')],
                             list(range(first + 100, first - 1, -1)))


class PerfJitdumpTests(LineTests, JitdumpTestCase):

    def test_each_line_has_its_share(self):
        run, samples = self.record(SOURCE, 'perf_jit=lines')
        # A line with the frame is followed by one with the place.
        places = []
        symbol = None
        for line in self.script('ip,sym,srcline').splitlines():
            if not line.strip():
                places.append([])
            elif match := re.match(r'\s*[0-9a-f]+ py::(\S*?):\S*$', line):
                symbol = match[1]
            elif symbol and (match := re.fullmatch(r'\s*script\.py:(\d+)', line)):
                places[-1].append((symbol, int(match[1])))
                symbol = None
            else:
                symbol = None
        self.assert_shares(places)


class SamplyTests(LineTests, scenarios.SamplyTestCase):

    def test_each_line_has_its_share(self):
        run, samples = self.record(SOURCE, 'perf=lines')
        self.assert_shares(self.places_in_names(samples))


if __name__ == '__main__':
    unittest.main()
