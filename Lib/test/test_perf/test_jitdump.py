"""What is in a jitdump, /tmp/jit-PID.dump, byte for byte."""

import collections
import os
import struct
import sys
import time
import unittest
from textwrap import dedent

from test.test_perf import fixtures, jitdump
from test.test_perf.modes import (
    JitdumpMode, LARGEST_ENTRY, dump_path, elf_machine)
from test.test_perf.programs import MARKER


def setUpModule():
    fixtures.require_trampoline()


# The size of the number at the end of each piece of code, in bytes.  It
# differs from the code in memory.
NUMBER_SIZE = 8


# What the test of unwind information knows of an architecture: the DWARF
# numbers of the stack pointer, frame pointer and return address, the distance
# of the stack pointer from the CFA at the start, and the instructions of the
# trampoline.  "save" moves the stack pointer and stores registers above it.
# "restore" loads registers from there and moves it.
Machine = collections.namedtuple('Machine', 'sp fp ra start instructions')


MACHINES = {
    62: Machine(7, 6, 16, -8, [             # EM_X86_64
        (b'\xf3\x0f\x1e\xfa', 'landing'),   # endbr64
        (b'\x55', 'save', -8, (6, 0)),      # push rbp
        (b'\x48\x89\xe5', 'set fp', 0),     # mov rbp, rsp
        (b'\xff\xd1', 'call'),              # call rcx
        (b'\x5d', 'restore', (6, 0), 8),    # pop rbp
        (b'\xc3', 'return'),
    ]),
    183: Machine(31, 29, 30, 0, [           # EM_AARCH64
        (b'\x5f\x24\x03\xd5', 'landing'),   # bti c
        (b'\xfd\x7b\xbf\xa9',               # stp x29, x30, [sp, -16]!
         'save', -16, (29, 0), (30, 8)),
        (b'\xfd\x03\x00\x91', 'set fp', 0),     # mov x29, sp
        (b'\x60\x00\x3f\xd6', 'call'),      # blr x3
        (b'\xfd\x7b\xc1\xa8',               # ldp x29, x30, [sp], 16
         'restore', (29, 0), (30, 8), 16),
        (b'\xc0\x03\x5f\xd6', 'return'),    # ret
    ]),
    243: Machine(2, 8, 1, 0, [              # EM_RISCV
        (b'\x41\x11', 'save', -16),         # addi sp, sp, -16
        (b'\x06\xe4', 'save', 0, (1, 8)),   # sd ra, 8(sp)
        (b'\x22\xe0', 'save', 0, (8, 0)),   # sd s0, 0(sp)
        (b'\x00\x08', 'set fp', 16),        # addi s0, sp, 16
        (b'\x82\x96', 'call'),              # jalr a3
        (b'\xa2\x60', 'restore', (1, 8), 0),    # ld ra, 8(sp)
        (b'\x02\x64', 'restore', (8, 0), 0),    # ld s0, 0(sp)
        (b'\x41\x01', 'restore', 16),       # addi sp, sp, 16
        (b'\x82\x80', 'return'),            # ret
    ]),
}


# Prints the content of all executable memory.
PRINT_MEMORY = dedent("""\
    import re

    with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', 0) as m:
        executable = re.findall(r'(\\w+)-(\\w+) ..x. \\w+ 00:00 0\\s*\\n',
                                maps.read())
        found = {}
        for start, end in executable:
            start, end = int(start, 16), int(end, 16)
            m.seek(start)
            found[start] = m.read(end - start)
        print(found)
    """)


class MarkerTests(JitdumpMode):
    """The mapping by which profilers find the file."""

    def assert_marker(self, fields, run, directory='/tmp'):
        addresses, permissions, offset, device, inode, *path = fields
        self.assertEqual(permissions, 'r-xp')
        self.assertEqual(int(offset, 16), 0)
        path = ' '.join(path)
        self.assertEqual(path, dump_path(run.pid, directory))
        self.assertEqual(int(inode), os.stat(path).st_ino)

    def test_it_is_there(self):
        run = self.run_python(MARKER + dedent("""\
            print(marker())
            """))
        [fields] = eval(run.out)
        self.assert_marker(fields, run)

    def test_it_stays_when_profiling_is_off_again(self):
        run = self.run_python(MARKER + dedent("""\
            import sys
            sys.deactivate_stack_trampoline()
            print(marker())
            """))
        [fields] = eval(run.out)
        self.assert_marker(fields, run)

    def test_there_is_never_more_than_one(self):
        run = self.run_python(MARKER + dedent("""\
            import sys
            for i in range(100):
                sys.activate_stack_trampoline('perf')
                sys.activate_stack_trampoline('perf_jit')
                sys.deactivate_stack_trampoline()
            print(marker())
            """), mode=None)
        [fields] = eval(run.out)
        self.assert_marker(fields, run)

    def test_without_jitdump_there_is_none(self):
        for mode in (None, 'perf'):
            with self.subTest(mode=mode):
                run = self.run_python(MARKER + 'print(marker())', mode=mode)
                self.assertEqual(run.out, '[]\n')

    def test_the_child_of_a_fork_has_its_own(self):
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_python(MARKER + dedent(f"""\
                    from _testinternalcapi import (
                        perf_trampoline_set_persist_after_fork as set_persist)
                    set_persist({persist})
                    child = os.fork()
                    if not child:
                        [fields] = marker()
                        own = f'/tmp/jit-{{os.getpid()}}.dump'
                        os._exit(fields[-1] != own)
                    print(child, os.waitpid(child, 0)[1], len(marker()))
                    """))
                child, status, count = map(int, run.out.split())
                self.track(child)
                self.assertEqual((status, count), (0, 1))


class ContentTests(JitdumpMode):

    def test_each_function_is_there_once(self):
        run = self.run_python("""\
            import sys
            def first(): pass
            def second(): first()
            def generator():
                yield
                yield
            for i in range(10):
                second()
                list(generator())
            """)
        self.functions(run, 'first', 'second', 'generator', '<module>')

    def test_functions_that_were_not_called_are_not_there(self):
        run = self.run_python("""\
            def called(): pass
            def uncalled(): pass
            called()
            """)
        self.functions(run, 'called')
        self.assert_none(self.read(run).names, 'uncalled')

    def test_the_header_has_the_time_at_which_it_was_made(self):
        before = time.monotonic_ns()
        run = self.run_python("""\
            import sys, time
            before = time.monotonic_ns()
            sys.activate_stack_trampoline('perf_jit')
            print(before, time.monotonic_ns())
            """, mode=None)
        begin, end = map(int, run.out.split())
        header = jitdump.read(dump_path(run.pid)).header
        self.assertLessEqual(before, begin)
        self.assertLessEqual(begin, header.timestamp)
        self.assertLessEqual(header.timestamp, end)

    def test_each_function_has_the_time_at_which_it_came(self):
        run = self.run_python("""\
            import time
            def first(): pass
            def second(): pass
            def third(): pass
            times = [time.monotonic_ns()]
            for function in first, second, third:
                function()
                times.append(time.monotonic_ns())
            print(*times)
            """)
        times = list(map(int, run.out.split()))
        functions = self.functions(run, 'first', 'second', 'third')
        for function, begin, end in zip(functions, times, times[1:]):
            stamps = {function.unwinding.timestamp, function.debug.timestamp,
                      function.load.timestamp}
            self.assertEqual(len(stamps), 1)
            self.assertLessEqual(begin, min(stamps))
            self.assertLessEqual(max(stamps), end)

    def test_the_code_is_what_the_process_executes(self):
        run = self.run_python('def function(): pass\nfunction()\n'
                           + PRINT_MEMORY)
        memory = eval(run.out)
        functions = self.read(run).functions()
        self.assertGreater(len(functions), 10)
        for function in functions:
            size = function.end - function.start
            [code] = [block[function.start - start:][:size]
                      for start, block in memory.items()
                      if start <= function.start < start + len(block)]
            self.assertEqual(len(code), size)
            self.assertEqual(function.load.code[:-NUMBER_SIZE],
                             code[:-NUMBER_SIZE])

    def test_the_number_behind_the_code_is_that_of_the_record(self):
        run = self.run_python('pass')
        for number, load in enumerate(self.read(run).loads):
            self.assertEqual(load.code_index, number)
            self.assertEqual(
                int.from_bytes(load.code[-NUMBER_SIZE:], sys.byteorder),
                number)

    def test_each_function_has_its_file_and_line(self):
        run = self.run_python("""\
            import sys

            def function(
                argument=None,
            ):
                return sys._getframe().f_code.co_firstlineno

            class Class:

                def method(self):
                    return sys._getframe().f_code.co_firstlineno

            def generator(): yield sys._getframe().f_code.co_firstlineno

            print(function(), Class().method(), *generator(),
                  (lambda:
                   sys._getframe().f_code.co_firstlineno)())
            """)
        lines = [function.lines()[0] for function in self.functions(
            run, 'function', 'Class.method', 'generator', '<lambda>', 'Class',
            '<module>')]
        self.assertEqual({line[0] for line in lines},
                         {self.path('script.py')})
        self.assertEqual([line[1] for line in lines],
                         [*map(int, run.out.split()), 8, 1])
        self.assertEqual([line[1] for line in lines], [3, 10, 13, 16, 8, 1])

    def test_a_strange_line_does_no_harm(self):
        run = self.run_python("""\
            def function(): pass
            code = function.__code__
            for line in 0, 1, 2**31 - 1:
                function.__code__ = code.replace(co_firstlineno=line,
                                                 co_name=str(line),
                                                 co_qualname=f'line {line}')
                function()
            """)
        functions = self.functions(
            run, 'line 0', 'line 1', f'line {2**31 - 1}')
        self.assertEqual([function.lines()[0][1] for function in functions],
                         [1, 1, 2**31 - 1])

    def test_threads_have_the_kernels_numbers(self):
        run = self.run_python("""\
            import os, threading

            def in_main(): pass

            def announce(name):
                exec(compile(f'def {name}(): pass\\n{name}()', name, 'exec'))
                os.write(1, f'{name} {threading.get_native_id()}\\n'.encode())

            in_main()
            announce('main')
            threads = [threading.Thread(target=announce, args=(f'thread{i}',))
                       for i in range(5)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            """)
        tids = dict(line.split() for line in run.out.splitlines())
        self.assertEqual(len(set(tids.values())), 6)
        loads = {load.name: load for load in self.read(run).loads}
        for name, tid in tids.items():
            self.assertEqual(loads[f'py::{name}:{name}'].tid, int(tid))
        self.assertEqual(loads[self.script_name('in_main')].tid, run.pid)

    def test_threads_write_whole_entries(self):
        run = self.run_python("""\
            import sys, threading

            sys.setswitchinterval(1e-6)

            def announce(number):
                for i in range(200):
                    name = f'f_{number}_{i}'
                    exec(compile(f'def {name}(): pass\\n{name}()', name,
                                 'exec'))

            threads = [threading.Thread(target=announce, args=(i,))
                       for i in range(5)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            """)
        names = [name for name in self.read(run).names
                 if name.startswith('py::f_')]
        self.assertEqual(
            sorted(names), sorted(f'py::f_{number}_{i}:f_{number}_{i}'
                                  for number in range(5) for i in range(200)))

    def test_an_entry_is_small(self):
        # The file name has 30 characters.
        run = self.run_python("""\
            import os

            def function(): pass

            code = function.__code__.replace(co_filename='/' + 'f' * 29)
            path = f'/tmp/jit-{os.getpid()}.dump'
            size = os.path.getsize(path)
            before = os.path.getsize(path)
            for i in range(10_000):
                function.__code__ = code.replace(co_qualname=f'f{i:06}')
                function()
            print((os.path.getsize(path) - before) / 10_000)
            """)
        self.assertLessEqual(float(run.out), LARGEST_ENTRY)
        self.assertEqual(len([name for name in self.read(run).names
                              if name.endswith(':/' + 'f' * 29)]), 10_000)


class UnwindTests(JitdumpMode):
    """The unwinding information is correct."""

    def image_of_some_function(self):
        run = self.run_python('def function(): pass\nfunction()')
        [function] = self.functions(run, 'function')
        return function, function.image()

    def test_it_holds_at_every_instruction(self):
        function, image = self.image_of_some_function()
        [fde] = image.fdes
        machine = MACHINES[elf_machine(fixtures.interpreter_image())]
        self.assertEqual(fde.cie.return_register, machine.ra)
        # Places relative to the CFA. The caller's values are still in the
        # registers, or in memory.
        registers = {machine.sp: machine.start, machine.fp: 'fp',
                     machine.ra: 'ra'}
        memory = {}
        if machine.start < 0:
            registers[machine.ra] = None
            memory[machine.start] = 'ra'
        offset, done = 0, []
        while 'return' not in done:
            row = image.row_at(fde, offset)
            with self.subTest(offset=offset, done=done):
                self.assertEqual(registers[row.register] + row.cfa_offset, 0)
                for number, value in (machine.fp, 'fp'), (machine.ra, 'ra'):
                    if number in row.saved:
                        # perf does not record what is below the stack pointer.
                        self.assertGreaterEqual(row.saved[number],
                                                registers[machine.sp])
                        self.assertEqual(memory[row.saved[number]], value)
                    else:
                        self.assertEqual(registers[number], value)
            [(encoded, name, *arguments)] = [
                x for x in machine.instructions
                if function.load.code.startswith(x[0], offset)]
            if name == 'save':
                move, *places = arguments
                registers[machine.sp] += move
                for number, place in places:
                    memory[registers[machine.sp] + place] = registers[number]
            elif name == 'restore':
                *places, move = arguments
                for number, place in places:
                    registers[number] = memory[registers[machine.sp] + place]
                registers[machine.sp] += move
            elif name == 'set fp':
                registers[machine.fp] = registers[machine.sp] + arguments[0]
            elif name == 'call' and machine.start == 0:
                registers[machine.ra] = None
            done.append(name)
            offset += len(encoded)
        self.assertEqual(registers[machine.sp], machine.start)
        self.assertEqual(registers[machine.fp], 'fp')
        self.assertIn('call', done)
        self.assertLessEqual(offset, len(function.load.code) - NUMBER_SIZE)

    def test_it_is_the_same_for_each_function(self):
        run = self.run_python('pass')
        functions = self.read(run).functions()
        self.assertGreater(len(functions), 10)
        self.assertEqual(len({(f.unwinding.eh_frame, f.unwinding.eh_frame_hdr)
                              for f in functions}), 1)

    def test_the_image_is_mapped_with_all_of_it(self):
        # perf 6.12 finds nothing if this is 0.
        function, image = self.image_of_some_function()
        self.assertEqual(function.unwinding.mapped_size,
                         len(image.eh_frame) + len(image.header))

    def test_living_neighbours_do_not_overlap(self):
        run = self.run_python("""\
            functions = []
            for i in range(2000):
                exec(f'def f{i}(): pass\\nfunctions.append(f{i})')
                functions[-1]()
            """)
        functions = [f for f in self.read(run).functions()
                     if f.load.name.endswith(':<string>')
                     and f.load.name.startswith('py::f')]
        self.assertEqual(len(functions), 2000)
        self.assertEqual(len({f.start for f in functions}), 2000)


class ReaderTests(JitdumpMode):
    """The reader in jitdump.py finds faults."""

    def setUp(self):
        super().setUp()
        run = self.run_python('def function(): pass\nfunction()')
        dump = self.read(run)
        self.function = dump.functions()[-1]
        with open(dump_path(run.pid), 'rb') as file:
            self.data = file.read()
        self.dump = dump

    def test_a_dump_cut_off_at_any_byte_of_its_last_function_is_read(self):
        start = self.function.unwinding.offset
        whole = self.dump.records[:-3]
        for end in range(start, len(self.data)):
            cut = jitdump.parse(self.data[:end])
            last = sum(record.offset + record.size <= end
                       for record in self.dump.records[-3:])
            self.assertEqual(cut.records,
                             self.dump.records[:len(whole) + last])
            self.assertEqual(len(cut.functions()), len(whole) // 3)
            position = [start, self.function.debug.offset,
                        self.function.load.offset][last]
            self.assertEqual(cut.incomplete, end - position)
        self.assertEqual(jitdump.parse(self.data).incomplete, 0)

    def test_a_dump_cut_off_in_its_header_is_read(self):
        for end in range(40):
            cut = jitdump.parse(self.data[:end])
            self.assertIsNone(cut.header)
            self.assertEqual((cut.records, cut.incomplete), ([], end))
        cut = jitdump.parse(self.data[:40])
        self.assertEqual((cut.header, cut.records, cut.incomplete),
                         (self.dump.header, [], 0))

    def assert_fault(self, offset, code, value):
        data = bytearray(self.data)
        struct.pack_into('<' + code, data, offset, value)
        with self.assertRaises((jitdump.FormatError, AssertionError)):
            dump = jitdump.parse(data)
            self.assertEqual(dump.incomplete, 0)
            self.assert_good_dump(dump, self.dump.header.pid)

    def test_faults_are_found(self):
        function = self.function
        unwinding = function.unwinding.offset
        debug = function.debug.offset
        load = function.load.offset
        frame = unwinding + 40
        header = frame + len(function.unwinding.eh_frame)
        fde = frame + (function.image().fdes[0].address
                       - function.image().eh_frame_address)
        for name, offset, code, value in [
                ('magic', 0, 'I', 0x4454694a),
                ('version', 4, 'I', 2),
                ('size of the header', 8, 'I', 48),
                ('machine', 12, 'I', 3),
                ('pid', 20, 'I', 1),
                ('time of the header', 24, 'Q', 2**63),
                ('flags', 32, 'Q', 1),
                ('kind of record', load, 'I', 7),
                ('size of the record', load + 4, 'I', 15),
                ('larger record', load + 4, 'I', 10_000),
                ('smaller record', load + 4, 'I', function.load.size - 1),
                ('time of the record', load + 8, 'Q', 1),
                ('pid of the record', load + 16, 'I', 1),
                ('thread', load + 20, 'I', 0),
                ('place', load + 24, 'Q', function.start + 1),
                ('address', load + 32, 'Q', function.start + 1),
                ('size of the code', load + 40, 'Q', 25),
                ('number', load + 48, 'Q', 0),
                ('address of the lines', debug + 16, 'Q', function.start + 1),
                ('lines', debug + 24, 'Q', 1),
                ('address of the first line', debug + 32, 'Q',
                 function.start + 1),
                ('first line', debug + 40, 'I', 0),
                ('size of the data', unwinding + 16, 'Q', 1),
                ('size of .eh_frame_hdr', unwinding + 24, 'Q', 12),
                ('size that is mapped', unwinding + 32, 'Q', 8),
                ('CIE', fde + 4, 'I', 4),
                ('start in the FDE', fde + 8, 'i', 0),
                ('size in the FDE', fde + 12, 'I', 16),
                ('pointer to .eh_frame', header + 4, 'i', 0),
                ('size of the table', header + 8, 'I', 2),
                ('address in the table', header + 12, 'i', 0),
                ('FDE in the table', header + 16, 'i', 0),
        ]:
            with self.subTest(name):
                self.assert_fault(offset, code, value)

    def test_equal_code_is_found(self):
        first, last = self.dump.loads[0], self.dump.loads[-1]
        self.assert_fault(last.offset + last.size - NUMBER_SIZE, 'Q',
                          first.code_index)


if __name__ == '__main__':
    unittest.main()
