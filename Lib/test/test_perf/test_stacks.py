"""Profiling and other code that handles C stacks.

Coroutines switch or copy C stacks, threads and C++ exceptions unwind them,
backtrace() walks them, and deep recursion exhausts them.

Each program runs with profiling off, with 'perf' and with 'perf_jit', and must
do the same.  Two extensions, perf_stacks.c and perf_stacks_cxx.cpp, are
compiled for this.
"""

import json
import os
import platform
import signal
import sys
import tempfile
import unittest

from test.support import os_helper, skip_if_sanitizer
from test.test_perf import fixtures
from test.test_perf.extensions import STACK_FACTOR, compile_extension
from test.test_perf.walker import Table, regions

MODES = (None, 'perf', 'perf_jit')


def setUpModule():
    fixtures.require_trampoline()


def has_frame_pointers():
    try:
        fixtures.require_frame_pointers()
    except unittest.SkipTest:
        return False
    return True


class StacksTestCase(fixtures.PerfTestCase):

    extensions = [('CC', 'perf_stacks.c')]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.built = tempfile.mkdtemp(prefix='test_perf_')
        cls.addClassCleanup(os_helper.rmtree, cls.built)
        for variable, source in cls.extensions:
            compile_extension(variable, source, cls.built)

    def run_in_all_modes(self, source, *, returncode=0, may_warn=False,
                         args=(), prepare='ulimit -c 0', **options):
        """Run a program in the three modes.  All must do the same.

        Return the runs by mode.  The program's arguments are a path, different
        in each mode, and then `args`.

        may_warn: profiling may stop with a warning
        """
        runs = {}
        for mode in MODES:
            runs[mode] = run = self.run_python(
                source, mode=mode, returncode=None, prepare=prepare,
                env={'PYTHONPATH': self.built},
                args=[self.path(f'{mode}.json'), *args], **options)
            run.notes_path = self.path(f'{mode}.json')
            self.assertEqual(run.returncode, returncode, (mode, run))
        off = runs[None]
        for mode in MODES:
            run = runs[mode]
            with self.subTest(mode=mode):
                self.assertEqual(run.out, off.out)
                self.assertEqual(run.err_without_warnings, off.err)
                self.assertLessEqual(len(run.warnings), may_warn, run.err)
                self.assertEqual(bool(regions(run, mode)), mode is not None,
                                 'is it on?')
        return runs

    def assert_stacks(self, runs, least=1):
        """where(), see WHERE, has noted at least this many stacks.

        In each the names of the native frames are the Python frames, no more
        and no less.
        """
        for mode in MODES[1:]:
            table = Table(regions(runs[mode], mode))
            with open(runs[mode].notes_path, encoding='utf-8') as file:
                stacks = json.load(file)
            with self.subTest(mode=mode):
                for python, native in stacks:
                    self.assertEqual(table.names(native),
                                     [f'py::{name}' for name in python])
                self.assertGreaterEqual(len(stacks), least)

    def assert_walked(self, runs, least=1):
        """The same, if the interpreter has frame pointers."""
        if has_frame_pointers():
            self.assert_stacks(runs, least)


# Defines where(), which notes the stack as Python knows it and as frame
# records show it.
WHERE = """\
import atexit, json, sys
import perf_stacks

stacks = []
seen = {}           # keeps code alive: its trampoline is not another one's

def where(native=perf_stacks.walk):
    frame = sys._getframe()
    python = []
    while frame is not None:
        code = frame.f_code
        seen[id(code)] = code
        python.append(f'{code.co_qualname}:{code.co_filename}')
        frame = frame.f_back
    stacks.append([python, native()])

@atexit.register
def write_notes():
    with open(sys.argv[1], 'w', encoding='utf-8') as file:
        json.dump(stacks, file)

"""


# ---------------------------------------------------------------------------
# Coroutines

# Functions with a name for each coroutine.  They pause on the way down, below
# a call from C, at the bottom, in a generator, while an exception is passed
# on, and on the way up.  There are more frames than a record area has room
# for.
COROUTINES = WHERE + '''
TEMPLATE = """\\
def X_outer():
    where()
    say('X begins')
    perf_stacks.pause()
    where()
    say('X is back with', X_down(50), X_recover(3), X_total())
    where()

def X_down(n):
    if n == 0:
        return X_inner()
    if n % 10 == 3:
        perf_stacks.pause()
        [result] = map(X_down, [n - 1])
    else:
        result = X_down(n - 1)
    if n % 7 == 0:
        where()
        perf_stacks.pause()
        where()
    return result + n

def X_inner():
    where()
    perf_stacks.pause()
    where()
    return 1

def X_recover(n):
    try:
        return X_fail(n)
    except ValueError as error:
        perf_stacks.pause()
        assert sys.exc_info()[1] is error
        where()
        return str(error)

def X_fail(n):
    try:
        if n == 0:
            raise ValueError('the error of X')
        return X_fail(n - 1)
    finally:
        perf_stacks.pause()
        where()

def X_total():
    return sum(X_generate(5))

def X_generate(n):
    for i in range(n):
        where()
        perf_stacks.pause()
        where()
        yield i
"""

lines = []

def say(*words):
    lines.append(' '.join(map(str, words)))

def define(name):
    code = compile(TEMPLATE.replace('X', name), __file__, 'exec')
    exec(code, globals())
    return globals()[f'{name}_outer']

def resume_from(depth, coroutine):
    """Resume it from below some frames, so that stacks lie over others."""
    if depth:
        return resume_from(depth - 1, coroutine)
    where()
    more = coroutine.resume()
    where()
    return more

def run_all(functions, copying):
    coroutines = [perf_stacks.Coroutine(function, copying)
                  for function in functions]
    round = 0
    while coroutines:
        round += 1
        for coroutine in list(coroutines):
            if not resume_from(round * 13 % 40, coroutine):
                coroutines.remove(coroutine)
    say('rounds:', round)

def run_twice(copying):
    """The second time all names are known and calls have records."""
    functions = [define(name) for name in ('a', 'b', 'c')]
    run_all(functions, copying)
    run_all(functions, copying)
'''


class CoroutineTests:
    """Tests for separate stacks and for copied stacks."""

    copying = None

    def check(self, source, **options):
        return self.run_in_all_modes(
            COROUTINES + f'COPYING = {self.copying}\n' + source
            + '\nprint(*lines, sep="\\n")\n', **options)

    def test_each_has_its_own_functions(self):
        runs = self.check('run_twice(COPYING)')
        self.assertIn('a is back with 1276 the error of a 10',
                      runs[None].out)
        self.assert_walked(runs, least=500)

    def test_in_another_thread(self):
        runs = self.check("""
import threading
thread = threading.Thread(target=run_twice, args=[COPYING])
thread.start()
thread.join()
""")
        self.assert_walked(runs, least=500)

    def test_a_coroutine_resumes_another(self):
        runs = self.check("""
def chief():
    where()
    workers = [perf_stacks.Coroutine(define(name), COPYING)
               for name in ('d', 'e')]
    while workers:
        for worker in list(workers):
            if not resume_from(len(stacks) % 11, worker):
                workers.remove(worker)
            perf_stacks.pause()
    where()

run_all([chief, define('a'), chief], COPYING)
run_all([chief, define('a'), chief], COPYING)
""")
        self.assert_walked(runs, least=500)

    def test_an_exception_leaves_the_coroutine(self):
        runs = self.check("""
def fall(n):
    perf_stacks.pause()
    if not n:
        raise KeyError('out')
    fall(n - 1)

def catch():
    coroutine = perf_stacks.Coroutine(lambda: fall(40), COPYING)
    try:
        while coroutine.resume():
            pass
    except KeyError as error:
        frames = 0
        traceback = error.__traceback__
        while traceback is not None:
            frames += 1
            traceback = traceback.tb_next
        say(repr(error), frames)
    where()

catch()
catch()
""")
        self.assertEqual(runs[None].out, "KeyError('out') 43\n" * 2)
        self.assert_walked(runs)

    def test_resumed_in_a_forked_child(self):
        """The child's file names the functions of a stack that was not on
        the thread's stack at the fork when one of them calls a function that
        is new to that file."""
        runs = self.check("""
import os

def outermost():
    outer(5)

def outer(n):
    if n:
        return outer(n - 1)
    [result] = map(inner, [1])
    where()

def inner(_):
    where()
    perf_stacks.pause()
    new_in_child()
    where()

def new_in_child():
    pass

coroutine = perf_stacks.Coroutine(outermost, COPYING)
coroutine.resume()
child = os.fork()
if child == 0:
    stacks.clear()
    where()
    coroutine.resume()
    write_notes()
    os._exit(0)
atexit.unregister(write_notes)
assert os.waitpid(child, 0)[1] == 0
with open(sys.argv[1] + '.child', 'w') as file:
    file.write(str(child))
""")
        for mode in MODES[1:]:
            with open(f'{runs[mode].notes_path}.child') as file:
                child = fixtures.Finished(self.track(file.read()), 0, '', '')
            child.notes_path = runs[mode].notes_path
            runs[mode] = child
        self.assert_walked(runs, least=3)

    def test_many_in_random_order(self):
        """Each coroutine goes up and down at random.  Its sum shows whether a
        frame was lost.
        """
        runs = self.check(f"""
import random
choose = random.Random(42).random

steps = {fixtures.repetitions(20_000)}

def wander(n):
    global steps
    total = n
    while steps > 0 and choose() < 0.6:
        steps -= 1
        if choose() < 0.5:
            perf_stacks.pause()
        if n < 150:
            if choose() < 0.3:
                total += sum(map(wander, [n + 1]))
            else:
                total += wander(n + 1)
    return total

def straight(n):
    return wander(n) if n > 40 else n + straight(n + 1)

coroutines = []
for i in range(60):
    coroutines.append(perf_stacks.Coroutine(
        lambda i=i: say(i, straight(i % 45)), COPYING))
while coroutines:
    chosen = int(choose() * len(coroutines))
    more = resume_from(int(choose() * 70), coroutines[chosen])
    if not more:
        del coroutines[chosen]
""")
        self.assertEqual(len(runs[None].out.splitlines()), 60)
        self.assert_walked(runs)

    def test_switched_off_and_on_meanwhile(self):
        """Frames unlink their records, whatever is switched while they do not
        run.
        """
        self.check("""
switches = [perf_stacks.pause]
if sys.is_stack_trampoline_active():
    mode = next(iter(sys._xoptions))
    switches = [sys.deactivate_stack_trampoline,
                lambda: sys.activate_stack_trampoline(mode)]

def resume_and_switch(depth, coroutine):
    if depth:
        return resume_and_switch(depth - 1, coroutine)
    if len(switches) == 2:
        switches.reverse()
        switches[0]()
    return coroutine.resume()

resume_from = resume_and_switch
run_twice(COPYING)
run_twice(COPYING)
""")


@skip_if_sanitizer('AddressSanitizer warns of makecontext(), with the process '
                   'id, whether profiling is on or not', address=True)
class OwnStackTests(CoroutineTests, StacksTestCase):
    """Coroutines with separate stacks by swapcontext(), as fibers have."""

    copying = False


@skip_if_sanitizer('AddressSanitizer takes a copy of a living stack for an '
                   'underflow, whether profiling is on or not', address=True)
class CopiedStackTests(CoroutineTests, StacksTestCase):
    """Coroutines that copy parts of the thread's stack, as greenlet does."""

    copying = True


# ---------------------------------------------------------------------------
# Unwinding

NESTED = """\
def outer(n, function):
    return inner(n, function)

def inner(n, function):
    if n == 0:
        return function()
    if n % 10 == 5:
        return next(map(outer, [n - 1], [function]))
    return outer(n - 1, function)

"""


class ThreadExitTests(StacksTestCase):
    """pthread_exit() unwinds the whole stack of its thread.

    The destructors of all C++ frames run.
    """

    extensions = [('CC', 'perf_stacks.c'), ('CXX', 'perf_stacks_cxx.cpp')]

    def test_an_extension_ends_the_thread(self):
        runs = self.run_in_all_modes(NESTED + """
import os, threading
import perf_stacks, perf_stacks_cxx

def body():
    perf_stacks.watch_thread()
    outer(100, lambda: None)
    outer(50, lambda: perf_stacks_cxx.call(
        lambda: outer(50, perf_stacks.exit_thread)))

for i in range(5):
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    perf_stacks.await_thread()
    os.write(1, b'the thread has ended\\n')
outer(100, lambda: None)
""")
        self.assertEqual(runs[None].out,
                         'call() is left\nthe thread has ended\n' * 5)

    def test_a_daemon_thread_outlives_the_interpreter(self):
        """The thread ends when it asks for the GIL."""
        runs = self.run_in_all_modes(NESTED + """
import threading
import perf_stacks, perf_stacks_cxx

started = threading.Event()

def body():
    perf_stacks.watch_thread()
    outer(100, lambda: None)
    outer(50, lambda: perf_stacks_cxx.call(
        lambda: outer(50, lambda: perf_stacks.hold_past_the_end(
            started.set))))

threading.Thread(target=body, daemon=True).start()
started.wait()
print('the end', flush=True)
""")
        self.assertEqual(runs[None].out, 'the end\ncall() is left\n'
                                         'the thread has ended\n')


class ExceptionTests(StacksTestCase):
    """C++ exceptions."""

    extensions = [('CXX', 'perf_stacks_cxx.cpp')]

    def check(self, source, **options):
        return self.run_in_all_modes(
            NESTED + 'import perf_stacks_cxx\n' + source, **options)

    def test_thrown_and_caught_below_python(self):
        runs = self.check("""
for i in range(3):
    print(outer(100, perf_stacks_cxx.throw_and_catch), flush=True)
""")
        self.assertEqual(runs[None].out,
                         'fail() is left\nthrown and caught\n' * 3)

    def test_thrown_below_python_that_cxx_has_called(self):
        runs = self.check("""
def body():
    print('body', flush=True)
    return outer(40, perf_stacks_cxx.throw_and_catch)

for i in range(3):
    print(outer(40, lambda: perf_stacks_cxx.call(body)), flush=True)
""")
        self.assertEqual(runs[None].out, 'body\nfail() is left\n'
                         'call() is left\nthrown and caught\n' * 3)

    def test_python_called_by_a_destructor(self):
        runs = self.check("""
def body():
    outer(40, perf_stacks_cxx.throw_and_catch)
    print('body', flush=True)
    return 'result'

for i in range(3):
    print(outer(40, lambda: perf_stacks_cxx.call_then_throw(body)),
          flush=True)
""")
        self.assertEqual(
            runs[None].out,
            'fail() is left\nbody\n'        # called
            'fail() is left\n'              # and thrown:
            'fail() is left\nbody\n'        # by the destructor
            'fail() is left\nbody\n'        # by the handler
            'result\n' .join(['', '', '', '']))

    def test_thrown_through_python(self):
        """The exception passes Python's C code and trampolines."""
        runs = self.check("""
outer(100, lambda: None)
outer(40, lambda: perf_stacks_cxx.call_and_catch(
    lambda: outer(40, perf_stacks_cxx.throw_out)))
""", returncode=3)
        self.assertEqual(runs[None].out,
                         'fail() is left\ncall() is left\n'
                         'thrown out: caught outside\n')

    def test_thrown_out_of_everything(self):
        runs = self.check("""
outer(100, lambda: None)
outer(40, perf_stacks_cxx.throw_out)
""", returncode=-signal.SIGABRT)
        self.assertIn('terminate', runs[None].err)


class BacktraceTests(StacksTestCase):
    """backtrace() of the C library."""

    SOURCE = WHERE + NESTED + """
def note():
    where(perf_stacks.backtrace)

# Link-time optimization leaves one of what main() calls.
main = {'Py_BytesMain', 'Py_RunMain'}

def note_symbols():
    addresses = perf_stacks.backtrace()
    symbols = [perf_stacks.symbol(address) for address in addresses]
    print('reaches main:', not main.isdisjoint(symbols[:-1]))

outer(40, note)
outer(40, note)
outer(100, note_symbols)
outer(100, note_symbols)
"""

    def test_it_reaches_main(self):
        runs = self.run_in_all_modes(self.SOURCE)
        self.assertEqual(runs[None].out, 'reaches main: True\n' * 2)

    def test_it_shows_all_functions(self):
        runs = self.run_in_all_modes(self.SOURCE)
        self.assert_stacks(runs, least=2)

    def test_it_reaches_main_with_lines(self):
        """Each process has its bytecode at different addresses, so it runs often."""
        for mode in ('perf=lines', 'perf_jit=lines') * 4:
            with self.subTest(mode=mode):
                run = self.run_python(self.SOURCE, mode, prepare='ulimit -c 0',
                                      env={'PYTHONPATH': self.built},
                                      args=[self.path('notes.json')])
                self.assertEqual(run.out, 'reaches main: True\n' * 2)
                self.assertEqual(run.err, '')


# ---------------------------------------------------------------------------
# How much stack there is

RECURSION = """\
import sys

depth = 0

def down():
    global depth
    depth += 1
    down()

def down_map(n=0):
    global depth
    depth += 1
    list(map(down_map, [n]))

def down_sorted(n=0):
    global depth
    depth += 1
    sorted([n], key=down_sorted)

def down_both(n=0):
    global depth
    depth += 1
    if depth % 40:
        down_both()
    else:
        list(map(down_both, [n]))

class Getattr:
    def __getattr__(self, name):
        global depth
        depth += 1
        return getattr(self, name + 'x')

class Repr:
    def __repr__(self):
        global depth
        depth += 1
        return repr(self)

class Add:
    def __add__(self, other):
        global depth
        depth += 1
        return self + other

def down_generator():
    global depth
    depth += 1
    yield from down_generator()

functions = {
    'pure': down,
    'map': down_map,
    'sorted': down_sorted,
    'both': down_both,
    'getattr': lambda: Getattr().x,
    'repr': lambda: repr(Repr()),
    'add': lambda: Add() + 1,
    'generator': lambda: list(down_generator()),
}

def measure(names=functions):
    global depth
    for name in names:
        depth = 0
        try:
            functions[name]()
        except RecursionError as error:
            print(name, depth, error)
        else:
            print(name, depth)

"""


class RecursionTests(StacksTestCase):

    # The usual limit, whatever the limit of the machine.
    prepare = f'ulimit -c 0; ulimit -s {8192 * STACK_FACTOR}'

    def test_the_limit_is_reached_at_the_same_depth(self):
        runs = self.run_in_all_modes(RECURSION + """
measure()
measure()
sys.setrecursionlimit(1400)
measure()
sys.setrecursionlimit(60)
measure()
""", prepare=self.prepare)
        lines = runs[None].out.splitlines()
        self.assertEqual(len(lines), 32)
        self.assertRegex(lines[0], 'pure 99[0-9] maximum recursion depth')

    def test_half_a_million_deep(self):
        """Without profiling these calls take no C stack.

        With profiling the stack is too small for them, and profiling stops in
        time.
        """
        runs = self.run_in_all_modes("""
import sys
sys.setrecursionlimit(1_000_000)

def down(n):
    return 1 + down(n - 1) if n else 0

for n in (100_000, 500_000, 100_000):
    print(down(n))
""", prepare=self.prepare, may_warn=True)
        self.assertEqual(runs[None].out, '100000\n500000\n100000\n')
        for mode in MODES[1:]:
            self.assertIn('stack', runs[mode].warnings[0])

    def test_an_entry_from_c_takes_little_more(self):
        """Calls take at most this much C stack, in bytes."""
        runs = self.run_in_all_modes("""
import json, sys
import perf_stacks

def note(n):
    addresses.append(perf_stacks.frame_address())
    if n:
        between(n - 1)

def between(n):
    sorted([n], key=note)

for i in range(2):
    addresses = []
    note(40)
with open(sys.argv[1], 'w', encoding='utf-8') as file:
    json.dump(addresses, file)
""")
        taken = {}
        for mode in MODES:
            with open(runs[mode].notes_path, encoding='utf-8') as file:
                addresses = json.load(file)
            taken[mode] = {upper - lower for upper, lower
                           in zip(addresses[1:], addresses[2:])}
            self.assertEqual(len(taken[mode]), 1, taken)
        [off], *on = taken.values()
        # The frame of _PyPerf_EnterEvalLoop() has 560 bytes.  If the compiler
        # does not turn last calls into jumps, the frames of two more C
        # functions are added.
        limit = 600 if fixtures.last_calls_are_jumps() else 800
        if 'Clang' in platform.python_compiler():
            limit += 400        # the second loop's frame is larger than the first's
        for [size] in on:
            self.assertLessEqual(size - off, limit, taken)
            self.assertGreater(size, off)

    @skip_if_sanitizer('AddressSanitizer neither has stacks of coroutines nor '
                       'copies of stacks', address=True)
    def test_a_hundred_thousand_deep_in_a_coroutine(self):
        """The end of a separate stack is not known."""
        for copying in (False, True):
            with self.subTest(copying=copying):
                runs = self.run_in_all_modes(f"""
import sys
import perf_stacks
sys.setrecursionlimit(1_000_000)

def down(n):
    return 1 + down(n - 1) if n else 0

def body():
    for n in (10, 100, 1000, 100_000):
        print(down(n))

perf_stacks.Coroutine(body, {copying}).resume()
""", prepare=self.prepare, may_warn=True)
                self.assertEqual(runs[None].out,
                                 '10\n100\n1000\n100000\n')


class SmallStackTests(StacksTestCase):
    """Threads with small stacks."""

    def check(self, size, body):
        """Run this in a thread with that much stack, in KiB at -O3."""
        return self.run_in_all_modes(RECURSION + f"""
import threading

def body():
    def forth(n):
        return 1 + sum(map(forth, [n - 1])) if n else 0
    {body}

threading.stack_size({size * STACK_FACTOR} * 1024)
for i in range(3):
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
""", may_warn=True)

    def test_the_limit_is_reached_with_the_least_stack(self):
        """Run in 32 KiB of stack, which suffices without profiling.

        CPython 3.13 crashes with 32 KiB, without the patch too.  The C library
        of some processors demands more: that of aarch64 demands 128 KiB.
        """
        least = os.sysconf('SC_THREAD_STACK_MIN') // 1024
        if sys.version_info >= (3, 13):
            least = max(least, 64)
        for size in (32, 64, 128, 256):
            if size * STACK_FACTOR < least:
                continue
            with self.subTest(size=size):
                runs = self.check(size, "measure(['pure'])")
                self.assertEqual(len(runs[None].out.splitlines()), 3)
                self.assertRegex(runs[None].out, 'pure 99[0-9] maximum')

    def test_entries_from_c(self):
        """Far fewer calls than fit without profiling."""
        runs = self.check(256, 'print(forth(60))')
        self.assertEqual(runs[None].out, '60\n' * 3)


if __name__ == '__main__':
    unittest.main()
