"""Profiles as hotspot shows them: the stacks that its perfparser finds.

perfparser tells the functions of a mapping apart by their offsets in it, so it shows
wrong names if the trampolines are in several mappings.
"""

import struct
import subprocess
import unittest

from test.test_perf import fixtures, scenarios

FUNCTIONS = 3000

# What perfparser writes: a header, then events.  An event has its size in front, in
# little-endian order.  Everything in the event is big-endian.
HEADER = b'QPERFSTREAM\0'
LOCATION, SYMBOL, STRING, SAMPLE = 3, 4, 5, 13


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()


def parse(data):
    """Return {(thread, nanoseconds): names of its stack, leaf first}."""
    if not data.startswith(HEADER):
        raise ValueError(f'not from perfparser: {data[:20]!r}')
    strings, outer, symbols, stacks = {}, {}, {}, {}
    position = len(HEADER) + 4
    while position < len(data):
        size, = struct.unpack_from('<I', data, position)
        event = data[position + 4:position + 4 + size]
        position += 4 + size
        if event[0] == STRING:
            key, length = struct.unpack_from('>iI', event, 1)
            strings[key] = event[9:9 + length].decode()
        elif event[0] == LOCATION:
            # id, address, file, process, line, column, the location it is inlined in
            key, *_, outer[key] = struct.unpack_from('>iQiIiii', event, 1)
        elif event[0] == SYMBOL:
            key, name = struct.unpack_from('>ii', event, 1)
            symbols[key] = name
        elif event[0] == SAMPLE:
            _, thread, time, _, count = struct.unpack_from('>IIQII', event, 1)
            stacks[thread, time] = struct.unpack_from(f'>{count}i', event, 25)

    def name(location):
        while location not in symbols and outer.get(location, -1) >= 0:
            location = outer[location]
        return strings.get(symbols.get(location), '')

    return {key: [name(location) for location in stack]
            for key, stack in stacks.items()}


class HotspotTests(scenarios.PerfToolTestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.perfparser = fixtures.find_tool('PERFPARSER', 'hotspot-perfparser')

    def python_stacks(self):
        """Return the same as parse(), as perf shows it, with Python functions only."""
        stacks = {}
        for sample in self.script('tid,time,ip,sym', '--ns').split('\n\n'):
            first, *frames = sample.strip('\n').split('\n')
            if first:
                thread, time = first.split()
                seconds, nanoseconds = time.rstrip(':').split('.')
                names = [frame.strip().partition(' ')[2] for frame in frames]
                stacks[int(thread), int(seconds) * 10**9 + int(nanoseconds)] = \
                    [name for name in names if name.startswith('py::')]
        return stacks

    def hotspot_stacks(self):
        result = subprocess.run(
            [self.perfparser, '--input', self.path('perf.data'), '--output',
             self.path('parsed')], env=fixtures.clean_environment(),
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=fixtures.TIMEOUT)
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(self.path('parsed'), 'rb') as file:
            return {key: [name for name in stack if name.startswith('py::')]
                    for key, stack in parse(file.read()).items()}

    def check(self, source, *qualnames, mode='perf'):
        run, _ = self.record(source, mode)
        wanted = self.python_stacks()
        found = self.hotspot_stacks()
        wrong = [(stack, found.get(key)) for key, stack in wanted.items()
                 if found.get(key) != stack]
        self.assertEqual(wrong[:3], [])
        seen = {name for stack in wanted.values() for name in stack}
        for qualname in qualnames:
            self.assertIn(self.script_name(qualname), seen)
        return run, seen

    def test_each_of_many_functions_has_its_own_name(self):
        run, seen = self.check(f"""\
            import types
            def work(): spin(2_000)
            def new(i):
                name = f'function_{{i}}'
                return types.FunctionType(
                    work.__code__.replace(co_name=name, co_qualname=name), globals())
            functions = [new(i) for i in range({FUNCTIONS})]
            for function in functions:
                function()
            """, 'spin', '<module>')
        functions = {name for name in run.names if ':function_' in name}
        self.assertEqual(len(functions), FUNCTIONS)
        # Not each function has been met by a sample.
        self.assertGreater(len(functions & seen), FUNCTIONS // 2)


if __name__ == '__main__':
    unittest.main()
