"""gdb and profiled processes.

Backtraces pass through trampolines.  They show the same C functions as without
profiling, and each Python function where it is called.  The program runs on as
usual.

The environment variable GDB names gdb.  If it is not set, PATH is searched.
"""

import collections
import ctypes
import json
import os
import re
import struct
import subprocess
import sys
import sysconfig
import unittest

from test.test_perf import extensions, fixtures, parsers, walker

MODES = (None, 'perf', 'perf_jit')

# The name that gdb gives to a frame in a trampoline.
TRAMPOLINE = 'py::*'

Frame = collections.namedtuple('Frame', 'address function file')

FRAME = re.compile(r'#\d+ +(?:0x([0-9a-f]+) in )?(.+?) \(.*?\)'
                   r'(?: at (.*):\d+)?')

# What gdb prints if it cannot go on or is not sure.
COMPLAINTS = re.compile(r'Backtrace stopped|corrupt|did not save the PC'
                        r'|internal-error|[Cc]annot|BFD|DWARF')

# Calls down() at several depths, from Python and from C. Writes the stack as
# Python knows it to the file in the first argument.
SOURCE = """\
import functools, json, os, sys

def note():
    stack = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        stack.append(f'{code.co_qualname}:{code.co_filename}')
        frame = frame.f_back
    with open(sys.argv[1], 'w', encoding='utf-8') as file:
        json.dump(stack, file)

def stop():
    note()
    bin(0)                      # where gdb has a breakpoint
    return 1

def generate(n):
    yield down(n)

class Class:
    def __init__(self, n):
        self.value = down(n)

    def __lt__(self, other):
        self.value = down(4)
        return True

    @property
    def attribute(self):
        return down(self.n)

def down(n):
    if n == 0:
        return bottom()
    if n % 10 == 9:
        return next(map(down, [n - 1])) + 1
    if n % 10 == 7:
        return sum(generate(n - 1)) + 1
    if n % 10 == 4:
        return Class(n - 1).value + 1
    if n % 10 == 2:
        return functools.reduce(lambda n, _: down(n) + 1, [n - 1, 0])
    return down(n - 1) + 1

bottom = stop
"""

RUN = SOURCE + """
print('result', down(100))
"""

# A library that reports code to gdb but has none.
OTHER = """\
#include <stdint.h>
#include <stdio.h>

struct {
    uint32_t version, action;
    void *relevant, *first;
} __jit_debug_descriptor = {1, 0, 0, 0};

void __attribute__((noinline)) __jit_debug_register_code(void)
{
    puts("it was called");
}

__attribute__((destructor)) static void end(void)
{
    puts(__jit_debug_descriptor.first ? "some" : "none");
}
"""


def setUpModule():
    fixtures.require_trampoline()


class GdbTestCase(fixtures.PerfTestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        fixtures.require_no_emulation(
            'gdb sees qemu-user, not what that runs')
        cls.gdb = fixtures.find_tool('GDB', 'gdb')
        trial = subprocess.run(
            cls.gdb_command(['run'], ['true']),
            env=fixtures.clean_environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True)
        if 'exited normally' not in trial.stdout:
            fixtures.tool_missing(
                f'gdb can run nothing here: {trial.stderr}')

    @classmethod
    def gdb_command(cls, commands, program=(), *, pid=None, core=None):
        """Return a command line: gdb runs these commands with that program."""
        command = [cls.gdb, '-nx', '-batch', '-iex', 'set auto-load off']
        for setting in ('breakpoint pending on',
                        'disable-randomization off',
                        'startup-with-shell off',
                        'width 0', 'height 0',
                        'print frame-arguments none',
                        'print entry-values no',
                        'backtrace past-main on'):
            command += ['-iex', f'set {setting}']
        if pid is not None:
            command += ['-p', str(pid)]
        if core is not None:
            command += ['-c', core]
        for line in commands:
            command += ['-ex', line]
        return [*command, '--args', *program] if program else command

    def run_gdb(self, commands, program=(), *, env=None, **options):
        """Run gdb. Return its output and the program that it ran, Finished."""
        if env is not None:
            env = fixtures.clean_environment(**env)
        run = self.run_command(
            self.gdb_command(commands, program, **options), env=env,
            returncode=None)
        run.pids = [self.track(pid)
                    for pid in re.findall(r'^process (\d+)$', run.out, re.M)]
        return run

    def stop_in_gdb(self, source, mode, commands, *, before=(), args=()):
        """Run the program in gdb up to bin(), then these commands."""
        self.notes_path = self.path('notes.json')
        return self.run_gdb(
            [*before, 'break builtin_bin', 'run', 'info proc', *commands],
            self.python_command(source, mode, ['-S', '-E'],
                                [self.notes_path, *args]))

    def python_stack(self):
        """Return the stacks that note() has written."""
        with open(self.notes_path, encoding='utf-8') as file:
            return [f'py::{name}' for name in json.load(file)]

    def assert_backtrace(self, run, mode, *, end='_start', pid=None):
        """gdb has shown the whole stack. Return its frames."""
        self.assertNotRegex(run.out + run.err, COMPLAINTS)
        frames = backtrace(run.out)
        functions = [frame.function for frame in frames]
        self.assertGreater(len(functions), 10, run)
        self.assertEqual(functions[-1], end, functions)
        self.assertNotIn('??', functions)
        addresses = [frame.address for frame in frames
                     if frame.function == TRAMPOLINE]
        if mode is None:
            self.assertEqual(addresses, [])
        else:
            pid = run.pids[0] if pid is None else pid
            table = walker.Table(walker.regions(
                fixtures.Finished(pid, 0, '', ''), mode))
            self.assertEqual(table.names(addresses), self.python_stack())
        return frames

    def assert_program(self, run, *lines):
        """The program has run to its end in gdb and has printed these lines.
        """
        for line in lines:
            self.assertIn(f'{line}\n', run.out)
        self.assertIn('exited normally', run.out)


def backtrace(text):
    """Return the frames of the last `bt` in gdb's output."""
    frames = []
    for line in text.splitlines():
        match = FRAME.match(line)
        if match is None:
            continue
        if line.startswith('#0 '):
            frames.clear()
        address, function, file = match.groups()
        frames.append(Frame(int(address or '0', 16), function, file or ''))
    return frames


def elf_sections(file):
    """Return for each section of an ELF file its offset and its bytes, by
    name.
    """
    headers, = struct.unpack_from('=Q', file, 40)
    size, count, names = struct.unpack_from('=HHH', file, 58)
    sections = [struct.unpack_from('=IIQQQQ', file, headers + i * size)
                for i in range(count)]
    names = sections[names][4]
    return {
        file[names + name:].partition(b'\0')[0].decode():
            (range(address, address + length), file[start:start + length])
        for name, _, _, address, start, length in sections}


def native(frames):
    """Return the functions that are not part of profiling.

    The number of entries from C into Python code may differ.
    """
    return [frame.function for frame in frames
            if not frame.function.startswith(('py::', '_Py', 'PyEval_'))
            and not os.path.basename(frame.file).startswith('perf_')]


class BacktraceTests(GdbTestCase):

    def test_a_backtrace_shows_all_callers(self):
        frames = {}
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.stop_in_gdb(RUN, mode, ['bt'])
                frames[mode] = self.assert_backtrace(run, mode)
                self.assertGreater(len(self.python_stack()), 100)
        for mode in MODES[1:]:
            with self.subTest(mode=mode):
                self.assertEqual(native(frames[mode]),
                                 native(frames[None]))

    def test_gdb_attaches(self):
        source = SOURCE + """
def wait():
    note()
    print('ready', flush=True)
    sys.stdin.readline()
    return 1

bottom = wait
print('result', down(100))
"""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.attach(source, mode)
                self.assert_backtrace(run, mode)

    def attach(self, source, mode):
        """Run the program until it says that it is ready.

        gdb then shows the stack of the process that the program names, or of
        the program itself.  Then send the program a line.
        """
        self.notes_path = self.path('notes.json')
        with subprocess.Popen(
                self.python_command(source, mode, args=[self.notes_path]),
                env=fixtures.clean_environment(), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            self.track(child.pid)
            try:
                ready, *other = child.stdout.readline().split()
                self.assertEqual(ready, 'ready')
                run = self.run_gdb(['info proc', 'bt'],
                                   pid=(other or [child.pid])[0])
                out, _ = child.communicate('\n',
                                           timeout=fixtures.TIMEOUT)
            except BaseException:
                child.kill()
                raise
        self.assertEqual(child.returncode, 0)
        self.assertEqual(out, 'result 101\n')
        return run

    def test_gdb_attaches_to_the_child_of_a_fork(self):
        """The child returns into functions of its parent and calls new ones.
        """
        source = SOURCE + """
def new():
    note()
    print('ready', os.getpid(), flush=True)
    sys.stdin.readline()
    return 1

def fork():
    global bottom
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    bottom = new
    return down(30) - 30

bottom = fork
print('result', down(100))
"""
        for mode in MODES:
            with self.subTest(mode=mode):
                self.assert_backtrace(self.attach(source, mode), mode)

    def test_a_core_file_is_enough(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                core = self.path('core')
                first = self.stop_in_gdb(
                    RUN, mode, [f'generate-core-file {core}'])
                run = self.run_gdb([f'file {sys.executable}',
                                    f'core-file {core}', 'bt'])
                os.unlink(core)
                self.assert_backtrace(run, mode, pid=first.pids[0])

    def test_functions_in_many_arenas(self):
        source = SOURCE + """
def make(number):
    exec(f'def f{number}(numbers): return call(numbers)', globals())

def call(numbers):
    if not numbers:
        return down(10) - 10
    return globals()[f'f{numbers[0]}'](numbers[1:])

for number in range(3000):
    make(number)
bottom = int
for number in range(3000):
    call([number])
bottom = stop
sys.setrecursionlimit(5000)
# From three arenas, and all around the second border between them.
print('result', call([0, *range(1000, 1500), 2999]))
"""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.stop_in_gdb(source, mode, ['bt', 'continue'])
                self.assert_backtrace(run, mode)
                self.assert_program(run, 'result 1')

    def test_all_threads(self):
        source = SOURCE + """
import threading

def thread():
    down(40)

def wait():
    barrier.wait()
    main.wait()
    return 1

def release():
    main.set()
    for t in threads:
        t.join()
    return stop()

bottom = wait
barrier = threading.Barrier(4)
main = threading.Event()
threads = [threading.Thread(target=thread) for i in range(3)]
for t in threads:
    t.start()
barrier.wait()
bottom = stop
print('result', down(100))
bottom = release
down(10)
"""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.stop_in_gdb(source, mode,
                                       ['thread apply all bt',
                                        'delete', 'continue'])
                stacks = run.out.split('\nThread ')[-4:]
                self.assertEqual(len(stacks), 4)
                self.assertNotRegex(run.out + run.err, COMPLAINTS)
                for stack in stacks[:3]:
                    functions = [frame.function
                                 for frame in backtrace(stack)]
                    self.assertNotIn('??', functions)
                    self.assertIn('thread_run', functions)
                    if mode is not None:
                        self.assertGreater(functions.count(TRAMPOLINE), 40)

    def test_gdb_is_there_when_it_forks(self):
        source = SOURCE + """
def new():
    return stop()

if pid := os.fork():
    print('child', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
else:
    bottom = new
    print('result', down(100))
"""
        for follow in ('parent', 'child'):
            for mode in MODES:
                with self.subTest(mode=mode, follow=follow):
                    run = self.stop_in_gdb(
                        source, mode, ['bt', 'continue'],
                        before=[f'set follow-fork-mode {follow}'])
                    self.assert_program(run, 'result 101', 'child 0')
                    if follow == 'child':
                        self.assert_backtrace(run, mode)


class ProgramTests(GdbTestCase):
    """Commands of gdb that change how the program runs."""

    def test_finish_in_any_frame(self):
        """An inlined function does not return to where its trampoline's frame
        is.

        gdb may or may not stop there.  The program does what it does without
        gdb.
        """
        for mode in MODES:
            for function in ('builtin_bin', '_PyEval_EvalFrameDefault',
                             '_PyPerf_EnterEvalLoop', TRAMPOLINE,
                             'builtin_next', 'Py_BytesMain'):
                with self.subTest(mode=mode, function=function):
                    run = self.stop_in_gdb(
                        RUN, mode, [f'frame function {function}',
                                    'delete', 'finish', 'bt',
                                    'continue', 'continue'])
                    self.assert_program(run, 'result 101')
                    self.assertNotRegex(run.out + run.err, COMPLAINTS)

    def test_finish_in_trampolines(self):
        """No function returns there."""
        for mode in MODES[1:]:
            for frame in range(5, 60, 6):
                with self.subTest(mode=mode, frame=frame):
                    run = self.stop_in_gdb(
                        RUN, mode, ['delete', f'frame {frame}', 'finish',
                                    'continue', 'continue'])
                    self.assert_program(run, 'result 101')

    def test_step_through_the_entry_of_the_eval_loop(self):
        """At each instruction of _PyPerf_EnterEvalLoop() the backtrace is
        whole.

        The test steps from its first instruction into the eval loop, and from
        after that call into the caller.  It does not step through a
        trampoline: the unwind information does not hold there.
        """
        step = ['info symbol $pc', 'bt -1', 'stepi']
        for mode in MODES[1:]:
            with self.subTest(mode=mode):
                run = self.stop_in_gdb(
                    RUN, mode, ['delete', 'tbreak *_PyPerf_EnterEvalLoop',
                                'continue', *step * 30,
                                'tbreak **(char **)&_PyPerf_EnterEvalLoopReturn',
                                'continue', *step * 10, 'continue'])
                stops = re.findall(r'^(\S+)(?: \+ (\d+))? in section', run.out,
                                   re.M)
                self.assertEqual(len(stops), 40)    # none without a name
                self.assertNotIn(TRAMPOLINE, [name for name, _ in stops])
                base = [int(offset or 0) for name, offset in stops
                        if name == parsers.RECORD_BASE]
                self.assertEqual(base, sorted(set(base)))
                # On x86-64 there are eight instructions before the call and
                # three after it.
                self.assertGreaterEqual(len(base), 11)
                outermost = [FRAME.match(line).group(2)
                             for line in run.out.splitlines()
                             if FRAME.match(line)]
                self.assertEqual(len(outermost), 40)
                self.assertEqual(set(outermost), {'_start'})
                self.assertNotRegex(run.out + run.err, COMPLAINTS)
                self.assert_program(run, 'result 101')


class PythonBacktraceTests(GdbTestCase):
    """py-bt, a command that comes with the interpreter."""

    def python_gdb(self):
        for directory, name in (
                (os.path.dirname(sys.executable), 'python-gdb.py'),
                (sysconfig.get_config_var('abs_srcdir') or '',
                 'Tools/gdb/libpython.py')):
            path = os.path.join(directory, name)
            if os.path.exists(path):
                return path
        self.skipTest('the commands are not installed')

    def test_it_lists_the_same_functions(self):
        commands = [f'source {self.python_gdb()}', 'py-bt', 'continue']
        lists = {}
        for mode in MODES:
            run = self.stop_in_gdb(RUN, mode, commands)
            self.assertNotRegex(run.err, 'Undefined command|Python Exc')
            self.assert_program(run, 'result 101')
            lists[mode] = re.findall(
                r'^  (?:File .*|\(.*)$', run.out, re.M)
        self.assertGreater(len(lists[None]), 10)
        for mode in MODES[1:]:
            with self.subTest(mode=mode):
                self.assertEqual(lists[mode], lists[None])

    @fixtures.needs_hand_over
    def test_it_lists_frames_that_were_handed_over(self):
        """Profiling is switched on at the bottom of a deep stack.  Then the stack
        grows."""
        for kind, bottom in (('inlined', 'late'),
                             ('called by C', 'functools.partial(late)')):
            with self.subTest(kind):
                lists = [self.list_after_switching(mode, bottom) for mode in MODES]
                self.assertGreater(len(lists[0]), 160)
                self.assertEqual(lists, lists[:1] * 3)

    def list_after_switching(self, mode, bottom):
        switch = ('repr(1)' if mode is None
                  else f'sys.activate_stack_trampoline({mode!r})')
        run = self.stop_in_gdb(SOURCE + f"""
def late():
    global bottom
    {switch}
    bottom = stop
    return down(60) - 60

bottom = {bottom}
print('result', down(100))
""", None, [f'source {self.python_gdb()}', 'bt', 'py-bt', 'continue'])
        self.assertNotRegex(run.out + run.err, COMPLAINTS)
        self.assertNotRegex(run.err, 'Undefined command|Python Exc')
        self.assert_program(run, 'result 101')
        self.assertEqual(len(re.findall(r'^(?:#\d+ .* in )?_start ', run.out, re.M)), 1)
        return re.findall(r'^  (?:File .*|\(.*)$', run.out, re.M)


class InterfaceTests(GdbTestCase):

    def test_others_do_not_meet_our_symbols(self):
        for name in ('__jit_debug_register_code', '__jit_debug_descriptor'):
            with self.subTest(name=name):
                self.assertFalse(hasattr(ctypes.CDLL(None), name))

    def test_the_file_describes_its_code(self):
        """Without unwind information gdb would guess it from the function's
        prologue.
        """
        path = self.path('file.o')
        entry = '*(long *)((char *)&__jit_debug_descriptor + 16)'
        run = self.stop_in_gdb(RUN, 'perf', [
            f'set $entry = {entry}',
            'set $start = *(long *)($entry + 16)',
            f'dump binary memory {path} $start '
            '($start + *(long *)($entry + 24))'])
        with open(path, 'rb') as file:
            sections = elf_sections(file.read())
        text, _ = sections['.text']
        unwind, data = sections['.eh_frame']
        # The first file in the list is that of the newest arena.
        functions = [function for function in parsers.read_map(run.pids[0])
                     if function.start in text]
        self.assertTrue([f for f in functions if f.name.startswith('py::down:')])
        for function in functions:
            self.assertIn(function.start + function.size - 1, text)
        self.assertTrue(unwind.stop <= text.start
                        or text.stop <= unwind.start)
        # A CIE, then an FDE: length, distance to the CIE, start, size.
        at = 4 + int.from_bytes(data[:4], sys.byteorder)
        _, back, start, size = struct.unpack_from('=IIiI', data, at)
        self.assertEqual(back, at + 4)
        self.assertEqual(unwind.start + at + 8 + start, text.start)
        self.assertEqual(size, len(text))

    def test_others_may_use_the_interface_too(self):
        source, library = self.path('other.c'), self.path('other.so')
        with open(source, 'w', encoding='utf-8') as file:
            file.write(OTHER)
        self.run_command([*extensions.compiler('CC'), '-fPIC',
                          '-shared', '-o', library, source])
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.stop_in_gdb(
                    RUN, mode, ['bt', 'continue'],
                    before=[f'set environment LD_PRELOAD {library}'])
                self.assert_backtrace(run, mode)
                self.assert_program(run, 'result 101', 'none')

    def test_nothing_is_told_when_it_is_off(self):
        for mode, told in ((None, False), ('perf', True)):
            with self.subTest(mode=mode):
                run = self.stop_in_gdb(
                    RUN, mode, ['print (long)*(void **)'
                                '((char *)&__jit_debug_descriptor + 16)'])
                value = re.search(r'\$1 = (-?\d+)', run.out).group(1)
                self.assertEqual(value != '0', told)


@unittest.skipUnless(
    sysconfig.get_config_var('WITH_DTRACE') and sys.version_info < (3, 12),
    'the eval loop has no probes (--with-dtrace, before CPython 3.12)')
class ProbeTests(GdbTestCase):
    """The probes that tools like SystemTap stop at."""

    def test_probes_are_reached_as_often(self):
        for probe in ('line', 'function__return'):
            counts = {}
            for mode in MODES:
                run = self.stop_in_gdb(
                    RUN, mode, ['continue', 'info breakpoints'],
                    before=[f'break -probe-stap python:{probe}',
                            'ignore 1 1000000'])
                self.assert_program(run, 'result 101')
                counts[mode] = int(re.search(
                    r'already hit (\d+) times', run.out).group(1))
            with self.subTest(probe=probe):
                self.assertGreater(counts[None], 100)
                self.assertEqual(set(counts.values()), {counts[None]})


if __name__ == '__main__':
    unittest.main()
