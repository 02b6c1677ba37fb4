"""The two modes, with one interface for the files that they write.

If a test holds in both modes, a class without a mode has it.  Two classes
inherit from that class, one also from MapMode, the other from JitdumpMode.
This file has no tests.
"""

import os
import struct

from test.test_perf import fixtures, jitdump, parsers

MODES = ('perf', 'perf_jit')

# The file of a process and the environment variable that switches the mode on.
FILES = {'perf': 'perf-%d.map', 'perf_jit': 'jit-%d.dump'}
VARIABLES = dict(zip(MODES, fixtures.SWITCHES))

# The size of an entry in a jitdump with a file name of 30 characters, in
# bytes.
LARGEST_ENTRY = 400


def elf_machine(path):
    """Return e_machine of an ELF file."""
    with open(path, 'rb') as file:
        return struct.unpack_from('<H', file.read(20), 18)[0]


def dump_path(pid, directory='/tmp'):
    return os.path.join(directory, f'jit-{pid}.dump')


class MapMode(fixtures.PerfTestCase):
    """The map, /tmp/perf-PID.map.  PerfTestCase itself is in this mode."""

    variable = VARIABLES['perf']
    other_mode = 'perf_jit'
    # More than a line takes, in bytes.
    largest_entry = 250

    def other_file_of(self, pid):
        """Return the path of the file that the other mode would write."""
        return dump_path(pid)


class JitdumpMode(fixtures.PerfTestCase):
    """The jitdump, /tmp/jit-PID.dump unless JITDUMPDIR is set."""

    mode = 'perf_jit'
    FILE = '/tmp/jit-{os.getpid()}.dump'
    variable = VARIABLES['perf_jit']
    other_mode = 'perf'
    largest_entry = LARGEST_ENTRY

    def file_of(self, pid):
        return dump_path(pid)

    def other_file_of(self, pid):
        return parsers.map_path(pid)

    def read_file(self, path, pid):
        dump = jitdump.read(path)
        self.assertEqual(dump.incomplete, 0)
        self.assert_good_dump(dump, pid)
        return [parsers.MapEntry(function.start, function.end - function.start,
                                 function.load.name)
                for function in dump.functions()]

    def assert_good_entries(self, entries):
        # read() has checked the dump.  A later entry may have the address of
        # an earlier one, whose function is gone.
        self.assertGreater(len(entries), 0)

    def read(self, run, directory='/tmp'):
        """Return the jitdump of a run. It must be complete and sound."""
        pid = run.pid if isinstance(run, fixtures.Finished) else int(run)
        dump = jitdump.read(dump_path(pid, directory))
        self.assertEqual(dump.incomplete, 0)
        self.assert_good_dump(dump, pid)
        return dump

    def functions(self, run, *qualnames, directory='/tmp'):
        """Return these functions of the script.  Each must be in the jitdump
        once with unwinding information.
        """
        functions = [f for f in self.read(run, directory).functions() if f.unwinding]
        found = []
        for name in map(self.script_name, qualnames):
            those = [f for f in functions if f.load.name == name]
            self.assertEqual(len(those), 1, (name, those))
            found += those
        return found

    def assert_good_dump(self, dump, pid):
        """Check what holds in every jitdump that the interpreter writes."""
        self.assertEqual(dump.header.pid, pid)
        self.assertEqual(dump.header.flags, 0)
        self.assertEqual(dump.header.machine,
                         elf_machine(fixtures.interpreter_image()))
        functions = dump.functions()
        self.assertGreater(len(functions), 0)
        described = [f for f in functions if f.unwinding]
        if not dump.incomplete:
            self.assertEqual(len(dump.records), 2 * len(functions) + len(described))
        for function, follower in zip(functions, functions[1:] + [None]):
            # A function has none where it got its place for a map.  Then it gets
            # another place, but until then frames return to the first one.
            if function.unwinding is None:
                self.assertEqual(follower.load.name, function.load.name)
                self.assertIsNotNone(follower.unwinding)
        for function in functions:
            load = function.load
            self.assertEqual(load.pid, pid)
            self.assertGreater(load.tid, 0)
            self.assertEqual(load.vma, load.code_addr)
            self.assertRegex(load.name, '^py::')
            [(filename, line, start, end)] = function.lines()
            self.assertEqual((start, end), (function.start, function.end))
            self.assertGreaterEqual(line, 1)
            self.assertEqual(function.debug.entries[1].line, line)
            self.assertEqual(function.debug.entries[1].filename, filename)
            self.assertTrue(load.name.endswith(f':{filename}'), load.name)
        for value in (lambda f: f.load.code_index, lambda f: f.load.code):
            self.assertEqual(len({value(f) for f in functions}),
                             len(functions))
        # Check the unwinding information once: it is the same for many
        # functions.
        for image in {(f.unwinding.eh_frame, f.unwinding.eh_frame_hdr,
                       len(f.load.code)): f.image() for f in described
                      }.values():
            self.assert_good_image(image)
        self.assert_room(functions)

    def assert_good_image(self, image):
        [fde] = image.fdes
        self.assertEqual(image.entries, [fde.cie, fde])
        self.assertEqual((fde.start, fde.size), (0, image.code_size))
        self.assertEqual(image.table, [(0, fde.address)])

    def assert_room(self, functions):
        """The images that perf makes of neighbouring functions do not overlap.
        """
        end = {}
        for function in functions:
            if function.unwinding is None:
                end[function.start] = function.end
                continue
            size = function.image().mapped_size
            self.assertIn(function.unwinding.mapped_size,
                          (0, size - function.image().eh_frame_address))
            end[function.start] = function.start + size
        starts = sorted(end)
        for start, neighbour in zip(starts, starts[1:]):
            self.assertLessEqual(end[start], neighbour)


def names_of(mode, pid):
    """Return the names in the file of this process. The file must be whole.

    In a jitdump that follows a map, places without unwinding information are left out.
    """
    if mode == 'perf':
        entries = parsers.read_map(pid)
        if parsers.overlapping(entries):
            raise ValueError('entries overlap')
        return [entry.name for entry in entries]
    dump = jitdump.read(f'/tmp/jit-{pid}.dump')
    if dump.incomplete:
        raise ValueError(f'{dump.incomplete} bytes are incomplete')
    return [function.load.name for function in dump.functions()
            if function.unwinding is not None]
