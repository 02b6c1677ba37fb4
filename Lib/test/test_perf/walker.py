"""Programs that walk their own stacks, and names for the addresses.

_testinternalcapi.perf_walk_stack() follows the frame records of its own
thread, by the rules of the most demanding kernel.  The map or jitdump of the
process names the addresses.  The list `chains` of a program is compared with
names that the test knows: all Python functions, leaf first.  This file has no
tests.
"""

import bisect
import functools
import json
import os
import re
import struct
import textwrap

from test.test_perf import fixtures, jitdump, parsers
from test.test_perf.modes import MODES

BEFORE = """\
import json, os, sys, time
import _testinternalcapi
from _testinternalcapi import (
    perf_sample_count, perf_sample_start, perf_sample_stop, perf_sample_thread,
    perf_walk_stack as walk)

chains = []
mode = next(iter(sys._xoptions), None)
rounds = range(12)      # enough for functions to have names and be specialized

"""


# Defines callers(): the names of a frame and of its callers as Python sees
# them, leaf first.
CALLERS = """\
def callers(frame):
    names = []
    while frame is not None:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names

"""


AFTER = """
chains.append(walk())
with open('/proc/self/maps') as file:
    print()
    print(json.dumps([os.getpid(), time.monotonic_ns(), file.read(), chains]))
"""


MAPPING = re.compile(r'(\w+)-(\w+) (\S+) \w+ \S+ \d+ *(.*)')


ET_DYN = 3                          # e_type of a program with no fixed address


# The names of C functions and of unknown code in a chain.
INTERPRETER = 'C'                   # a C function of the interpreter


FOREIGN = 'foreign'                 # a C function of a library


UNNAMED = 'unnamed'                 # a trampoline without a name in the file


def is_python(name):
    return name not in (INTERPRETER, FOREIGN)


class Names:
    """The names of the addresses of a process.

    time  the moment at which the names are wanted, by the monotonic clock: in
          a jitdump an address may belong to several functions in turn
    maps  the text of /proc/self/maps
    """

    def __init__(self, script, pid, time, maps):
        self.script = script
        functions = {}
        for read in (self.read_map, self.read_jitdump):
            try:
                for entry in read(pid, time):
                    functions[entry[0]] = entry
            except FileNotFoundError:
                pass
        self.functions = sorted(functions.values())
        self.mappings = []
        for line in maps.splitlines():
            start, end, mode, path = MAPPING.fullmatch(line).groups()
            if 'x' in mode:
                kind = (UNNAMED if not path else
                        INTERPRETER if self.is_interpreter(path) else FOREIGN)
                self.mappings.append((int(start, 16), int(end, 16), kind))
        self.entry = self.entry_code(maps)

    @classmethod
    def entry_code(cls, maps):
        """Return the addresses of _start, the program's first function."""
        start, path = next(
            (int(match[1], 16), match[4])
            for match in map(MAPPING.fullmatch, maps.splitlines())
            if match[4].rpartition('/')[2].startswith('python'))
        with open(path, 'rb') as file:
            kind, _, _, entry = struct.unpack('HHIQ', file.read(32)[16:])
        if kind == ET_DYN:
            entry += start
        return range(entry, entry + 64)

    @staticmethod
    def is_interpreter(path):
        name = path.rpartition('/')[2]
        return name.startswith(('python', 'libpython'))

    @staticmethod
    def read_map(pid, time):
        for entry in parsers.read_map(pid):
            yield entry.start, entry.start + entry.size, entry.name

    @staticmethod
    def read_jitdump(pid, time):
        dump = jitdump.read(f'/tmp/jit-{pid}.dump')
        for function in dump.functions():
            if function.load.timestamp <= time:
                yield function.start, function.end, function.load.name

    def qualname(self, name):
        """Return the qualified name of a function.

        If the function is not from the script, its file's name is put before
        it.
        """
        match = re.fullmatch(r'py::(.*?):(.*)', name, re.DOTALL)
        if match is None:
            return name
        qualname, filename = match.groups()
        # With lines in a map: py::QUALNAME:FILENAME:LINE.
        filename = re.sub(r':-?\d+$', '', filename)
        if filename == self.script:
            return qualname
        return f'{filename.rpartition("/")[2]}:{qualname}'

    @functools.cache
    def name(self, address):
        for table in (self.functions, self.mappings):
            index = bisect.bisect(table, (address, float('inf'))) - 1
            if index >= 0:
                start, end, name = table[index]
                if start <= address < end:
                    return self.qualname(name)
        return FOREIGN

    def chain(self, addresses):
        """Return the names of return addresses.

        The call before the return address decides.  A chain may end in the C
        library, or in _start, which calls the C library and is left out.
        """
        if addresses and addresses[-1] in self.entry:
            addresses = addresses[:-1]
        return [self.name(address - 1) for address in addresses]

    def python(self, addresses):
        return [name for name in self.chain(addresses) if is_python(name)]


class RecordTestCase(fixtures.PerfTestCase):

    def run_child(self, source, mode='perf', **options):
        """Run a program. Return its Names and its list `chains`."""
        run = self.run_python(
            BEFORE + textwrap.dedent(source) + AFTER, mode,
            **options)
        self.assertEqual(run.err, '')
        pid, *rest, chains = json.loads(run.out.splitlines()[-1])
        return self.names(pid, *rest), chains

    def names(self, pid, time, maps):
        return Names(self.path('script.py'), self.track(pid), time, maps)

    def assert_reaches_bottom(self, names, addresses):
        """The chain ends in the code that started the program or thread.

        This is one function of the C library, or up to three if the C library
        has frame pointers.
        """
        chain = names.chain(addresses)
        self.assertEqual(chain[-1], FOREIGN, chain)
        called = [name for name in chain[-4:] if name != FOREIGN]
        self.assertEqual(called[-1:], [INTERPRETER], chain)

    def assert_chains(self, source, *expected, module=True, stdlib=False):
        """Run a program in both modes and check its chains.

        In each round the chains are `expected`. At the end only <module> is
        left.

        expected  names separated by blanks, leaf first, without <module>
        stdlib    leave out functions of other files
        """
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child(source, mode)
                seen = []
                for addresses in chains:
                    self.assert_reaches_bottom(names, addresses)
                    seen.append([name for name in names.python(addresses)
                                 if not stdlib or ':' not in name])
                self.assertEqual(seen.pop(), ['<module>'])
                wanted = [each.split() + ['<module>'] * module
                          for each in expected]
                self.assertGreaterEqual(len(seen), 10 * len(wanted))
                self.assertEqual(len(seen) % len(wanted), 0, seen[-1])
                for index, each in enumerate(seen):
                    self.assertEqual(each, wanted[index % len(wanted)],
                                     (index, seen[:index][-3:]))

    def assert_pairs(self, source, mode='perf', least=100):
        """Run a program whose `chains` are pairs: a chain and the names
        expected.

        Return the pairs with names for addresses.
        """
        names, chains = self.run_child(source, mode)
        self.assertEqual(names.python(chains.pop()), ['<module>'])
        self.assertGreaterEqual(len(chains), least)
        for index, (addresses, wanted) in enumerate(chains):
            self.assertEqual(names.python(addresses), wanted, index)
            self.assert_reaches_bottom(names, addresses)
        return [(names.chain(addresses), wanted)
                for addresses, wanted in chains]


def regions(run, mode):
    """Return (start, end, name) of each entry that a run has written."""
    if mode == 'perf':
        return [(entry.start, entry.start + entry.size, entry.name)
                for entry in run.entries]
    path = f'/tmp/jit-{run.pid}.dump'
    if mode is None or not os.path.exists(path):
        return []
    return [(function.start, function.end, function.load.name)
            for function in jitdump.read(path).functions()]


class Table:
    """Maps addresses to names.  If an address has several, the last one
    counts.
    """

    def __init__(self, regions):
        self.regions = sorted(
            {start: (start, end, name)
             for start, end, name in regions}.values())
        self.starts = [start for start, end, name in self.regions]

    def names(self, addresses):
        names = []
        for address in addresses:
            index = bisect.bisect_right(self.starts, address) - 1
            if index >= 0 and address < self.regions[index][1]:
                names.append(self.regions[index][2])
        return names
