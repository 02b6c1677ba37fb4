"""Frame records of calls, of deep recursion, and of leaving functions."""

import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.modes import MODES
from test.test_perf.walker import CALLERS, RecordTestCase


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    import_helper.import_module('_testinternalcapi')


# How many records the frame of _PyPerf_EnterEvalLoop() has room for.
RECORDS = 32


class CallTests(RecordTestCase):
    """Each kind of call."""

    def test_nested_functions(self):
        self.assert_chains("""\
            def foo():
                bar()
                chains.append(walk())
            def bar():
                baz()
                chains.append(walk())
            def baz():
                chains.append(walk())
            for _ in rounds:
                foo()
            """, 'baz bar foo', 'bar foo', 'foo')

    def test_methods(self):
        self.assert_chains("""\
            class Class:
                def __init__(self): chains.append(walk())
                def method(self): chains.append(walk())
                @staticmethod
                def static(): chains.append(walk())
                @classmethod
                def of_class(cls): chains.append(walk())
                @property
                def attribute(self): chains.append(walk())
            def caller():
                c = Class()
                c.method()
                Class.method(c)
                bound = c.method
                bound()
                c.static()
                c.of_class()
                c.attribute
            for _ in rounds:
                caller()
            """, 'Class.__init__ caller', *['Class.method caller'] * 3,
            'Class.static caller', 'Class.of_class caller',
            'Class.attribute caller')

    def test_special_methods(self):
        self.assert_chains("""\
            class Class:
                def __call__(self): chains.append(walk())
                def __add__(self, other): chains.append(walk())
                def __eq__(self, other): chains.append(walk())
                def __getattr__(self, name): chains.append(walk())
                def __enter__(self): chains.append(walk())
                def __exit__(self, *args): chains.append(walk())
                def __iter__(self): chains.append(walk()); return self
                def __next__(self):
                    chains.append(walk())
                    raise StopIteration
                def __del__(self): chains.append(walk())
            def caller():
                c = Class()
                c()
                c + c
                c == 1
                c.attribute
                with c:
                    chains.append(walk())
                for _ in c:
                    pass
            for _ in rounds:
                caller()
            """, *[f'Class.{name} caller' for name in (
                '__call__', '__add__', '__eq__', '__getattr__', '__enter__')],
            'caller', *[f'Class.{name} caller' for name in (
                '__exit__', '__iter__', '__next__')],
            # The locals are destroyed when their function is left.
            'Class.__del__')

    def test_an_inlined_subscript(self):
        # At module level and at function level; it is specialized after a
        # while.
        self.assert_chains("""\
            class Sequence:
                def __getitem__(self, index):
                    chains.append(walk())
                    return inner(index)
            def inner(index):
                chains.append(walk())
                return index + 1
            def caller(sequence, index):
                result = sequence[index]
                chains.append(walk())
                return result
            sequence = Sequence()
            for i in range(100):
                assert caller(sequence, i) == i + 1
            """, 'Sequence.__getitem__ caller',
            'inner Sequence.__getitem__ caller', 'caller')

    @unittest.skipIf(fixtures.FREE_THREADED, 'no instruction is specialized')
    def test_an_inlined_subscript_has_a_record(self):
        names, chains = self.run_child("""\
            class Sequence:
                def __getitem__(self, index): chains.append(walk())
            def caller(sequence): sequence[0]
            def outer(sequence): caller(sequence)
            sequence = Sequence()
            for _ in range(100):
                outer(sequence)
            """)
        self.assert_side_by_side(
            names.chain(chains[-2]),
            ['Sequence.__getitem__', 'caller', 'outer', '<module>'])

    def assert_side_by_side(self, chain, wanted):
        """The chain has these functions and no C functions between them."""
        first = chain.index(wanted[0])
        self.assertEqual(chain[first:first + len(wanted)], wanted)

    def test_inlined_calls_have_records(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child("""\
                    class Class:
                        def method(self, a, b=2): chains.append(walk())
                    def one(c): c.method(1)
                    def two(c, d=2): one(c=c)
                    def three(c, *, k): two(c)
                    def four(*args): three(c, k=1)
                    def five(a, **kw): four(1, 2)
                    c = Class()
                    for _ in rounds:
                        five(c, k=1)
                    """, mode)
                self.assert_side_by_side(
                    names.chain(chains[-2]),
                    ['Class.method', 'one', 'two', 'three', 'four', 'five',
                     '<module>'])

    def test_each_shape_of_arguments(self):
        self.assert_chains("""\
            def default(a, b=2): chains.append(walk())
            def starred(*args, **kw): chains.append(walk())
            def keyword(*, k): chains.append(walk())
            def positional(a, /, b): chains.append(walk())
            def closure():
                here = chains
                def inner(): here.append(walk())
                inner()
                return inner
            def caller():
                default(1)
                default(1, 3)
                default(b=1, a=3)
                starred(1, 2, k=3)
                starred(*(1, 2), **{'k': 3})
                keyword(k=1)
                positional(1, b=2)
                closure()()
                (lambda x: chains.append(walk()))(1)
            for _ in rounds:
                caller()
            """, *['default caller'] * 3, *['starred caller'] * 2,
            'keyword caller', 'positional caller',
            'closure.<locals>.inner closure caller',
            'closure.<locals>.inner caller', 'caller.<locals>.<lambda> caller')

    def test_decorators(self):
        self.assert_chains("""\
            import functools
            def decorator(function):
                @functools.wraps(function)
                def wrapper(*args, **kw):
                    chains.append(walk())
                    return function(*args, **kw)
                return wrapper
            @decorator
            def one(a): chains.append(walk())
            @functools.lru_cache
            def two(a): chains.append(walk())
            three = functools.partial(one, 3)
            def caller(i):
                one(i)
                two(i)
                three()
            for i in rounds:
                caller(i)
            """, 'decorator.<locals>.wrapper caller',
            'one decorator.<locals>.wrapper caller', 'two caller',
            'decorator.<locals>.wrapper caller',
            'one decorator.<locals>.wrapper caller')

    def test_comprehensions(self):
        self.assert_chains("""\
            def inner(): chains.append(walk())
            def caller():
                [inner() for _ in 'a']
                {inner() for _ in 'a'}
                {inner(): 1 for _ in 'a'}
                [[inner() for _ in 'a'] for _ in 'a']
                list(inner() for _ in 'a')
            for _ in rounds:
                caller()
            """, *[' '.join(['inner', *self.comprehensions(*names), 'caller'])
                   for names in [('listcomp',), ('setcomp',), ('dictcomp',),
                                 ('listcomp', 'listcomp'), ('genexpr',)]])

    @staticmethod
    def comprehensions(*names):
        """Return the functions of nested comprehensions, the innermost first."""
        functions, qualname = [], 'caller.<locals>'
        for name in names:
            if name in fixtures.FUNCTION_COMPREHENSIONS:
                qualname += f'.<{name}>'
                functions.insert(0, qualname)
        return functions

    def test_callbacks_from_c(self):
        self.assert_chains("""\
            import functools, re
            def key(x): chains.append(walk()); return x
            def two(x, y): inner(); return x
            def inner(): chains.append(walk())
            def caller():
                sorted([1], key=key)
                functools.reduce(two, [1, 2])
                list(map(key, [1]))
                list(filter(key, [1]))
                max([1], key=key)
                next(iter(functools.partial(key, 1), 1), None)
            def nested(): list(map(lambda x: caller(), [1]))
            for _ in rounds:
                nested()
            """, *[f'{name} caller nested.<locals>.<lambda> nested'
                   for name in ('key', 'inner two', *['key'] * 4)])

    def test_a_callback_from_ctypes(self):
        # On x86-64 libffi uses its frame pointer differently, so a profiler
        # that follows frame pointers sees no further.  The eval loop below
        # takes less stack than is walked, even at -O0, where it takes ten
        # kilobytes.  On other processors the whole stack is walked.
        import_helper.import_module('ctypes')
        names, chains = self.run_child("""\
            import ctypes
            size = 16384 if os.uname().machine == 'x86_64' else 0
            def function(): chains.append(walk(size))
            def called(x): function(); return x
            def caller(): callback(1)
            @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
            def callback(x): return called(x)
            for _ in rounds:
                caller()
                chains.append(walk())
            """)
        wanted = ['function', 'called', 'callback', 'caller', '<module>']
        for chain in map(names.python, chains[:-1:2]):
            self.assertEqual(chain, wanted[:max(3, len(chain))])
        for chain in map(names.python, chains[1::2]):
            self.assertEqual(chain, ['<module>'])

    def test_two_hundred_functions(self):
        source = ''.join(f'def f{i}(): f{i + 1}()\n' for i in range(200))
        self.assert_chains(
            source + 'def f200(): chains.append(walk())\n'
                     'for _ in rounds: f0()\n',
            ' '.join(f'f{i}' for i in range(200, -1, -1)))

    def test_the_first_call_happens_inside(self):
        # At each depth one function is new.  The others have names.
        self.assert_chains("""\
            def one(new, n):
                two(new, n)
            def two(new, n):
                if n:
                    one(new, n - 1)
                else:
                    new()
                    one_more()
            def one_more(): chains.append(walk())
            for i in rounds:
                def new(): chains.append(walk())
                one(new, 3)
            """, 'new ' + 'two one ' * 4, 'one_more ' + 'two one ' * 4)

    def test_a_replaced_code_object(self):
        self.assert_chains("""\
            def one(depth):
                chains.append(walk())
                if depth:
                    function.__code__ = two.__code__
                    function(0)
                    chains.append(walk())
            def two(depth): chains.append(walk())
            first = one.__code__
            def function(depth): pass
            def caller(): function(1)
            for _ in rounds:
                function.__code__ = first
                caller()
            """, 'one caller', 'two one caller', 'one caller')


class DepthTests(RecordTestCase):
    """More calls than one record area has room for."""

    def test_each_level_stands_there_once(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child("""\
                    def deep(n):
                        if n:
                            deep(n - 1)
                        else:
                            chains.append(walk())
                    def other(n):
                        deep(n)
                    for n in [*range(100), 500, 900]:
                        other(n)
                    """, mode)
                for n, addresses in zip([*range(100), 500, 900], chains):
                    self.assertEqual(
                        names.python(addresses),
                        ['deep'] * (n + 1) + ['other', '<module>'])
                    self.assert_reaches_bottom(names, addresses)

    def test_mutual_recursion_is_in_order(self):
        source = ''.join(f"""\
def f{i}(n):
    if n:
        f{(i + 1) % 7}(n - 1)
    chains.append(walk())
""" for i in range(7))
        names, chains = self.run_child(
            source + 'for _ in range(3): f0(150)\n')
        whole = [f'f{i % 7}' for i in range(151)]
        self.assertEqual(len(chains), 3 * 151 + 1)
        for index, addresses in enumerate(chains[:-1]):
            length = 151 - index % 151
            self.assertEqual(names.python(addresses),
                             whole[:length][::-1] + ['<module>'], index)

    def test_all_records_of_a_base_are_used(self):
        names, chains = self.run_child("""\
            def deep(n):
                if n:
                    deep(n - 1)
                else:
                    chains.append(walk())
            deep(1)
            deep(499)
            """)
        chain = names.chain(chains[1])
        runs = []
        for name in chain:
            if name == 'deep':
                runs[-1] += 1
            elif not runs or runs[-1]:
                runs.append(0)
        runs = [run for run in runs if run]
        self.assertEqual(sum(runs), 500)
        # The trampoline of the function that entered is one more.
        self.assertEqual(set(runs[1:-1]), {RECORDS + 1}, runs)

    def test_callbacks_at_every_depth(self):
        # Each has its own record area and leaves the other's records alone.
        self.assert_pairs(CALLERS + textwrap.dedent("""\
            def check(): chains.append((walk(), callers(sys._getframe())))
            def deep(n, c):
                if c == 0:
                    check()
                if n:
                    if n % 40 == c:
                        list(map(callback, [(n, c)]))
                    else:
                        deep(n - 1, c)
                elif c:
                    check()
                check()
            def callback(arguments):
                n, c = arguments
                check()
                deep(n - 1, c)
            for c in range(40):
                deep(90, c)
            """), least=3000)


class LeavingTests(RecordTestCase):
    """Ways to leave a function."""

    def test_an_exception_through_many_frames(self):
        for depth in (0, 1, 5, 31, 32, 33, 64, 100):
            with self.subTest(depth=depth):
                self.assert_chains(f"""\
                    def fails(n):
                        if n:
                            fails(n - 1)
                        chains.append(walk())
                        raise ValueError
                    def catches():
                        try:
                            fails({depth})
                        except ValueError:
                            chains.append(walk())
                        finally:
                            chains.append(walk())
                        chains.append(walk())
                    def outer():
                        catches()
                        chains.append(walk())
                    for _ in rounds:
                        outer()
                    """, 'fails ' * (depth + 1) + 'catches outer',
                    *['catches outer'] * 3, 'outer')

    def test_each_frame_sees_the_exception(self):
        self.assert_pairs(CALLERS + textwrap.dedent("""\
            class Manager:
                def __enter__(self): pass
                def __exit__(self, *args):
                    chains.append((walk(), callers(sys._getframe())))
            def fails(n):
                with Manager():
                    try:
                        if n == 0:
                            1 / 0
                        elif n % 3:
                            fails(n - 1)
                        else:
                            relays(n - 1)
                    except ZeroDivisionError:
                        chains.append((walk(), callers(sys._getframe())))
                        raise KeyError from None
                    except KeyError:
                        chains.append((walk(), callers(sys._getframe())))
                        raise ZeroDivisionError from None
                    finally:
                        chains.append((walk(), callers(sys._getframe())))
            def relays(n):
                fails(n)
            for _ in rounds:
                try:
                    fails(50)
                except Exception:
                    pass
            """), least=12 * 51 * 3)

    def test_a_call_that_fails_before_it_begins(self):
        self.assert_chains("""\
            def needs(a, *, k): pass
            def caller():
                for call in (lambda: needs(), lambda: needs(1),
                             lambda: needs(1, 2, k=3), lambda: needs(1, j=1)):
                    try:
                        call()
                    except TypeError:
                        chains.append(walk())
            for _ in rounds:
                caller()
                chains.append(walk())
            """, *['caller'] * 4, '')

    def test_a_recursion_error(self):
        names, chains = self.run_child("""\
            depths = []
            def recurse(n):
                try:
                    recurse(n + 1)
                except RecursionError:
                    if len(depths) <= round:
                        chains.append(walk())
                        depths.append(n + 1)
                    raise
            def catches():
                try:
                    recurse(0)
                except RecursionError:
                    chains.append(walk())
                chains.append(walk())
            for round in rounds:
                catches()
            chains.append(depths)
            """)
        depths = chains[-2]
        self.assertEqual(len(depths), 12)
        for index, depth in enumerate(depths):
            deep, *others = map(names.python, chains[3 * index:3 * index + 3])
            self.assertGreater(depth, 900)
            self.assertEqual(
                deep, ['recurse'] * depth + ['catches', '<module>'])
            self.assertEqual(others, [['catches', '<module>']] * 2)

    def test_a_recursion_error_at_every_depth(self):
        # Both calls through C and inlined calls meet the limit.
        self.assert_pairs(CALLERS + textwrap.dedent("""\
            def recurse(): recurse()
            def catches():
                try:
                    recurse()
                except RecursionError:
                    pass
                chains.append((walk(), callers(sys._getframe())))
            def down(n):
                if n:
                    down(n - 1)
                else:
                    catches()
                chains.append((walk(), callers(sys._getframe())))
            sys.setrecursionlimit(150)
            for n in range(70):
                down(n)
            """), least=1000)

    def test_system_exit_leaves_through_all(self):
        self.assert_chains("""\
            def leaves(n):
                if n:
                    leaves(n - 1)
                sys.exit(1)
            for _ in rounds:
                try:
                    leaves(40)
                except SystemExit:
                    chains.append(walk())
            """, '')


if __name__ == '__main__':
    unittest.main()
