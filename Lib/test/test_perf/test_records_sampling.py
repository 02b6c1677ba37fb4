"""Frame records at every instruction."""

import collections
import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.modes import MODES
from test.test_perf.walker import (
    FOREIGN, INTERPRETER, RecordTestCase, is_python)


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    import_helper.import_module('_testinternalcapi')


# A program that does a little of everything, and which function calls which in
# it.
MIXED = """\
class Failure(Exception): pass
class Class:
    def __init__(self): self.x = leaf(1)
    def __getitem__(self, i): return leaf(i)
    def method(self, n, k=1): return leaf(n)
    @property
    def attribute(self): return leaf(self.x)
def leaf(n): return n * 2 + 1
def deep(n): return deep(n - 1) if n else leaf(n)
def generator(n):
    for i in range(n):
        yield leaf(i)
def delegating(n): yield from generator(n)
def looping(n):
    for _ in delegating(n):
        leaf(n)
    return sum(x for x in generator(n))
def failing(n):
    if n:
        failing(n - 1)
    raise Failure
def catching(n):
    try:
        failing(n)
    except Failure:
        leaf(1)
    finally:
        leaf(2)
def key(x): return leaf(x)
def sorting(): return sorted([3, 1, 2], key=key)
def comprehension(): return set(leaf(i) for i in range(3))
async def awaited(): return leaf(1)
async def waiting(): return await awaited()
def driving():
    try:
        waiting().send(None)
    except StopIteration:
        pass
def fresh(): return leaf(1)
codes = []
def starred(*args, **kw): return leaf(*args, **kw)
def step(n):
    instance = Class()
    instance[n]
    instance.method(n)
    instance.attribute
    deep(n % 45)
    looping(2)
    catching(n % 40)
    sorting()
    comprehension()
    driving()
    if n % 50 == 0:
        # Kept: a jitdump gives the address of a dead one to another.
        codes.append(fresh.__code__)
        fresh.__code__ = fresh.__code__.replace(co_firstlineno=n + 1)
    fresh()
    starred(n=n)
"""


CALLS = """\
step: <module> work
Class.__init__ Class.__getitem__ Class.method Class.attribute: step
deep: step deep
looping catching sorting comprehension driving fresh starred: step
delegating looping.<locals>.<genexpr>: looping
generator: delegating looping looping.<locals>.<genexpr>
failing: catching failing
key: sorting
comprehension.<locals>.<genexpr>: comprehension
waiting: driving
awaited: waiting
leaf: Class.__init__ Class.__getitem__ Class.method Class.attribute deep \
generator looping catching key comprehension.<locals>.<genexpr> awaited \
fresh starred
"""


def legal_calls(text):
    """Return the pairs (callee, caller) of such a text."""
    calls = set()
    for line in text.splitlines():
        callees, callers = line.split(':')
        calls |= {(callee, caller) for callee in callees.split()
                  for caller in callers.split()}
    return calls


def with_indirect(calls):
    """Return the pairs of functions that call each other, directly or not."""
    calls = set(calls)
    while True:
        more = {(a, d) for a, b in calls for c, d in calls if b == c}
        if more <= calls:
            return calls
        calls |= more


class SamplingTests(RecordTestCase):
    """Chains that signal handlers find, at any instruction."""

    def assert_legal(self, names, samples, calls, least,
                     bottom=('<module>',), enough=()):
        """Samples in the interpreter's code and in trampolines are whole.

        They have only calls that the program makes.  Samples in libraries are
        left out, because libraries may use the frame pointer for something
        else.  So are functions that a library calls back, as dl_iterate_phdr()
        and the unwinder do: their chains end in the library.
        """
        faults = []
        called_back = 0
        seen = collections.Counter()
        for pc, addresses, end in samples:
            where = names.name(pc)
            seen[where if where in (INTERPRETER, FOREIGN) else 'Python'] += 1
            if where == FOREIGN:
                continue
            chain = [where, *names.chain(addresses)]
            python = [name for name in chain if is_python(name)]
            is_short = len(chain) <= 4      # main() is further away
            if ((end == 'outside' or end == 'null' and is_short) and not python
                    and (chain[-1] == FOREIGN or not addresses)):
                called_back += 1
                continue
            first_of_bottom = len(python) - len(bottom)
            pairs = list(zip(python, python[1:first_of_bottom + 1]))
            if (end not in ('null', 'outside')
                    or chain[-1] != FOREIGN
                    or tuple(python[first_of_bottom:]) != bottom
                    or not calls.issuperset(pairs)):
                faults.append((hex(pc), end, chain))
            seen.update(pairs)
        good = seen[INTERPRETER] + seen['Python']
        message = (f'{len(faults)} of {good} samples are wrong '
                   f'({seen[FOREIGN]} in libraries): {faults[:3]}')
        self.assertEqual(len(faults), 0, message)
        self.assertGreaterEqual(good, least, message)
        self.assertLess(called_back, good / 500)
        for pair in enough:
            self.assertIn(pair, seen, message)

    def run_mixed(self, source, mode):
        """Run a program with all of MIXED. Return its Names and the samples.
        """
        names, (samples, _) = self.run_child(MIXED + textwrap.dedent(source),
                                             mode)
        return names, samples

    def test_a_sampled_program(self):
        calls = legal_calls(CALLS)
        for mode in MODES:
            with self.subTest(mode=mode):
                names, samples = self.run_mixed("""\
                    perf_sample_start(97, 8000)
                    perf_sample_thread()
                    n = 0
                    while perf_sample_count() < 8000:
                        step(n)
                        n += 1
                    chains.append(perf_sample_stop())
                    """, mode)
                self.assertEqual(len(samples), 8000)
                self.assert_legal(names, samples, calls, least=5000,
                                  enough=[('leaf', 'deep'),
                                          ('failing', 'failing'),
                                          ('step', '<module>')])

    def test_sampled_while_switching(self):
        # Calls that were made while profiling was off are missing.
        calls = with_indirect(legal_calls(CALLS + 'switch: leaf\n'))
        for mode in MODES:
            with self.subTest(mode=mode):
                names, samples = self.run_mixed("""\
                    import itertools
                    modes = itertools.cycle(
                        [None, 'perf', 'perf_jit', None, 'perf_jit', 'perf'])
                    calls = itertools.cycle(range(997))
                    def leaf(n):
                        if next(calls) == 0:
                            switch(next(modes))
                        return n
                    def switch(mode):
                        if mode is None:
                            sys.deactivate_stack_trampoline()
                        else:
                            sys.activate_stack_trampoline(mode)
                    perf_sample_start(97, 8000)
                    perf_sample_thread()
                    n = 0
                    while perf_sample_count() < 8000:
                        step(n)
                        n += 1
                    chains.append(perf_sample_stop())
                    switch(mode)
                    """, mode)
                self.assert_legal(
                    names, samples, calls, least=3000,
                    enough=[('leaf', 'deep'), ('failing', 'failing')])

    def test_sampled_threads(self):
        calls = legal_calls(CALLS)
        bottom = ('work', 'threading.py:Thread.run',
                  'threading.py:Thread._bootstrap_inner',
                  'threading.py:Thread._bootstrap')
        for mode in MODES:
            with self.subTest(mode=mode):
                names, samples = self.run_mixed("""\
                    import threading
                    def work():
                        perf_sample_thread()
                        n = 0
                        while perf_sample_count() < 20_000:
                            step(n)
                            n += 1
                    sys.setswitchinterval(1e-4)
                    threads = [threading.Thread(target=work)
                               for _ in range(4)]
                    perf_sample_start(97, 20_000)
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()
                    chains.append(perf_sample_stop())
                    """, mode)
                # A thread is sampled also while it waits.
                self.assert_legal(names, samples, calls, least=2000,
                                  bottom=bottom,
                                  enough=[('leaf', 'deep'),
                                          ('failing', 'failing'),
                                          ('step', 'work')])

    @fixtures.needs_single_steps
    def test_each_instruction_of_inlined_calls(self):
        # The changes follow one another directly.
        for mode in MODES:
            with self.subTest(mode=mode):
                names, (samples, _) = self.run_child("""\
                    class Class:
                        def __getitem__(self, i): return baz()
                        def method(self): return 1
                    def baz(): return 1
                    def bar():
                        c.method()
                        return baz() + c[0]
                    def fails(n):
                        if n:
                            fails(n - 1)
                        raise ValueError
                    def foo():
                        bar()
                        try:
                            fails(1)
                        except ValueError:
                            pass
                        kept.append(generator())
                    def generator(): yield 1
                    kept = []
                    c = Class()
                    for _ in range(100):
                        foo()
                    perf_sample_start(0, 20_000)
                    perf_sample_thread()
                    foo()
                    chains.append(perf_sample_stop())
                    """, mode)
                seen = []
                for pc, addresses, end in samples:
                    if names.name(pc) != FOREIGN:
                        python = names.python(addresses)
                        if seen[-1:] != [python]:
                            seen.append(python)
                self.assertEqual([' '.join(each[:-1]) for each in seen], [
                    '', 'foo', 'bar foo', 'Class.method bar foo', 'bar foo',
                    'baz bar foo', 'bar foo', 'Class.__getitem__ bar foo',
                    'baz Class.__getitem__ bar foo',
                    'Class.__getitem__ bar foo', 'bar foo', 'foo',
                    'fails foo', 'fails fails foo', 'fails foo', 'foo',
                    'generator foo', 'foo', ''])
                for each in seen:
                    self.assertEqual(each[-1], '<module>')

    @fixtures.needs_single_steps
    def test_each_instruction_of_a_program(self):
        calls = legal_calls(CALLS)
        for mode in MODES:
            with self.subTest(mode=mode):
                names, samples = self.run_mixed("""\
                    for n in range(100):
                        step(n)
                    perf_sample_start(0, 40_000)
                    perf_sample_thread()
                    step(50)        # with a function that has no name yet
                    chains.append(perf_sample_stop())
                    """, mode)
                self.assertLess(len(samples), 40_000)
                self.assert_legal(names, samples, calls, least=1000,
                                  enough=[('leaf', 'deep'),
                                          ('failing', 'failing')])

    @fixtures.needs_single_steps
    def test_each_instruction_after_a_late_start(self):
        # deep() is handed over, returns in the second loop, and that ends.
        calls = with_indirect(legal_calls(
            'deep: deep outer\nouter: <module>\nleaf: deep\n'))
        for mode in MODES:
            with self.subTest(mode=mode):
                names, (samples, _) = self.run_child(f"""\
                    def leaf(): return 1
                    def deep(n):
                        if n:
                            deep(n - 1)
                        else:
                            sys.activate_stack_trampoline('{mode}')
                        return leaf()
                    def outer(): return list(map(deep, [3]))
                    outer()
                    sys.deactivate_stack_trampoline()
                    perf_sample_start(0, 40_000)
                    perf_sample_thread()
                    outer()
                    chains.append(perf_sample_stop())
                    """, mode)
                self.assertLess(len(samples), 40_000)
                self.assert_legal(names, samples, calls, least=300, bottom=(),
                                  enough=[('deep', 'deep'), ('leaf', 'deep')])


if __name__ == '__main__':
    unittest.main()
