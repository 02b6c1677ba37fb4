"""The jitdump, /tmp/jit-PID.dump, byte for byte.

File level only: no profiler is needed here.  Every program runs in a child;
test.perf_jitdump reads what it leaves.
"""

import collections
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import time
import unittest
from textwrap import dedent

from test.support import import_helper, os_helper
from test.test_perf import fixtures, jitdump, parsers
from test.test_perf.test_hostile import (
    FLAT_PROGRAM, FORBID_EXECUTABLE_MEMORY, PROGRAM, FileInTheWay, Limits)
from test.test_perf.test_trampoline import TELL

# The size of an entry as it may be, with a file name of 30 characters.
LARGEST_ENTRY = 400

# The last bytes of each piece of code differ from those in memory.
NUMBER_SIZE = 8

# What the test of unwind information knows of an architecture: the numbers in
# DWARF of the stack pointer, the frame pointer and the return address; how far
# from the CFA the stack pointer is at the start; and what the instructions of
# the trampoline do: "save" moves the stack pointer and stores registers at
# places above it, "restore" loads registers from there and moves it.
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

# A program prints what is in its executable memory.
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

# A program prints its marker.
MARKER = dedent("""\
    import os

    def marker():
        with open('/proc/self/maps') as maps:
            return [line.split() for line in maps if '/jit-' in line]
    """)


def setUpModule():
    fixtures.require_trampoline()


def dump_path(pid, directory='/tmp'):
    return os.path.join(directory, f'jit-{pid}.dump')


def elf_machine(path):
    """Return e_machine of an ELF file."""
    with open(path, 'rb') as file:
        return struct.unpack_from('<H', file.read(20), 18)[0]


class JitdumpTestCase(fixtures.PerfTestCase):

    def run_jit(self, source, mode='perf_jit', *, prepare='true', **options):
        """Run a script.  In `prepare` $DUMP is the dump to come."""
        return self.run_python(
            source, mode, prepare='DUMP=/tmp/jit-$$.dump; rm -rf "$DUMP"; '
                                  f'{prepare}', **options)

    # For the mixins of test_perf_hostile.
    mode = 'perf_jit'
    variable = '"$DUMP"'
    run_profiled = run_jit

    def file_of(self, pid):
        return dump_path(pid)

    def assert_written(self, run, qualname):
        self.functions(run, qualname)

    def run_jit_and_off(self, source, returncode=0, **options):
        """Run it in jitdump mode and without profiling, see that it does
        the same, and return the run in jitdump mode."""
        return self.run_on_and_off(source, returncode, silent=True,
                                   run=self.run_jit, **options)

    def read(self, run, directory='/tmp'):
        """Return the dump of a run, complete and without fault."""
        pid = run.pid if isinstance(run, fixtures.Finished) else int(run)
        dump = jitdump.read(dump_path(pid, directory))
        self.assertEqual(dump.torn, 0)
        self.assert_good_dump(dump, pid)
        return dump

    def functions(self, run, *qualnames, directory='/tmp'):
        """Return those functions of the script, of each the only one."""
        functions = self.read(run, directory).functions()
        found = []
        for name in map(self.script_name, qualnames):
            those = [f for f in functions if f.load.name == name]
            self.assertEqual(len(those), 1, (name, those))
            found += those
        return found

    def assert_good_dump(self, dump, pid):
        """What holds in every dump of ours."""
        self.assertEqual(dump.header.pid, pid)
        self.assertEqual(dump.header.flags, 0)
        self.assertEqual(dump.header.machine,
                         elf_machine(fixtures.interpreter_image()))
        functions = dump.functions()
        self.assertGreater(len(functions), 0)
        if not dump.torn:
            self.assertEqual(len(dump.records), 3 * len(functions))
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
        # Many functions have the same information.
        for image in {(f.unwinding.eh_frame, f.unwinding.eh_frame_hdr,
                       len(f.load.code)): f.image() for f in functions
                      }.values():
            self.assert_good_image(image)
        self.assert_room(functions)

    def assert_good_image(self, image):
        [fde] = image.fdes
        self.assertEqual(image.entries, [fde.cie, fde])
        self.assertEqual((fde.start, fde.size), (0, image.code_size))
        self.assertEqual(image.table, [(0, fde.address)])

    def assert_room(self, functions):
        """The images of neighbours do not overlap."""
        end = {}
        for function in functions:
            size = function.image().mapped_size
            self.assertIn(function.unwinding.mapped_size,
                          (0, size - function.image().eh_frame_address))
            end[function.start] = function.start + size
        starts = sorted(end)
        for start, neighbour in zip(starts, starts[1:]):
            self.assertLessEqual(end[start], neighbour)


# ---------------------------------------------------------------------------

class SwitchTests(JitdumpTestCase):

    def assert_on(self, run):
        self.assertEqual(run.out, 'True\n')
        self.functions(run, 'tell')
        self.assertEqual(run.err, '')
        self.assertFalse(run.has_map)

    def assert_off(self, run):
        self.assertEqual(run.out, 'False\n')
        self.assertEqual(run.err, '')
        self.assertFalse(os.path.lexists(dump_path(run.pid)))
        self.assertFalse(run.has_map)

    def assert_map(self, run):
        self.assertEqual(run.out, 'True\n')
        self.assertIn(self.script_name('tell'), run.names)
        self.assertEqual(run.err, '')
        self.assertFalse(os.path.lexists(dump_path(run.pid)))

    def test_the_option_switches_it_on(self):
        self.assert_on(self.run_jit(TELL))

    def test_the_option_may_say_1_or_0(self):
        self.assert_on(self.run_jit(TELL, mode='perf_jit=1'))
        self.assert_off(self.run_jit(TELL, mode='perf_jit=0'))

    def test_the_option_may_say_nothing_else(self):
        for value in ('', '2', 'yes', '-1', '01', 'perf'):
            with self.subTest(value=value):
                run = self.run_jit(TELL, mode=f'perf_jit={value}',
                                   returncode=None)
                self.assertGreater(run.returncode, 0, run)
                self.assertEqual(run.out, '')
                self.assertIn('-X perf_jit', run.err)
                self.assertFalse(os.path.lexists(dump_path(run.pid)))

    def test_the_variable_switches_it_on(self):
        self.assert_on(self.run_jit(TELL, mode=None,
                                    env={'PYTHON_PERF_JIT_SUPPORT': '1'}))

    def test_the_variable_empty_or_0_is_off(self):
        for value in ('', '0'):
            with self.subTest(value=value):
                self.assert_off(self.run_jit(
                    TELL, mode=None, env={'PYTHON_PERF_JIT_SUPPORT': value}))

    def test_the_variable_is_ignored_where_all_are(self):
        for option in ('-E', '-I'):
            with self.subTest(option=option):
                self.assert_off(self.run_jit(
                    TELL, mode=None, options=[option],
                    env={'PYTHON_PERF_JIT_SUPPORT': '1'}))

    def test_the_option_wins_over_the_variable(self):
        variable = {'PYTHON_PERF_JIT_SUPPORT': '1'}
        self.assert_off(self.run_jit(TELL, mode='perf_jit=0', env=variable))
        self.assert_map(self.run_jit(TELL, mode='perf', env=variable))
        self.assert_on(self.run_jit(TELL, env={'PYTHONPERFSUPPORT': '1'}))

    def test_of_both_options_it_is_this_one(self):
        for first, second in (('perf', 'perf_jit'), ('perf_jit', 'perf')):
            with self.subTest(first=first):
                self.assert_on(self.run_jit(TELL, mode=first,
                                            options=['-X', second]))

    def test_of_both_variables_it_is_this_one(self):
        self.assert_on(self.run_jit(
            TELL, mode=None, env={'PYTHONPERFSUPPORT': '1',
                                  'PYTHON_PERF_JIT_SUPPORT': '1'}))

    def test_one_of_both_options_may_say_0(self):
        self.assert_on(self.run_jit(TELL, mode='perf_jit',
                                    options=['-X', 'perf=0']))
        self.assert_map(self.run_jit(TELL, mode='perf',
                                     options=['-X', 'perf_jit=0']))

    def test_the_configuration_tells(self):
        import_helper.import_module('_testinternalcapi')
        script = """\
            import _testinternalcapi
            print(_testinternalcapi.get_config()['perf_profiling'])
            """
        self.assertEqual(self.run_jit(script).out, '2\n')
        self.assertEqual(self.run_jit(
            script, mode=None, env={'PYTHON_PERF_JIT_SUPPORT': '1'}).out,
            '2\n')

    def test_the_helps_list_the_switches(self):
        for option, expected in (('--help-xoptions', '-X perf_jit'),
                                 ('--help-env', 'PYTHON_PERF_JIT_SUPPORT')):
            with self.subTest(option=option):
                run = self.run_command([sys.executable, option])
                self.assertIn(expected, run.out)

    def test_the_function_switches_it_on_and_off(self):
        run = self.run_jit("""\
            import os, sys

            def before(): pass
            def during(): pass
            def after(): pass

            before()
            print(sys.activate_stack_trampoline('perf_jit'))
            print(sys.is_stack_trampoline_active())
            during()
            sys.deactivate_stack_trampoline()
            print(sys.is_stack_trampoline_active())
            after()
            """, mode=None)
        self.assertEqual(run.out, 'None\nTrue\nFalse\n')
        self.assertEqual(run.err, '')
        self.assertEqual(self.read(run).names, [self.script_name('during')])
        self.assertFalse(run.has_map)

    def test_the_file_is_for_its_owner_only(self):
        run = self.run_jit('pass', prepare='umask 0')
        status = os.stat(dump_path(run.pid))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)

    def assert_switched(self, first, second):
        """Each file has what was called for the first time in its mode."""
        run = self.run_jit(f"""\
            import sys

            def early(): pass
            def both(): pass
            def late(): pass

            early()
            both()
            sys.activate_stack_trampoline({second!r})
            print(sys.is_stack_trampoline_active())
            both()
            late()
            """, mode=first)
        self.assertEqual(run.out, 'True\n')
        script = {self.script_name(n): n for n in ('early', 'both', 'late')}
        names = {'perf': run.names, 'perf_jit': self.read(run).names}
        self.assertEqual([script[n] for n in names[first] if n in script],
                         ['early', 'both'])
        self.assertEqual([script[n] for n in names[second] if n in script],
                         ['both', 'late'])

    def test_from_the_map_to_the_jitdump_at_run_time(self):
        self.assert_switched('perf', 'perf_jit')

    def test_from_the_jitdump_to_the_map_at_run_time(self):
        self.assert_switched('perf_jit', 'perf')

    def test_a_function_keeps_its_address_in_both_files(self):
        run = self.run_jit("""\
            import sys
            def function(): pass
            function()
            sys.activate_stack_trampoline('perf')
            function()
            """)
        [function] = self.functions(run, 'function')
        [entry] = [entry for entry in run.entries
                   if entry.name == self.script_name('function')]
        self.assertEqual((entry.start, entry.size),
                         (function.start, function.end - function.start))

    def test_activated_again_the_dump_is_continued(self):
        for between in ('sys.deactivate_stack_trampoline()',
                        'sys.activate_stack_trampoline("perf")',
                        'sys.activate_stack_trampoline("perf_jit")'):
            with self.subTest(between=between):
                run = self.run_jit(f"""\
                    import sys

                    def first(): pass
                    def second(): pass
                    def third(): pass

                    for function in first, second, third:
                        sys.activate_stack_trampoline('perf_jit')
                        first()
                        function()
                        {between}
                    """, mode=None)
                # One header, or it would not parse; each function once.
                self.functions(run, 'first', 'second', 'third')

    def test_to_and_fro_each_function_is_in_each_file_once(self):
        run = self.run_jit("""\
            import sys
            def function(): pass
            for i in range(5):
                sys.activate_stack_trampoline('perf_jit')
                function()
                sys.activate_stack_trampoline('perf')
                function()
            """, mode=None)
        self.functions(run, 'function')
        self.assertEqual(run.names.count(self.script_name('function')), 1)

    def test_subinterpreters_share_the_dump(self):
        import_helper.import_module('_xxsubinterpreters')
        run = self.run_jit("""\
            import sys
            import _xxsubinterpreters as interpreters

            def outer(): pass

            outer()
            interpreter = interpreters.create()
            interpreters.run_string(interpreter, '''if True:
                def inner(): pass
                inner()
                ''')
            interpreters.destroy(interpreter)
            def late(): pass
            late()
            """)
        self.functions(run, 'outer', 'late')
        self.assertEqual([name for name in self.read(run).names
                          if 'inner' in name], ['py::inner:<string>'])


class MarkerTests(JitdumpTestCase):
    """The mapping that profilers find the file by."""

    def assert_marker(self, fields, run, directory='/tmp'):
        addresses, permissions, offset, device, inode, *path = fields
        self.assertEqual(permissions, 'r-xp')
        self.assertEqual(int(offset, 16), 0)
        path = ' '.join(path)
        self.assertEqual(path, dump_path(run.pid, directory))
        self.assertEqual(int(inode), os.stat(path).st_ino)

    def test_it_is_there(self):
        run = self.run_jit(MARKER + dedent("""\
            print(marker())
            """))
        [fields] = eval(run.out)
        self.assert_marker(fields, run)

    def test_it_stays_when_profiling_is_off_again(self):
        run = self.run_jit(MARKER + dedent("""\
            import sys
            sys.deactivate_stack_trampoline()
            print(marker())
            """))
        [fields] = eval(run.out)
        self.assert_marker(fields, run)

    def test_there_is_never_more_than_one(self):
        run = self.run_jit(MARKER + dedent("""\
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
                run = self.run_jit(MARKER + 'print(marker())', mode=mode)
                self.assertEqual(run.out, '[]\n')

    def test_the_child_of_a_fork_has_its_own(self):
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_jit(MARKER + dedent(f"""\
                    import _testinternalcapi
                    _testinternalcapi.perf_trampoline_set_persist_after_fork(
                        {persist})
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


class ContentTests(JitdumpTestCase):

    def test_each_function_is_there_once(self):
        run = self.run_jit("""\
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
        run = self.run_jit("""\
            def called(): pass
            def uncalled(): pass
            called()
            """)
        self.functions(run, 'called')
        self.assertNotIn(self.script_name('uncalled'), self.read(run).names)

    def test_the_header_has_the_time_at_which_it_was_made(self):
        before = time.monotonic_ns()
        run = self.run_jit("""\
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
        run = self.run_jit("""\
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
        run = self.run_jit('def function(): pass\nfunction()\n'
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
        run = self.run_jit('pass')
        for number, load in enumerate(self.read(run).loads):
            self.assertEqual(load.code_index, number)
            self.assertEqual(
                int.from_bytes(load.code[-NUMBER_SIZE:], sys.byteorder),
                number)

    def test_each_function_has_its_file_and_line(self):
        run = self.run_jit("""\
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
        run = self.run_jit("""\
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
        run = self.run_jit("""\
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
        run = self.run_jit("""\
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
        # Its file name has 30 characters.
        run = self.run_jit("""\
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


class UnwindTests(JitdumpTestCase):
    """The unwinding information says the truth."""

    def image_of_some_function(self):
        run = self.run_jit('def function(): pass\nfunction()')
        [function] = self.functions(run, 'function')
        return function, function.image()

    def test_it_holds_at_every_instruction(self):
        function, image = self.image_of_some_function()
        [fde] = image.fdes
        machine = MACHINES[elf_machine(fixtures.interpreter_image())]
        self.assertEqual(fde.cie.return_register, machine.ra)
        # Where things are, relative to the CFA.  What the caller had in its
        # registers is still there, or in memory.
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
                        # Below the stack pointer there is nothing: perf does
                        # not record that.
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
        run = self.run_jit('pass')
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
        run = self.run_jit("""\
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


class ReaderTests(JitdumpTestCase):
    """The reader of the tests finds what is to be found."""

    def setUp(self):
        super().setUp()
        run = self.run_jit('def function(): pass\nfunction()')
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
            self.assertEqual(cut.torn, end - position)
        self.assertEqual(jitdump.parse(self.data).torn, 0)

    def test_a_dump_cut_off_in_its_header_is_read(self):
        for end in range(40):
            cut = jitdump.parse(self.data[:end])
            self.assertIsNone(cut.header)
            self.assertEqual((cut.records, cut.torn), ([], end))
        cut = jitdump.parse(self.data[:40])
        self.assertEqual((cut.header, cut.records, cut.torn),
                         (self.dump.header, [], 0))

    def assert_fault(self, offset, code, value):
        data = bytearray(self.data)
        struct.pack_into('<' + code, data, offset, value)
        with self.assertRaises((jitdump.FormatError, AssertionError)):
            dump = jitdump.parse(data)
            self.assertEqual(dump.torn, 0)
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


class NameTests(JitdumpTestCase):

    NAMES = {
        r"'a\nb'": r'a\nb',
        r"'a\0b'": r'a\x00b',
        r"'\x01\x1b[31m\x7f\x85'": r'\x01\x1b[31m\x7f\x85',
        r"'a\rb\tc'": r'a\rb\tc',
        r"'\u2028\udc80\ud800'": r'\u2028\udc80\ud800',
        r"'back\\slash'": r'back\\slash',
        r"'Gr\xfc\xdfe \u65e5\u672c \U0001f40d'": 'Grüße 日本 🐍',
        "'f'": 'f',
        "'n' * 99_999 + 'm'": 'n' * 99_999 + 'm',
        r"'\n' * 100_000": r'\n' * 100_000,
        # In a jitdump this byte would stand for the name before.
        r"'\xff'": '\xff',
    }

    def test_hostile_names_are_as_in_a_map(self):
        source = f"""\
            def function(): pass

            code = function.__code__
            for name in [{', '.join(self.NAMES)}, '']:
                function.__code__ = code.replace(
                    co_qualname=name, co_filename='/file.py')
                function()
                function.__code__ = code.replace(
                    co_qualname='function', co_filename=name)
                function()
            """
        dump = self.read(self.run_jit_and_off(source))
        names = dump.names
        for name in [*self.NAMES.values(), '']:
            with self.subTest(name=name[:100]):
                self.assertIn(f'py::{name}:/file.py', names)
                self.assertIn(f'py::function:{name}', names)
        in_map = self.run_python(source)
        for name in in_map.names:
            self.assertTrue(name in names, name[:100])

    def test_an_empty_file_name_is_no_fault(self):
        run = self.run_jit("""\
            def function(): pass
            function.__code__ = function.__code__.replace(co_filename='')
            function()
            """)
        [function] = [f for f in self.read(run).functions()
                      if f.load.name == 'py::function:']
        self.assertEqual(function.lines()[0][:2], ('', 1))

    def test_names_about_the_size_of_a_buffer_are_whole(self):
        sizes = [n + d for n in (64, 128, 256, 512, 1024, 4096, 65536)
                 for d in range(-8, 8)]
        run = self.run_jit(f"""\
            def function(): pass
            code = function.__code__
            for size in {sizes}:
                function.__code__ = code.replace(
                    co_qualname='é' + 'n' * (size - 2), co_filename='/f')
                function()
                function.__code__ = code.replace(
                    co_qualname='x', co_filename='/' + 'f' * size)
                function()
            """)
        names = self.read(run).names
        self.assertEqual(
            [name for name in names if name.endswith(':/f')],
            ['py::é' + 'n' * (size - 2) + ':/f' for size in sizes])
        self.assertEqual(
            [name for name in names if name.startswith('py::x:')],
            ['py::x:/' + 'f' * size for size in sizes])


class ReuseTests(JitdumpTestCase):
    """The place of a function that is gone is used for another one."""

    COUNT = 100_000

    def test_functions_made_and_dropped_take_bounded_memory(self):
        run = self.run_jit(f"""\
            import re

            def template(): pass

            def use():
                with open('/proc/self/status') as file:
                    rss = int(re.search('VmRSS:\\\\s*(\\\\d+) kB',
                                        file.read())[1])
                with open('/proc/self/maps') as file:
                    return rss, len(file.readlines())

            def make_and_drop(begin, end):
                code = template.__code__
                function = type(template)
                for i in range(begin, end):
                    function(code.replace(co_qualname=f'f{{i}}',
                                          co_filename='/made'), {{}})()

            make_and_drop(0, {self.COUNT // 5})
            before = use()
            make_and_drop({self.COUNT // 5}, {self.COUNT})
            after = use()
            print(after[0] - before[0], after[1] - before[1])
            """)
        rss, mappings = map(int, run.out.split())
        # Places of their own would take 14 megabytes.
        self.assertLess(rss, 4096)
        self.assertLess(mappings, 5)
        dump = jitdump.read(dump_path(run.pid))
        self.assertEqual(dump.torn, 0)
        made = [load for load in dump.loads if load.name.endswith(':/made')]
        self.assertEqual([load.name for load in made],
                         [f'py::f{i}:/made' for i in range(self.COUNT)])
        self.assertLess(len({load.code_addr for load in made}), 100)
        self.assertEqual(len({load.code_index for load in dump.loads}),
                         len(dump.loads))
        self.assertEqual(len({load.code for load in dump.loads}),
                         len(dump.loads))

    def test_a_place_is_not_used_while_its_function_lives(self):
        run = self.run_jit("""\
            import sys

            def template(): pass

            kept = []
            for i in range(3000):
                function = type(template)(template.__code__.replace(
                    co_qualname=f'f{i}', co_filename='/made'), {})
                function()
                if i % 3 == 0:
                    kept.append(function)
            """)
        functions = [f for f in self.read(run).functions()
                     if f.load.name.endswith(':/made')]
        taken = set()
        for i, function in enumerate(functions):
            self.assertEqual(function.load.name, f'py::f{i}:/made')
            self.assertNotIn(function.start, taken)
            if i % 3 == 0:
                taken.add(function.start)
        self.assertEqual(len(taken), 1000)
        self.assertLess(len({f.start for f in functions}), 1100)

    def test_a_generator_keeps_the_place_of_its_function(self):
        run = self.run_jit("""\
            def template(): pass

            def make(i):
                exec(f'def f{i}():\\n yield 1\\n yield 2')
                return locals()[f'f{i}']()

            generators = [make(i) for i in range(50)]
            for generator in generators:
                next(generator)
            for i in range(500):
                type(template)(template.__code__.replace(
                    co_qualname=f'other{i}', co_filename='/made'), {})()
            for generator in generators:
                assert next(generator) == 2
            """)
        functions = self.read(run).functions()
        living = {f.start for f in functions
                  if f.load.name.startswith('py::f')
                  and f.load.name.endswith(':<string>')}
        self.assertEqual(len(living), 50)
        self.assertFalse(living & {f.start for f in functions
                                   if f.load.name.endswith(':/made')})

    def test_an_address_in_a_map_never_gets_another_name(self):
        run = self.run_jit("""\
            import sys

            def template(): pass

            def make_and_drop(name):
                for i in range(100):
                    type(template)(template.__code__.replace(
                        co_qualname=f'{name}{i}', co_filename='/made'), {})()

            for name in 'abcdef':
                sys.activate_stack_trampoline('perf_jit')
                make_and_drop(name)
                sys.activate_stack_trampoline('perf')
                make_and_drop(name.upper())
            """)
        self.assert_good_map(list(set(run.entries)))
        in_map = {entry.start: entry.name for entry in run.entries
                  if entry.name.endswith(':/made')}
        self.assertEqual(len(in_map), 600)
        functions = [f for f in self.read(run).functions()
                     if f.load.name.endswith(':/made')]
        self.assertEqual(len(functions), 600)
        for function in functions:
            if function.start in in_map:
                # It was announced in the map later.
                letter = in_map[function.start][4].lower()
                self.assertLessEqual(function.load.name[4], letter)

    def test_it_is_in_use_again_after_profiling_was_off(self):
        run = self.run_jit("""\
            import sys

            def template(): pass

            def make(name, count):
                made = [type(template)(template.__code__.replace(
                            co_qualname=f'{name}{i}', co_filename='/made'), {})
                        for i in range(count)]
                for function in made:
                    function()
                return made

            kept = make('early', 1000)
            sys.deactivate_stack_trampoline()
            del kept
            sys.activate_stack_trampoline('perf_jit')
            kept = make('late', 1000)
            """)
        functions = [f for f in self.read(run).functions()
                     if f.load.name.endswith(':/made')]
        self.assertEqual(len(functions), 2000)
        self.assertEqual(len({f.start for f in functions}), 1000)


# ---------------------------------------------------------------------------

FORK = dedent("""\
    import os, sys

    def only_child(): pass
    def only_parent(): pass
    def before(): pass
    exec('def dropped(): pass\\ndropped()\\ndel dropped')

    def forking():
        child = os.fork()
        if not child:
            only_child()
            os._exit(0)
        only_parent()
        assert os.waitpid(child, 0)[1] == 0
        print(child)

    before()
    """)


@unittest.skipUnless(hasattr(os, 'fork'), 'needs os.fork')
class ForkTests(JitdumpTestCase):

    def children(self, run, *qualnames):
        """Return the dump of the child, and which of these are in it."""
        dump = self.read(self.track(run.out))
        return dump, [name for name in qualnames
                      if self.script_name(name) in dump.names]

    NAMES = ('only_child', 'only_parent', 'before', 'dropped', 'forking',
             '<module>')

    def test_the_child_has_a_dump_of_its_own(self):
        run = self.run_jit(FORK + 'forking()')
        dump, found = self.children(run, *self.NAMES)
        # What it has run, and what is on its stack.
        self.assertEqual(found, ['only_child', 'forking', '<module>'])
        self.assertNotIn(self.script_name('only_child'),
                         self.read(run).names)
        self.functions(run, 'only_parent', 'before', 'forking', '<module>')
        for load in dump.loads:
            self.assertEqual(load.tid, dump.header.pid)

    def test_inherited_functions_keep_their_address(self):
        run = self.run_jit(FORK + 'forking()')
        self.children(run)
        for name in ('forking', '<module>'):
            [in_parent] = self.functions(run, name)
            [in_child] = self.functions(run.out, name)
            self.assertEqual(in_child.start, in_parent.start)

    def test_with_persist_the_child_has_what_the_parent_had(self):
        import_helper.import_module('_testinternalcapi')
        run = self.run_jit(FORK + dedent("""\
            import _testinternalcapi as t
            def compiled(): pass
            t.compile_perf_trampoline_entry(compiled.__code__)
            t.perf_trampoline_set_persist_after_fork(1)
            forking()
            """))
        dump, found = self.children(run, *self.NAMES, 'compiled')
        self.assertEqual(found, ['only_child', 'before', 'forking',
                                 '<module>', 'compiled'])
        self.assertNotIn('py::dropped:<string>', dump.names)
        self.assertIn('py::dropped:<string>', self.read(run).names)
        # What the frozen modules have does not die.
        child = {f.load.name: f for f in dump.functions()}
        lasting = [f for f in self.read(run).functions()
                   if f.load.timestamp < dump.header.timestamp
                   and '._' in f.load.name and '<frozen' in f.load.name]
        self.assertGreater(len(lasting), 10)
        for function in lasting:
            copy = child[function.load.name]
            self.assertEqual(copy.start, function.start)
            self.assertEqual(copy.lines(), function.lines())

    def test_a_child_may_fork_again(self):
        import_helper.import_module('_testinternalcapi')
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_jit(f"""\
                    import os, _testinternalcapi

                    def generation(n):
                        if not n:
                            return
                        def local(): pass
                        local.__code__ = local.__code__.replace(
                            co_qualname=f'local{{n}}')
                        local()
                        child = os.fork()
                        if not child:
                            generation(n - 1)
                            os._exit(0)
                        assert os.waitpid(child, 0)[1] == 0
                        print(child, flush=True)

                    _testinternalcapi.perf_trampoline_set_persist_after_fork(
                        {persist})
                    generation(4)
                    """)
                children = run.out.split()[::-1]
                self.assertEqual(len(children), 4)
                for child in children:
                    self.track(child)
                for n, pid in zip((4, 3, 2, 1, 0), [run.pid, *children]):
                    names = self.read(pid).names
                    self.assertIn(self.script_name('generation'), names)
                    if n:
                        self.assertIn(self.script_name(f'local{n}'), names)
                    if n < 4:
                        # Its creator has it in a frame, alive.
                        self.assertEqual(
                            self.script_name(f'local{n + 1}') in names,
                            bool(persist))

    def test_functions_in_use_again_in_the_child_are_told_apart(self):
        run = self.run_jit("""\
            import os

            def template(): pass

            def make_and_drop(name, count=100):
                for i in range(count):
                    type(template)(template.__code__.replace(
                        co_qualname=f'{name}{i}', co_filename='/made'), {})()

            make_and_drop('before')
            child = os.fork()
            if not child:
                make_and_drop('child')
                os._exit(0)
            make_and_drop('parent')
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        dump, _ = self.children(run)
        self.assertEqual([name for name in dump.names
                          if name.endswith(':/made')],
                         [f'py::child{i}:/made' for i in range(100)])
        self.assertEqual([name for name in self.read(run).names
                          if name.endswith(':/made')],
                         [f'py::{name}{i}:/made' for name in
                          ('before', 'parent') for i in range(100)])

    def test_profiling_that_is_off_stays_off_in_the_child(self):
        run = self.run_jit(FORK + dedent("""\
            sys.deactivate_stack_trampoline()
            forking()
            """))
        self.assertFalse(os.path.exists(dump_path(self.track(run.out))))

    def test_the_child_may_go_on_with_a_map(self):
        run = self.run_jit("""\
            import os, sys

            def in_child(): pass

            child = os.fork()
            if not child:
                sys.activate_stack_trampoline('perf')
                in_child()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        child = self.track(run.out)
        self.assertIn(self.script_name('in_child'),
                      [entry.name for entry in parsers.read_map(child)])
        self.assertNotIn(self.script_name('in_child'), self.read(child).names)

    def test_a_child_forked_without_the_interpreter_is_noticed(self):
        import_helper.import_module('ctypes')
        run = self.run_jit("""\
            import ctypes, os

            def before(): pass
            def in_child(): pass

            def forking():
                child = ctypes.PyDLL(None).fork()
                if not child:
                    in_child()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                print(child)

            before()
            forking()
            """)
        dump, found = self.children(run, 'in_child', 'before', 'forking')
        self.assertEqual(found, ['in_child', 'forking'])
        self.assertNotIn(self.script_name('in_child'), self.read(run).names)

    def test_multiprocessing_children_have_dumps(self):
        import_helper.import_module('_multiprocessing')
        run = self.run_jit("""\
            import multiprocessing, os

            def work():
                print(os.getpid(), flush=True)

            for method in 'fork', 'spawn':
                context = multiprocessing.get_context(method)
                child = context.Process(target=work)
                if __name__ == '__main__':
                    child.start()
                    child.join()
            """, mode=None, env={'PYTHON_PERF_JIT_SUPPORT': '1',
                                 'JITDUMPDIR': self.directory})
        for child in run.out.split():
            names = self.read(child, self.directory).names
            self.assertTrue([name for name in names
                             if name.startswith('py::work:')])
        self.assertEqual(len(run.out.split()), 2)


class KillTests(JitdumpTestCase):

    CALL_MANY = dedent("""\
        import os, signal, sys

        def announce(first, last):
            for i in range(first, last):
                exec(compile(f'def f{i}(): pass\\nf{i}()', '/made', 'exec'))

        announce(0, 500)
        """)

    def assert_all(self, run):
        self.assertEqual([name for name in self.read(run).names
                          if name.startswith('py::f')
                          and name.endswith(':/made')],
                         [f'py::f{i}:/made' for i in range(500)])

    def test_nothing_is_lost_by_a_kill(self):
        self.assert_all(self.run_jit(
            self.CALL_MANY + 'os.kill(os.getpid(), signal.SIGKILL)',
            returncode=-signal.SIGKILL))

    def test_nothing_is_lost_by_an_exit_without_finalization(self):
        self.assert_all(self.run_jit(self.CALL_MANY
                                     + 'os._exit(3)', returncode=3))

    def test_nothing_is_lost_by_an_abort(self):
        self.assert_all(self.run_jit(
            self.CALL_MANY + 'os.abort()',
            returncode=-signal.SIGABRT, prepare='ulimit -c 0'))

    def test_nothing_is_lost_by_another_program(self):
        self.assert_all(self.run_jit(
            self.CALL_MANY + "os.execv('/bin/true', ['true'])"))

    def test_a_kill_at_any_time_costs_the_last_record_at_most(self):
        command = self.python_command(self.CALL_MANY + dedent("""\
            print(flush=True)
            while True:
                announce(0, 100)
            """), 'perf_jit')
        with subprocess.Popen(command, stdout=subprocess.PIPE,
                              env=fixtures.clean_environment()) as child:
            self.track(child.pid)
            child.stdout.readline()
            child.kill()
        dump = jitdump.read(dump_path(child.pid))
        self.assertGreaterEqual(len(dump.functions()), 500)
        self.assert_good_dump(dump, child.pid)


# ---------------------------------------------------------------------------
# Surroundings

class RefusedTestCase(JitdumpTestCase):

    def run_refused(self, prepare, *parts, env=None, action='cannot open',
                    directory='/tmp'):
        run = self.run_jit_and_off(PROGRAM, returncode=3, prepare=prepare,
                                   env=env)
        self.assertEqual(run.out, '20\nFalse\n')
        self.assert_one_warning(run, action, *parts)
        if directory:
            self.assertIn(f' {dump_path(run.pid, directory)}: ',
                          run.warnings[0])
        self.assertFalse(run.has_map)
        return run


class FileInTheWayTests(FileInTheWay, RefusedTestCase):

    def test_our_own_old_file_is_started_afresh(self):
        run = self.run_jit('pass', prepare='head -c 100000 /dev/zero >"$DUMP";'
                                           ' chmod 644 "$DUMP"')
        self.assertEqual(run.err, '')
        self.read(run)
        status = os.stat(dump_path(run.pid))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)

    def test_the_map_is_no_way_out_but_can_be_asked_for(self):
        run = self.run_jit("""\
            import sys

            def late(): pass

            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            late()
            """, prepare='mkdir "$DUMP"')
        self.assertEqual(run.out, 'True\n')
        self.assert_one_warning(run, 'cannot open')
        self.assertIn(self.script_name('late'), run.names)

    def test_a_switch_from_the_map_that_fails_switches_off(self):
        run = self.run_jit("""\
            import os, sys

            def before(): pass
            def after(): pass

            before()
            os.mkdir(f'/tmp/jit-{os.getpid()}.dump')
            sys.activate_stack_trampoline('perf_jit')
            print(sys.is_stack_trampoline_active())
            after()
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            """, mode='perf')
        self.assertEqual(run.out, 'False\nTrue\n')
        self.assert_one_warning(run, 'cannot open', dump_path(run.pid))
        self.assertIn(self.script_name('before'), run.names)
        self.assertNotIn(self.script_name('after'), run.names)

    def test_a_dump_that_is_gone_is_made_anew(self):
        run = self.run_jit(MARKER + dedent("""\
            def before(): pass
            def after(): pass

            before()
            os.unlink(f'/tmp/jit-{os.getpid()}.dump')
            os.closerange(3, 20_000)    # so that it is opened again
            exec('def late(): pass\\nlate()')
            after()
            before()
            print(len(marker()))
            """))
        # It is sound in itself, and has what has been called since.
        self.functions(run, 'before', 'after')
        self.assertEqual(run.out, '1\n')
        self.assertEqual(run.err, '')


class DirectoryTests(RefusedTestCase):
    """The directory that JITDUMPDIR names."""

    def setUp(self):
        super().setUp()
        self.other = self.path('dumps')
        os.mkdir(self.other)

    def run_in(self, source=TELL, directory=None, **options):
        return self.run_jit(source, env={'JITDUMPDIR': directory
                                         or self.other}, **options)

    def test_the_dump_is_written_there(self):
        run = self.run_in()
        self.functions(run, 'tell', directory=self.other)
        self.assertEqual(run.err, '')
        self.assertFalse(os.path.lexists(dump_path(run.pid)))
        self.assertEqual(os.listdir(self.other), [f'jit-{run.pid}.dump'])

    def test_the_marker_is_there(self):
        run = self.run_in(MARKER + 'print(marker())')
        [[*_, path]] = eval(run.out)
        self.assertEqual(path, dump_path(run.pid, self.other))

    def test_it_may_be_relative(self):
        run = self.run_in(directory='.', cwd=self.other)
        self.functions(run, 'tell', directory=self.other)

    def test_it_may_have_a_space_in_its_name(self):
        directory = self.path('a b')
        os.mkdir(directory)
        run = self.run_in(directory=directory)
        self.functions(run, 'tell', directory=directory)

    def test_it_may_be_a_link_to_a_directory(self):
        os.symlink(self.other, self.path('link'))
        run = self.run_in(directory=self.path('link'))
        self.functions(run, 'tell', directory=self.other)

    def test_empty_it_does_not_count(self):
        run = self.run_jit(TELL, env={'JITDUMPDIR': ''})
        self.functions(run, 'tell')

    def test_the_map_does_not_go_there(self):
        run = self.run_in(mode='perf')
        self.assertIn(self.script_name('tell'), run.names)
        self.assertEqual(os.listdir(self.other), [])

    def test_it_is_read_when_profiling_is_switched_on(self):
        run = self.run_jit("""\
            import os, sys
            def first(): pass
            def second(): pass
            first()
            sys.deactivate_stack_trampoline()
            os.environ['JITDUMPDIR'] = sys.argv[1]
            sys.activate_stack_trampoline('perf_jit')
            first()
            second()
            """, args=[self.other])
        self.functions(run, 'first')
        self.functions(run, 'first', 'second', directory=self.other)

    def test_the_child_of_a_fork_writes_there_too(self):
        run = self.run_in(FORK + 'forking()')
        self.functions(run, 'forking', directory=self.other)
        self.functions(self.track(run.out), 'forking', 'only_child',
                       directory=self.other)

    def run_there(self, name, *parts, prepare='true', action='cannot open'):
        return self.run_refused(
            prepare, *parts, env={'JITDUMPDIR': name}, action=action,
            directory=name)

    def test_a_directory_that_does_not_exist(self):
        self.run_there(self.path('missing'), os.strerror(errno.ENOENT))
        self.assertFalse(os.path.lexists(self.path('missing')))

    def test_a_directory_that_is_a_file(self):
        with open(self.path('file'), 'w'):
            pass
        self.run_there(self.path('file'), os.strerror(errno.ENOTDIR))

    def test_a_directory_whose_name_is_too_long(self):
        for name in ('/' + 'd' * 300, '/' + 'd/' * 3000, '/d' * 510):
            with self.subTest(length=len(name)):
                run = self.run_refused('true', env={'JITDUMPDIR': name},
                                       directory=None)
                self.assertRegex(run.warnings[0],
                                 f'{os.strerror(errno.ENAMETOOLONG)}|'
                                 f'{os.strerror(errno.ENOENT)}')

    def test_a_directory_whose_name_is_just_not_too_long(self):
        # A path of 1024 bytes and more is refused; none is cut.
        for length in range(990, 1010):
            directory = self.other
            while len(directory) < length - 130:
                directory += '/' + 'd' * 100
            directory += '/' + 'd' * (length - len(directory) - 1)
            os.makedirs(directory, exist_ok=True)
            run = self.run_in('pass', directory=directory)
            if run.warnings:
                self.assert_one_warning(run, os.strerror(errno.ENAMETOOLONG))
                self.assertEqual(os.listdir(directory), [])
                self.assertGreater(len(dump_path(run.pid, directory)), 1000)
            else:
                self.read(run, directory)

    @fixtures.requires_root
    def test_a_directory_without_permission(self):
        os.chmod(self.directory, 0o755)
        run = self.run_jit("""\
            import os, sys
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            sys.activate_stack_trampoline('perf_jit')
            assert not sys.is_stack_trampoline_active()
            """, mode=None, env={'JITDUMPDIR': self.other})
        self.assert_one_warning(run, 'cannot open',
                                dump_path(run.pid, self.other),
                                os.strerror(errno.EACCES))

    def test_a_link_in_it_is_not_followed(self):
        self.run_there(
            self.other, 'symbolic link',
            prepare=f'ln -sf {self.make_target()} {self.other}/jit-$$.dump')
        self.assert_target_untouched()


class DescriptorTests(JitdumpTestCase):

    def test_a_program_may_close_all_descriptors(self):
        run = self.run_jit_and_off("""\
            import os

            def before(): pass
            def after(): pass
            def again(): pass

            before()
            os.closerange(3, 20_000)
            after()
            os.closerange(3, 20_000)
            exec('def late(): pass\\nlate()')
            again()
            print('done')
            """)
        self.functions(run, 'before', 'after', 'again')
        self.assertEqual(run.err, '')

    def test_a_file_with_its_number_is_not_written(self):
        run = self.run_jit_and_off("""\
            import os, sys

            def after(): pass

            os.closerange(3, 20_000)
            own = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            while own < 1000:
                own = os.dup(own)
            for i in range(1000):
                exec(f'def f{i}(): pass\\nf{i}()')
            after()
            print(os.fstat(own).st_size)
            """, args=[self.path('own')])
        self.assertEqual(run.out, '0\n')
        self.functions(run, 'after')

    def test_a_subprocess_does_not_inherit_it(self):
        run = self.run_jit("""\
            import subprocess, sys
            print(subprocess.run(['/bin/ls', '-l', '/proc/self/fd'],
                                 close_fds=False, capture_output=True,
                                 text=True).stdout)
            """)
        self.assertIn('/proc/', run.out)
        self.assertNotIn('/jit-', run.out)


class LimitTests(Limits, JitdumpTestCase):

    def test_a_limit_on_the_size_of_files(self):
        run = self.run_jit("""\
            import os, resource, sys

            def late(): pass

            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, unlimited[1]))
            sys.activate_stack_trampoline('perf_jit')
            print(sys.is_stack_trampoline_active())
            for i in range(1000):
                exec(f'def function{i}(): pass\\nfunction{i}()')
            print(sys.is_stack_trampoline_active())
            size = os.path.getsize(f'/tmp/jit-{os.getpid()}.dump')
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            sys.activate_stack_trampoline('perf_jit')
            print(sys.is_stack_trampoline_active(), size)
            late()
            """, mode=None)
        first, second, third, size = run.out.split()
        self.assertEqual((first, second, third), ('True', 'False', 'True'))
        self.assertLessEqual(int(size), 10_000)
        self.assertGreater(int(size), 10_000 - 2 * LARGEST_ENTRY)
        self.assert_one_warning(run, 'cannot write', dump_path(run.pid),
                                os.strerror(errno.EFBIG))
        self.functions(run, 'late')     # whole before it and behind it

    def test_a_limit_on_the_size_of_files_from_the_start(self):
        for blocks in (0, 1, 2, 10):
            with self.subTest(blocks=blocks):
                run = self.run_jit_and_off(PROGRAM, returncode=3,
                                           prepare=f'ulimit -f {blocks}')
                self.assertEqual(run.out, '20\nFalse\n')
                self.assert_one_warning(run, 'cannot write',
                                        dump_path(run.pid),
                                        os.strerror(errno.EFBIG))
                if blocks:
                    self.read(run)
                else:
                    self.assertFalse(os.path.exists(dump_path(run.pid)))

    def test_a_header_that_cannot_be_written_leaves_no_marker(self):
        run = self.run_jit(MARKER + dedent("""\
            import resource, sys
            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (39, unlimited[1]))
            sys.activate_stack_trampoline('perf_jit')
            print(sys.is_stack_trampoline_active(), marker())
            """), mode=None)
        self.assert_one_warning(run, 'cannot write')
        self.assertEqual(run.out, 'False []\n')
        self.assertFalse(os.path.exists(dump_path(run.pid)))

    def test_a_limit_on_the_size_of_files_does_not_kill_by_a_signal(self):
        run = self.run_jit_and_off("""\
            import resource, signal, time

            def before(): pass
            def after(): pass

            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            before()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))
            time.sleep(0.001)       # the limit is known for 100 microseconds
            after()
            exec('def late(): pass\\nlate()')
            print('alive')
            """)
        self.assert_one_warning(run, 'cannot write', dump_path(run.pid))
        self.functions(run, 'before')


@fixtures.requires_the_kernel
@unittest.skipUnless(sys.platform == 'linux', 'seccomp is of Linux')
class ExecutableMemoryTests(JitdumpTestCase):

    # Its mprotect fails here; the mmap of the marker must fail as well.
    FORBID_MMAP = FORBID_EXECUTABLE_MEMORY.replace(
        "mprotect = 10 if platform.machine() == 'x86_64' else 226",
        "mprotect = 9 if platform.machine() == 'x86_64' else 222")

    def test_no_executable_memory(self):
        import_helper.import_module('ctypes')
        for source, action in ((FORBID_EXECUTABLE_MEMORY,
                                'cannot make memory executable'),
                               (self.FORBID_MMAP, 'cannot map')):
            with self.subTest(action):
                self.write_script(source, 'forbid.py')
                run = self.run_jit("""\
                    import forbid, os, sys
                    def late(): return 'late'
                    forbid.forbid_executable_memory()
                    print(sys.activate_stack_trampoline('perf_jit'))
                    print(late(), sys.is_stack_trampoline_active())
                    """, mode=None)
                self.assertEqual(run.out, 'None\nlate False\n')
                self.assert_one_warning(run, action)
                self.assertFalse(os.path.exists(dump_path(run.pid)))

    def test_no_marker_leaves_the_map(self):
        import_helper.import_module('ctypes')
        self.write_script(self.FORBID_MMAP, 'forbid.py')
        run = self.run_jit("""\
            import forbid, sys
            def late(): pass
            forbid.forbid_executable_memory()
            sys.activate_stack_trampoline('perf')
            print(sys.is_stack_trampoline_active())
            late()
            """, mode=None)
        self.assertEqual(run.out, 'True\n')
        self.assertIn(self.script_name('late'), run.names)


@fixtures.requires_root
@unittest.skipUnless(sys.platform == 'linux', 'needs mount namespaces')
class MountTests(JitdumpTestCase):
    """Other file systems, in a mount namespace of the child's own."""

    def setUp(self):
        super().setUp()
        trial = self.run_command(['unshare', '-m', 'true'], returncode=None)
        if trial.returncode:
            self.skipTest('no mount namespaces here')
        self.mounted = self.path('mounted')
        os.mkdir(self.mounted)

    def run_mounted(self, options, prepare='true', source=FLAT_PROGRAM,
                    mode='perf_jit', returncode=3, env=None):
        """Run the source where JITDUMPDIR is a file system of its own.

        What is in it afterwards is copied to self.path('left').
        """
        left = self.path('left')
        os_helper.rmtree(left)
        switch = [] if mode is None else ['-X', mode]
        if env is None:
            env = {'JITDUMPDIR': self.mounted}
        return self.run_command(
            ['unshare', '-m', '/bin/sh', '-c',
             f'set -e; cd {self.mounted}; mount -t tmpfs {options} none .; '
             f'cd {self.mounted}; {prepare}; set +e; "$@"; status=$?; '
             f'cp -r . {left}; exit $status', 'sh',
             sys.executable, *switch, '-c', dedent(source)],
            returncode=returncode, env=fixtures.clean_environment(**env))

    def left(self):
        """Return the dumps that were left there."""
        return [os.path.join(self.path('left'), name)
                for name in os.listdir(self.path('left'))
                if name.startswith('jit-')]

    def run_refused(self, options, *parts, **rest):
        off = self.run_mounted(options, mode=None, **rest)
        run = self.run_mounted(options, **rest)
        self.assertEqual(run.out, off.out)
        self.assertEqual(off.err, '')
        self.assert_one_warning(run, f' {self.mounted}/jit-', *parts)
        return run

    def test_a_file_system_for_everything(self):
        run = self.run_mounted('-o size=10m')
        self.assertEqual((run.out, run.err), ('20\nTrue\n', ''))
        [path] = self.left()
        dump = jitdump.read(path)
        self.assertEqual(dump.torn, 0)
        self.assertIn('py::main:<string>', dump.names)
        self.assert_good_dump(dump, dump.header.pid)

    @fixtures.requires_the_kernel
    def test_a_file_system_without_execution(self):
        self.run_refused('-o noexec', 'cannot map', 'noexec', 'JITDUMPDIR')
        self.assertEqual(self.left(), [])

    def run_in_tmp_without_execution(self, *options):
        """Return the run and what it left in its /tmp."""
        run = self.run_command(
            ['unshare', '-m', '/bin/sh', '-c',
             'set -e; mount -t tmpfs -o noexec none /tmp; set +e; '
             '"$@"; status=$?; ls /tmp >left; exit $status', 'sh',
             sys.executable, *options, '-c', FLAT_PROGRAM],
            cwd=self.directory, returncode=3)
        with open(self.path('left')) as file:
            return run, file.read()

    @fixtures.requires_the_kernel
    def test_a_tmp_without_execution(self):
        off, _ = self.run_in_tmp_without_execution()
        run, left = self.run_in_tmp_without_execution('-X', 'perf_jit')
        self.assertEqual(run.out, '20\nFalse\n')
        self.assertEqual(run.out, off.out)
        self.assertEqual(off.err, '')
        self.assert_one_warning(run, 'cannot map /tmp/jit-', 'noexec')
        self.assertEqual(left, '')

    def test_no_execution_does_not_concern_the_map(self):
        run, left = self.run_in_tmp_without_execution('-X', 'perf')
        self.assertEqual((run.out, run.err), ('20\nTrue\n', ''))
        self.assertRegex(left, r'^perf-\d+\.map\n$')

    @fixtures.requires_the_kernel
    def test_activation_in_vain_can_be_repeated_without_a_leak(self):
        run = self.run_mounted('-o noexec', mode=None, returncode=0,
                               source="""\
                import os, sys
                def count():
                    with open('/proc/self/maps') as file:
                        return (len(os.listdir('/proc/self/fd')),
                                len(list(file)))
                for i in range(10):
                    sys.activate_stack_trampoline('perf_jit')
                before = count()
                for i in range(100):
                    sys.activate_stack_trampoline('perf_jit')
                descriptors, mappings = count()
                print(descriptors - before[0], mappings - before[1] < 10)
                os.environ['JITDUMPDIR'] = '/tmp'
                sys.activate_stack_trampoline('perf_jit')
                print(sys.is_stack_trampoline_active())
                os.unlink(f'/tmp/jit-{os.getpid()}.dump')
                """)
        self.assertEqual(run.out, '0 True\nTrue\n')
        self.assertEqual(len(run.warnings), 110)
        self.assertEqual(self.left(), [])

    def test_a_read_only_file_system(self):
        self.run_refused('-o ro', 'cannot open', os.strerror(errno.EROFS))

    def test_no_room_for_another_file(self):
        self.run_refused('-o nr_inodes=1', 'cannot open',
                         os.strerror(errno.ENOSPC))

    def test_a_full_file_system(self):
        self.run_refused('-o size=16k', 'cannot write',
                         os.strerror(errno.ENOSPC),
                         prepare='head -c 16384 /dev/zero >full')
        self.assertEqual(self.left(), [])

    def test_a_file_system_that_becomes_full(self):
        self.run_refused('-o size=16k', 'cannot write',
                         os.strerror(errno.ENOSPC))
        [path] = self.left()
        dump = jitdump.read(path)
        self.assertEqual(dump.torn, 0)
        self.assertGreater(os.path.getsize(path), 8192)
        self.assert_good_dump(dump, dump.header.pid)

    def test_a_file_system_that_was_full_can_be_used_when_there_is_room(self):
        run = self.run_mounted('-o size=64k', returncode=0,
                               prepare='head -c 65536 /dev/zero >full',
                               source="""\
                import os, sys
                def late(): pass
                assert not sys.is_stack_trampoline_active()
                os.unlink('full')
                sys.activate_stack_trampoline('perf_jit')
                assert sys.is_stack_trampoline_active()
                late()
                sys.deactivate_stack_trampoline()
                """)
        self.assert_one_warning(run, 'cannot write')
        [path] = self.left()
        dump = jitdump.read(path)
        self.assertEqual(dump.torn, 0)
        self.assertIn('py::late:<string>', dump.names)

    def test_a_read_only_root(self):
        # In JITDUMPDIR, which is another file system, it may write.
        for env, reason in (({'JITDUMPDIR': self.mounted}, ''),
                            ({}, os.strerror(errno.EROFS))):
            run = self.run_command(
                ['unshare', '-m', '/bin/sh', '-c',
                 'set -e; mount --bind /tmp /tmp; mount -t tmpfs none "$1"; '
                 'mount -o remount,bind,ro /tmp; '
                 'mount -o remount,bind,ro /; set +e; shift; exec "$@"',
                 'sh', self.mounted, sys.executable, '-X', 'perf_jit', '-c',
                 FLAT_PROGRAM], returncode=3,
                env=fixtures.clean_environment(**env))
            self.assertEqual(run.out, f'20\n{not reason}\n')
            if reason:
                self.assert_one_warning(run, 'cannot open /tmp/jit-', reason)
            else:
                self.assertEqual(run.err, '')

    def test_the_name_has_the_pid_that_the_process_itself_knows(self):
        run = self.run_command(
            ['unshare', '-m', '-p', '-f', '/bin/sh', '-c',
             'set -e; cd "$1"; mount -t tmpfs none .; cd "$1"; '
             'mount -t proc none /proc; shift; "$@"; cp jit-* ..', 'sh',
             self.mounted, sys.executable, '-X', 'perf_jit', '-c',
             'import os; print(os.getpid())'],
            env=fixtures.clean_environment(JITDUMPDIR=self.mounted))
        pid = int(run.out)
        self.assertLess(pid, 100)
        self.assertEqual(run.err, '')
        dump = jitdump.read(self.path(f'jit-{pid}.dump'))
        self.assertEqual(dump.header.pid, pid)
        self.assertEqual({f.load.pid for f in dump.functions()}, {pid})
        self.assert_good_dump(dump, pid)

    @fixtures.requires_the_kernel
    def test_no_marker_for_a_forked_child(self):
        run = self.run_mounted(
            '-o size=10m', returncode=0,
            source="""\
                import os, subprocess, sys
                subprocess.run(['mount', '-o', 'remount,noexec', '.'],
                               check=True)
                def in_child(): return 7 + sys.is_stack_trampoline_active()
                child = os.fork()
                if not child:
                    os._exit(in_child())
                print(os.waitpid(child, 0)[1] >> 8,
                      sys.is_stack_trampoline_active())
                """)
        self.assertEqual(run.out, '7 True\n')
        self.assert_one_warning(run, 'cannot map', 'noexec')
        [path] = self.left()
        self.assertEqual(jitdump.read(path).torn, 0)


if __name__ == '__main__':
    unittest.main()
