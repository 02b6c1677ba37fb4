"""Profiling that is switched on while functions are running.

They are handed over from the first eval loop to the second one.  Profilers see them,
with their callers.  The program does what it does without profiling.
"""

import sys
import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.extensions import compile_extension
from test.test_perf.modes import MODES, names_of
from test.test_perf.walker import FOREIGN, RecordTestCase

# How many frames of one eval loop are visible at once after a hand-over
# (MOST_CALLERS in perf_record.c).
MOST_CALLERS = 127


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_hand_over()


class LateTestCase(RecordTestCase):
    """Programs that begin without profiling and call late()."""

    LATE = 'def late(): sys.activate_stack_trampoline(mode)\n'

    def run_child(self, source, mode='perf', **options):
        return super().run_child(
            f'mode = {mode!r}\n{self.LATE}{textwrap.dedent(source)}', None,
            **options)

    def assert_late_chains(self, source, *expected):
        """Run a program in both modes and check its chains.  At its end the chain
        has only <module>.  Functions of other files are left out."""
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child(source, mode)
                for addresses in chains:
                    self.assert_reaches_bottom(names, addresses)
                seen = [' '.join(name for name in names.python(addresses)
                                 if ':' not in name) for addresses in chains]
                self.assertEqual(seen, [*expected, '<module>'])


class ChainTests(LateTestCase):
    """Which functions profilers see."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        fixtures.require_frame_pointers()
        import_helper.import_module('_testinternalcapi')

    def test_the_function_that_runs_and_its_callers(self):
        self.assert_late_chains("""\
            def leaf(): chains.append(walk())
            def inner():
                leaf()
                late()
                chains.append(walk())
                leaf()
            def middle():
                inner()
                chains.append(walk())
                leaf()
            def outer():
                middle()
                leaf()
            outer()
            """, '', 'inner middle outer <module>',
            'leaf inner middle outer <module>', 'middle outer <module>',
            'leaf middle outer <module>', 'leaf outer <module>')

    def test_an_endless_loop_without_calls(self):
        self.assert_late_chains("""\
            import signal
            def handler(signum, frame):
                global count
                count += 1
                if count == 1:
                    late()
                chains.append(walk())
                if count == 4:
                    raise KeyError
                signal.setitimer(signal.ITIMER_REAL, 0.1)
            def endless():
                while True:
                    pass
            def middle(): endless()
            def outer():
                try:
                    middle()
                except KeyError:
                    chains.append(walk())
            count = 0
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            outer()
            """,
            # C code calls the handler.  The loop hands over after that.
            'handler', *['handler endless middle outer <module>'] * 3,
            'outer <module>')

    def test_another_process_sends_the_signal(self):
        self.assert_late_chains("""\
            import signal, subprocess
            def handler(signum, frame):
                if sys.is_stack_trampoline_active():
                    chains.append(walk())
                    raise KeyError
                late()
            def endless():
                while True:
                    pass
            def main():
                signal.signal(signal.SIGUSR2, handler)
                kill = f'kill -USR2 {os.getpid()}; sleep 0.2; '
                with subprocess.Popen(['/bin/sh', '-c', 'sleep 0.2; ' + kill * 2]):
                    try:
                        endless()
                    except KeyError:
                        chains.append(walk())
            main()
            """, 'handler endless main <module>', 'main <module>')

    def test_joining_a_thread(self):
        self.assert_late_chains("""\
            import threading
            def work():
                late()
                chains.append(walk())
            def waiting():
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
                chains.append(walk())
            def outer():
                waiting()
                chains.append(walk())
            outer()
            """, 'work', 'waiting outer <module>', 'outer <module>')

    def test_threads_that_wait_and_that_compute(self):
        names, chains = self.run_child("""\
            import threading
            def waiting(n):
                if n:
                    return waiting(n - 1)
                in_place.append(n)
                event.wait()
                chains.append(walk())
            def computing(n):
                if n:
                    return computing(n - 1)
                in_place.append(n)
                while not event.is_set():
                    pass
                chains.append(walk())
            sys.setswitchinterval(1e-4)
            event, in_place = threading.Event(), []
            threads = [threading.Thread(target=function, args=(40,))
                       for function in (waiting, computing) * 4]
            for thread in threads: thread.start()
            while len(in_place) < 8: time.sleep(0.001)
            late()
            event.set()
            for thread in threads: thread.join()
            """)
        # Without the functions of other files: they may be in another eval loop.
        seen = [[name for name in names.python(addresses) if ':' not in name]
                for addresses in chains]
        self.assertEqual(seen.pop(), ['<module>'])
        self.assertCountEqual(seen, [[name] * 41
                                     for name in ('waiting', 'computing')] * 4)

    def test_functions_that_c_code_calls(self):
        # The outer loop follows when control comes back to it.  The second call of
        # key() lowers the eval breaker before that.
        self.assert_late_chains("""\
            def key(x):
                late()
                chains.append(walk())
                return x
            def sorting():
                sorted([1, 2, 3], key=key)
                chains.append(walk())
            def mapped(x):
                sorting()
                chains.append(walk())
            def outer():
                for _ in map(mapped, range(2)):
                    chains.append(walk())
            outer()
            """, *['key'] * 3, 'sorting mapped', 'mapped',
            # outer() comes back to its loop, not to a call.
            '', *['key sorting mapped outer <module>'] * 3,
            'sorting mapped outer <module>', 'mapped outer <module>',
            'outer <module>')

    def test_a_generator_within_c_code(self):
        # Leaving by a yield raises the breaker again.
        self.assert_late_chains("""\
            def activating():
                for n in range(3):
                    late()
                    yield n
            def inner(): chains.append(walk())
            def outer():
                assert sum(activating()) == 3
                inner()
            outer()
            """, 'inner outer <module>')

    def test_generators(self):
        self.assert_late_chains("""\
            def leaf(): chains.append(walk())
            def suspended():
                try:
                    yield 1
                    leaf()
                    yield 2
                except KeyError:
                    leaf()
                    yield 3
                finally:
                    leaf()
            def running():
                yield 1
                late()
                leaf()
                yield 2
                leaf()
            def delegating(): yield from running()
            def main():
                first, second, third = [suspended() for _ in range(3)]
                assert [*map(next, [first, second, third])] == [1, 1, 1]
                assert [*delegating()] == [1, 2]
                leaf()
                assert [*first] == [2]
                assert second.throw(KeyError) == 3
                second.close()
                third.close()
            main()
            """,
            'leaf running delegating' if fixtures.INLINED_GENERATORS
            else 'leaf running',
            'leaf running delegating',
            # main() was not back from a call yet.
            'leaf',
            *['leaf suspended main <module>'] * 5)

    def test_coroutines(self):
        self.assert_late_chains("""\
            import asyncio
            def leaf(): chains.append(walk())
            async def other():
                await asyncio.sleep(0)
                leaf()
            async def inner():
                late()
                leaf()
                await asyncio.sleep(0)
                leaf()
            async def middle():
                await inner()
                leaf()
            async def outer():
                task = asyncio.create_task(other())
                await middle()
                await task
                leaf()
            def main():
                asyncio.run(outer())
                leaf()
            main()
            """,
            'leaf inner middle outer' if fixtures.INLINED_GENERATORS
            else 'leaf inner', 'leaf inner middle outer main <module>',
            'leaf middle outer main <module>', 'leaf other main <module>',
            'leaf outer main <module>', 'leaf main <module>')

    def test_exceptions(self):
        self.assert_late_chains("""\
            def leaf(): chains.append(walk())
            def raising():
                late()
                raise KeyError
            def passing():
                try:
                    raising()
                finally:
                    chains.append(walk())
            def failing(): passing()
            def catching():
                try:
                    failing()
                except KeyError:
                    chains.append(walk())
                    leaf()
                leaf()
            def outer():
                catching()
                chains.append(walk())
            outer()
            """, 'passing failing catching outer <module>',
            'catching outer <module>', *['leaf catching outer <module>'] * 2,
            'outer <module>')

    def test_a_deep_recursion(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child("""\
                    def deep(n):
                        if n == 0:
                            late()
                            result = 0
                        else:
                            result = deep(n - 1) + 1
                        chains.append(walk())
                        return result
                    assert deep(900) == 900
                    """, mode)
                self.assertEqual(len(chains), 902)
                for index, addresses in enumerate(chains):
                    self.assert_reaches_bottom(names, addresses)
                    depth = 901 - index
                    wanted = [*['deep'] * depth, '<module>']
                    self.assertEqual(names.python(addresses),
                                     wanted[:MOST_CALLERS], index)

    def test_the_recursion_goes_on(self):
        # Calls after the hand-over use all records, and then go through C.
        names, chains = self.run_child("""\
            def deep(n):
                if n == 100:
                    late()
                if n:
                    deep(n - 1)
                chains.append(walk())
            deep(200)
            """)
        for index, addresses in enumerate(chains):
            self.assert_reaches_bottom(names, addresses)
            wanted = ['deep'] * (201 - index) + ['<module>']
            # The frame that was handed over is number 100.
            wanted = wanted[:max(100 - index, 0) + MOST_CALLERS]
            self.assertEqual(names.python(addresses), wanted, index)

    def test_on_and_off_many_times(self):
        self.assert_late_chains("""\
            def off():
                sys.deactivate_stack_trampoline()
            def leaf(): pass
            def inner():
                for n in range(500):
                    late()
                    leaf()
                    if n % 100 == 0:
                        chains.append(walk())
                    off()
            def outer():
                inner()
                late()
                chains.append(walk())
            outer()
            """, *['inner outer <module>'] * 5, 'outer <module>')

    @fixtures.needs_single_steps
    def test_at_each_instruction_of_a_hand_over(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, (samples, _) = self.run_child("""\
                    def leaf(): return 1
                    def inner():
                        late()
                        return leaf()
                    def outer():
                        return inner() + leaf()
                    def warm_up():
                        # The libraries are loaded, the functions have names.
                        outer()
                        sys.deactivate_stack_trampoline()
                    def main():
                        perf_sample_start(0, 400_000)
                        perf_sample_thread()
                        outer()
                        chains.append(perf_sample_stop())
                    [*map(lambda _: warm_up(), [0])]
                    [*map(lambda _: main(), [0])]
                    """, mode)
                self.assertLess(len(samples), 400_000)
                seen = []
                for pc, addresses, end in samples:
                    if names.name(pc) == FOREIGN:
                        continue
                    self.assertIn(end, ('null', 'outside'))
                    python = ' '.join(names.python(addresses))
                    if seen[-1:] != [python]:
                        seen.append(python)
                # The records of a hand-over are written one after the other, the
                # outermost first.  Between two frames there are none.
                expected = [
                    '', '<lambda>', 'main <lambda>', 'outer main <lambda>',
                    'inner outer main <lambda>', 'late inner outer main <lambda>',
                    'inner outer main <lambda>',
                    '', '<lambda>', 'main <lambda>', 'outer main <lambda>',
                    'inner outer main <lambda>', 'leaf inner outer main <lambda>',
                    'inner outer main <lambda>', 'outer main <lambda>',
                    '', '<lambda>', 'main <lambda>', 'outer main <lambda>',
                    'leaf outer main <lambda>', 'outer main <lambda>',
                    'main <lambda>', '', '<lambda>', 'main <lambda>']
                if sys.version_info < (3, 13):
                    # The last record stays until the loop ends.
                    for end in reversed([6, 14, 21]):
                        del expected[end]
                self.assertEqual(seen, expected)


class SameTests(LateTestCase):
    """The program does what it does without profiling."""

    def assert_same(self, source):
        """A program that calls switch() prints the same if profiling is off, if it is on
        from the start, and if switch() switches it on.  Return what it prints."""
        outputs = []
        for option in (None, *MODES):
            for mode in MODES:
                run = self.run_python(
                    'import sys\n'
                    f'def switch(): sys.activate_stack_trampoline({mode!r})\n'
                    + textwrap.dedent(source), mode=option)
                self.assertEqual(run.err, '')
                self.assert_once(names_of(mode, run.pid), '<module>')
                outputs.append(run.out)
        run = self.run_python('def switch(): repr(1)\nimport sys\n'
                              + textwrap.dedent(source), mode=None)
        self.assertEqual(run.err, '')
        self.assertFalse(run.has_map)
        for out in outputs:
            self.assertEqual(out, run.out)
        return run.out

    def test_tracebacks(self):
        out = self.assert_same("""\
            import traceback
            class Manager:
                def __enter__(self): pass
                def __exit__(self, *args):
                    print('exit', args[0], args[2].tb_lineno)
            def fails():
                switch()
                [1][
                    2
                ]
            def inner():
                try:
                    fails()
                except IndexError as error:
                    raise ValueError('other') from error
                finally:
                    print('finally', sys.exc_info()[0])
            def middle():
                with Manager():
                    (inner
                     ())
            def outer():
                try:
                    middle()
                except KeyError:
                    print('never')
            def entries(error):
                tb = error.__traceback__
                while tb is not None:
                    yield tb.tb_frame.f_code.co_name, tb.tb_lineno, tb.tb_lasti
                    tb = tb.tb_next
            try:
                outer()
            except ValueError as error:
                traceback.print_exc(file=sys.stdout)
                print(*entries(error), *entries(error.__cause__), sep='\\n')
            """)
        self.assertIn('exit', out)
        self.assertIn('The above exception was the direct cause', out)

    def test_an_uncaught_exception(self):
        errors = []
        for switch in ('pass', *(f'sys.activate_stack_trampoline({mode!r})'
                                 for mode in MODES)):
            run = self.run_python(f"""\
                import sys
                def fails(n):
                    if n:
                        return fails(n - 1)
                    {switch}
                    1 / 0
                fails(10)
                """, mode=None, returncode=1)
            errors.append(run.err.replace(switch, 'pass'))
        self.assertIn('ZeroDivisionError', errors[0])
        self.assertEqual(errors, errors[:1] * 3)

    def test_the_recursion_limit(self):
        out = self.assert_same("""\
            from _testinternalcapi import get_recursion_depth
            def depth(n):
                if n == 100:
                    before = get_recursion_depth()
                    switch()
                    assert get_recursion_depth() == before
                try:
                    return depth(n + 1)
                except RecursionError:
                    return n
            def through_c(n):
                if n == 20:
                    switch()
                try:
                    return max(map(through_c, [n + 1]))
                except RecursionError:
                    return n
            for limit in 150, 250, 1000:
                sys.setrecursionlimit(limit)
                print(depth(0), through_c(0), get_recursion_depth())
            """)
        self.assertEqual(len(out.split()), 9)

    def test_a_limit_below_the_depth(self):
        # Another thread lowers it, before or after the hand-over.  Functions that are
        # running get no RecursionError.  Those that they call get one.
        self.assert_same("""\
            import threading
            from _testinternalcapi import get_recursion_depth
            def deep(n):
                global rounds
                if n:
                    return deep(n - 1) + 1
                while not go_on:
                    rounds += 1
                if fails:
                    1 / 0
                return 0
            def leaf():
                pass
            def calls(n):
                result = calls(n - 1) if n else deep(0)
                try:
                    leaf()
                except RecursionError:
                    return result - 1
                return result
            def work(function):
                before = get_recursion_depth()
                try:
                    results.append(function(400))
                except ZeroDivisionError as error:
                    results.append(type(error).__name__)
                results.append(get_recursion_depth() - before)
            def wait_for_rounds():
                end = rounds + 1000
                while rounds < end:
                    pass
            results = []
            # More than 50 below the depth, the RecursionError would be a fatal error.
            for function, limit, fails in (
                    (deep, 100, False), (deep, 100, True), (calls, 380, False)):
                for late in True, False:
                    go_on, rounds = False, 0
                    sys.setrecursionlimit(1000)
                    thread = threading.Thread(target=work, args=(function,))
                    thread.start()
                    wait_for_rounds()
                    if not late:
                        switch()            # deep(0) is handed over, the others wait
                        wait_for_rounds()
                    sys.setrecursionlimit(limit)
                    if late:
                        switch()
                        wait_for_rounds()
                    go_on = True
                    thread.join()
                    switch()
            print(results)
            """)

    TRACED = """\
events = []
def hook(frame, event, arg):
    code = frame.f_code
    if code.co_filename == __file__:
        name = getattr(arg, '__name__', type(arg).__name__)
        events.append((event, code.co_name, frame.f_lineno,
                       frame.f_lasti, name))
    frame.f_trace_opcodes = begin == 'opcodes'
    return hook
def leaf(): return 1
def generator():
    yield 1
    between()
    yield 2
def between():
    if begin in ('before', 'opcodes'):
        set_function(hook)
    switch()
    if begin == 'after':
        set_function(hook)
    if begin == 'around':
        set_function(hook)
        leaf()
        set_function(None)
    return leaf()
def fails():
    between()
    for _ in range(2):
        leaf()
    raise ValueError
def catches():
    try:
        fails()
    except ValueError:
        leaf()
    return 5
def outer():
    catches()
    for n in range(2):
        leaf()
    sum(generator())
    sorted([2, 1], key=lambda x: leaf() + x)
if begin == 'around':
    set_function(hook)
outer()
set_function(None)
# The lines of switch() are different.
for event in events:
    if event[1] != 'switch' and event[0] != 'c_call':
        print(*event)
"""

    def test_trace_functions(self):
        for kind in ('settrace', 'setprofile'):
            for begin in ('before', 'after', 'around', 'opcodes'):
                with self.subTest(kind=kind, begin=begin):
                    out = self.assert_same(
                        f'begin, set_function = {begin!r}, sys.{kind}\n'
                        + self.TRACED)
                    self.assertGreater(len(out.splitlines()), 8)

    # A line begins if the last instruction was in another line.
    WATCHED = """\
        def each(number):
            if number == 2:
                switch()
        def watched():
            for number in map(each, range(4)):
                repr(number)
            return [
                switch(),
                number,
                ]
        """

    def test_no_line_is_missed_by_a_trace_function(self):
        self.assert_same(textwrap.dedent(self.WATCHED) + textwrap.dedent("""\
            def trace(frame, event, arg):
                if frame.f_code is watched.__code__:
                    print(event, frame.f_lineno)
                return trace
            sys.settrace(trace)
            watched()
            sys.settrace(None)
            """))

    @unittest.skipIf(sys.version_info < (3, 12), 'there is no sys.monitoring')
    def test_no_line_is_missed_by_sys_monitoring(self):
        for setter in ('set_events(1,', 'set_local_events(1, watched.__code__,'):
            with self.subTest(setter=setter):
                self.assert_same(textwrap.dedent(self.WATCHED) + textwrap.dedent(f"""\
                    def line(code, number):
                        if code is watched.__code__:
                            print(number)
                    events = sys.monitoring.events
                    sys.monitoring.use_tool_id(1, 'test')
                    sys.monitoring.register_callback(1, events.LINE, line)
                    sys.monitoring.{setter} events.LINE)
                    watched()
                    sys.monitoring.{setter} 0)
                    """))

    def test_faulthandler_shows_the_frames(self):
        out = self.assert_same("""\
            import faulthandler
            def inner():
                switch()
                faulthandler.dump_traceback(sys.stdout, all_threads=False)
            def outer():
                inner()
                sorted([1, 2], key=lambda number: inner() or number)
            outer()
            faulthandler.dump_traceback(sys.stdout, all_threads=False)
            """)
        self.assertEqual(out.count('File '), 3 + 4 + 4 + 1)

    def test_a_traced_function_begins(self):
        # The eval loop tests the breaker until it is lowered.
        run = self.run_python("""\
            import itertools, sys, threading, time
            def leaf(n): return n + 1
            def trace(frame, event, arg): return trace
            def switch_in_thread():
                for mode, lines in itertools.cycle([('perf', False), ('perf_jit', True)]):
                    sys.activate_stack_trampoline(mode, lines=lines)
                    time.sleep(0.0003)
                    sys.deactivate_stack_trampoline()
                    time.sleep(0.0003)
            sys.settrace(trace)
            for options in {}, {'lines': True}, {'calls': True}:
                sys.activate_stack_trampoline('perf', **options)
                leaf(1)
                sys.deactivate_stack_trampoline()
                leaf(1)
            sys.setswitchinterval(0.0001)
            threading.Thread(target=switch_in_thread, daemon=True).start()
            end = time.monotonic() + 2
            while time.monotonic() < end:
                leaf(1)
            print('end')
            """, mode=None)
        self.assertEqual((run.out, run.err), ('end\n', ''))

    def test_a_debugger_jumps(self):
        self.assert_same("""\
            def hook(frame, event, arg):
                if event == 'line' and frame.f_lineno == first + 4:
                    frame.f_lineno = first + 6
                return hook
            def jumping():
                sys._getframe().f_trace = hook
                sys.settrace(hook)
                switch()
                print('left out')
                print('left out')
                print('jumped')
                sys.settrace(None)
                return 3
            first = jumping.__code__.co_firstlineno
            print(jumping())
            """)

    def test_frames(self):
        self.assert_same("""\
            def describe(frame):
                while frame is not None:
                    code = frame.f_code
                    print(code.co_name, frame.f_lineno, frame.f_lasti,
                          sorted(name for name in frame.f_locals
                                 if name in code.co_varnames))
                    frame = frame.f_back
            def inner(a):
                frame = sys._getframe()
                describe(frame)
                switch()
                b = a + 1
                assert sys._getframe() is frame
                assert frame.f_back is before
                assert frame.f_locals['b'] == a + 1
                describe(frame)
                return frame
            def middle(a, k=1):
                global before
                before = sys._getframe()
                c = [inner(a)]
                assert sys._getframe() is before
                assert c[0].f_back is before
                describe(sys._getframe())
                return c
            def outer():
                frame = sys._getframe()
                def nested():
                    describe(middle(5)[0])
                    assert sys._getframe(1) is frame
                    return k
                k = 7
                return nested() + len(middle(6))
            print(outer())
            describe(sys._getframe())
            """)

    def test_each_kind_of_code(self):
        out = self.assert_same("""\
            import functools, operator
            class Class:
                def __init__(self, n): self.n = work(n)
                def __getitem__(self, n): return work(n)
                def __add__(self, other): return work(other)
                def __lt__(self, other):
                    switch()
                    return self.n < other.n
                def __iter__(self): yield from generator(self.n)
                def __call__(self, *args, **kw): return work(*args, **kw)
                @property
                def attribute(self): return work(self.n)
            def generator(n):
                for i in range(n):
                    if i == 1:
                        switch()
                    yield work(i)
            def work(n, *args, k=0):
                if n == 2:
                    switch()
                x = [i * n for i in range(3)]
                match n:
                    case 0 | 1: return n
                    case int() if n < 0: return k
                    case _: return work(n - 1, *args, k=k + len(x)) + sum(x)
            class Meta(type):
                def __new__(cls, name, bases, space):
                    switch()
                    return super().__new__(cls, name, bases, space)
            def classes():
                class Local(metaclass=Meta):
                    switch()
                    value = work(3)
                return Local.value
            def closures():
                total = 0
                def add(n):
                    nonlocal total
                    switch()
                    total += work(n)
                for n in range(5):
                    add(n)
                return total
            instance = Class(4)
            print(instance[3], instance + 2, instance.attribute, [*instance],
                  instance(3, 4, k=5), Class(2) < Class(3), classes(), closures(),
                  functools.reduce(lambda a, b: a + work(b), range(6)),
                  sorted(range(5), key=lambda n: -work(n)),
                  eval('work(4)'), [*map(instance.__getitem__, range(4))],
                  {work(n): n for n in range(4)}, max(generator(5)),
                  operator.add(instance, 3))
            exec('def late_function(n): return work(n)\\nprint(late_function(5))')
            """)
        self.assertGreater(len(out.split()), 30)

    def test_asynchronous_code(self):
        self.assert_same("""\
            import asyncio
            class Manager:
                async def __aenter__(self):
                    switch()
                    return 3
                async def __aexit__(self, *args):
                    await asyncio.sleep(0)
            async def generator(n):
                for i in range(n):
                    await asyncio.sleep(0)
                    switch()
                    yield i
            async def task(n):
                async with Manager() as value:
                    return [i * value async for i in generator(n)]
            async def main():
                try:
                    async with asyncio.timeout(10):
                        print(await asyncio.gather(*[task(n) for n in range(5)]))
                    raise KeyError(await task(2))
                except KeyError as error:
                    print(error)
            asyncio.run(main())
            """)

    def test_other_programs_are_started(self):
        # A forked child goes on in the loop that was handed over.
        self.assert_same("""\
            import os
            def child(n):
                if n:
                    return child(n - 1)
                switch()
                pid = os.fork()
                if pid:
                    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                return 'child'
            result = child(10)
            if result == 'child':
                os._exit(5)
            print(result)
            """)


    def test_a_c_function_that_has_numbers_in_its_registers(self):
        compile_extension('CC', 'perf_registers.c', self.directory)
        out = self.assert_same("""\
            import perf_registers
            def leaf(): return 1
            def function():
                switch()
                leaf()
                sys.deactivate_stack_trampoline()
            for numbers in perf_registers.call(function, 10):
                print(*numbers)
            switch()
            """)
        of_10_calls = (3 ** 10 - 1) // 2
        self.assertEqual(out.splitlines(), [
            ' '.join(str(10.0 * factor) for factor in range(1, 13)),
            ' '.join(str(of_10_calls * factor) for factor in range(1, 13))])


class SwitchingTests(LateTestCase):
    """One thread switches all the time."""

    COMPUTE = """\
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
def generator(n):
    for i in range(n):
        yield deep(i)
def deep(n): return deep(n - 1) + 1 if n else 0
def fails(n):
    if n:
        fails(n - 1)
    raise ValueError(n)
def catches(n):
    try:
        fails(n)
    except ValueError as error:
        levels, tb = 0, error.__traceback__
        while tb is not None:
            levels, tb = levels + 1, tb.tb_next
        return levels
class Class:
    def __init__(self, n): self.n = deep(n)
    def __lt__(self, other): return self.n < other.n
async def coroutine(n):
    return n and await coroutine(n - 1) + 1
def drive(n):
    try:
        coroutine(n).send(None)
    except StopIteration as stop:
        return stop.value
def loop(n):
    total = 0
    for i in range(n):
        total += i * n & 7
    return total
def compute(n):
    return (fibonacci(n % 12 + 3), sum(generator(n % 40)), deep(n % 90),
            catches(n % 50), drive(n % 60), loop(n),
            [each.n for each in sorted(map(Class, range(n % 30, 0, -1)))],
            max(range(20), key=lambda i: deep((i * n) % 45)))
"""

    def test_results_while_another_thread_switches(self):
        for mode in (*MODES, 'both'):
            with self.subTest(mode=mode):
                run = self.run_python(self.COMPUTE + f'mode = {mode!r}\n' + """
import itertools, sys, threading, time
expected = [compute(n) for n in range(60)]
def work(number):
    rounds = 0
    while rounds < 60 or not enough.is_set():
        n = (rounds + number) % 60
        if compute(n) != expected[n]:
            print('different', n)
        rounds += 1
    done.append(number)
def switch():
    count = 0
    modes = itertools.cycle(['perf', 'perf_jit'] if mode == 'both' else [mode])
    try:
        while len(done) < 4:
            sys.activate_stack_trampoline(next(modes))
            time.sleep(0.0003)
            sys.deactivate_stack_trampoline()
            time.sleep(0.0003)
            count += 1
            if count == 100:
                enough.set()
    finally:
        enough.set()
    print(count >= 100)
done = []
enough = threading.Event()
sys.setswitchinterval(0.0001)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
threads.append(threading.Thread(target=switch))
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(done))
""", mode=None)
                self.assertEqual((run.out, run.err), ('True\n[0, 1, 2, 3]\n', ''))
                for each in MODES:
                    if mode in (each, 'both'):
                        names_of(each, run.pid)

    def test_results_while_signals_switch(self):
        # A handler switches between two instructions of the main thread.
        run = self.run_python(self.COMPUTE + """
import signal, sys
expected = [compute(n) for n in range(60)]
def handler(signum, frame):
    global count
    count += 1
    if count % 2:
        sys.activate_stack_trampoline('perf')
    else:
        sys.deactivate_stack_trampoline()
count = rounds = 0
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
while count < 2000:
    assert compute(rounds % 60) == expected[rounds % 60], rounds
    rounds += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print('done')
""", mode=None)
        self.assertEqual((run.out, run.err), ('done\n', ''))
        names_of('perf', run.pid)


class SubinterpreterTests(LateTestCase):

    def setUp(self):
        super().setUp()
        import_helper.import_module('test.test_perf.subinterpreters')

    def test_each_is_switched_on_late(self):
        fixtures.require_frame_pointers()
        self.assert_late_chains("""\
            from test.test_perf import subinterpreters as interpreters
            source = '''if True:
                import sys
                from _testinternalcapi import perf_walk_stack as walk
                def deep(n):
                    if n:
                        return deep(n - 1) + 1
                    sys.activate_stack_trampoline(MODE)
                    return 0
                def main():
                    assert deep(40) == 40
                    assert sorted([3, 1, 2], key=deep) == [1, 2, 3]
                    with open(PATH, 'a') as file:
                        print(walk(), file=file)
                main()
                '''.replace('MODE', repr(mode)).replace('PATH', repr(__file__ + '.txt'))
            def outer():
                for number in range(20):
                    new = interpreters.create()
                    interpreters.run_string(new, source)
                    if number % 2:
                        interpreters.destroy(new)
                with open(__file__ + '.txt') as file:
                    read = [eval(line) for line in file]
                os.unlink(__file__ + '.txt')
                assert len(read) == 20 and all(read)
                late()
                chains.append(walk())
            outer()
            """, 'outer <module>')

    def test_one_is_switched_on_while_others_run(self):
        run = self.run_python(SwitchingTests.COMPUTE + """
import sys, threading
from test.test_perf import subinterpreters as interpreters
with open(__file__) as file:
    source = file.read().partition('from test.test_perf')[0]
source += '''
import sys
expected = [compute(n) for n in range(30)]
for i in range(6):
    if i % 2:
        sys.activate_stack_trampoline('perf')
    else:
        sys.deactivate_stack_trampoline()
    assert [compute(n) for n in range(30)] == expected
'''
def run(number):
    new = interpreters.create()
    interpreters.run_string(new, source)
    interpreters.destroy(new)
    done.append(number)
done = []
sys.setswitchinterval(1e-4)
threads = [threading.Thread(target=run, args=(n,)) for n in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(done))
""", mode=None)
        self.assertEqual((run.out, run.err), (f'{[*range(10)]}\n', ''))
        names_of('perf', run.pid)


if __name__ == '__main__':
    unittest.main()
