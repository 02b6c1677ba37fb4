"""Frame records: what a profiler finds that follows frame pointers.

No profiler is needed here.  _testinternalcapi.perf_walk_stack() follows the
chain of frame records of its own thread, by the rules of the most demanding
kernel; the addresses are named by the process's own map or jitdump.  Every
program runs in a child.

What a program puts into `chains` are chains, to be compared with names that
the test knows: all Python functions, leaf first.
"""

import bisect
import collections
import functools
import json
import os
import re
import struct
import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures, jitdump, parsers

# How many records there are in a base (Python/asm_trampoline_*.S).
RECORDS = 32

MODES = ('perf', 'perf_jit')

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

# The names of a frame and of those that called it, leaf first, as Python sees
# them.
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

ET_DYN = 3                          # of ELF: the program has no fixed address

# What stands in a chain for a function that is not Python's.
INTERPRETER = 'C'                   # a C function of the interpreter's program
FOREIGN = 'foreign'                 # one of a library
UNNAMED = 'unnamed'                 # a trampoline that no file tells of


can_step = unittest.skipUnless(
    os.uname().machine == 'x86_64', 'no single steps on this processor')


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    import_helper.import_module('_testinternalcapi')


def is_python(name):
    return name not in (INTERPRETER, FOREIGN)


class Names:
    """The names of a process's addresses.

    time        when it had these names, by the monotonic clock: a jitdump may
                give an address to several functions, one after the other
    maps        the text of its /proc/self/maps
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
        """Functions of the script have their names, others a file, too."""
        match = re.fullmatch(r'py::(.*?):(.*)', name, re.DOTALL)
        if match is None:
            return name
        qualname, filename = match.groups()
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
        """Name return addresses, each by the call before it.

        A chain may end in the C library, or in _start, which calls it and
        which is left out.
        """
        if addresses and addresses[-1] in self.entry:
            addresses = addresses[:-1]
        return [self.name(address - 1) for address in addresses]

    def python(self, addresses):
        return [name for name in self.chain(addresses) if is_python(name)]


class RecordTestCase(fixtures.PerfTestCase):

    def run_child(self, source, mode='perf', **options):
        """Run a program.  Return its Names and what it put into `chains`."""
        run = self.run_python(
            BEFORE + textwrap.dedent(source) + AFTER, mode,
            prepare='rm -f /tmp/jit-$$.dump', **options)
        self.assertEqual(run.err, '')
        pid, *rest, chains = json.loads(run.out.splitlines()[-1])
        return self.names(pid, *rest), chains

    def names(self, pid, time, maps):
        return Names(self.path('script.py'), self.track(pid), time, maps)

    def assert_reaches_bottom(self, names, addresses):
        """The chain ends in what started the program or the thread: one
        function of the C library, or up to three where that has frame
        pointers."""
        chain = names.chain(addresses)
        self.assertEqual(chain[-1], FOREIGN, chain)
        called = [name for name in chain[-4:] if name != FOREIGN]
        self.assertEqual(called[-1:], [INTERPRETER], chain)

    def assert_chains(self, source, *expected, module=True, stdlib=False):
        """Run a program in both modes.  Its chains are these, again and
        again in each of its rounds, and at its end only <module> is left.

        expected: names separated by blanks, leaf first, above <module>
        stdlib: functions of other files are left out
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
        """Run a program that puts pairs of a chain and the names it should
        have into `chains`.  Return the pairs, named."""
        names, chains = self.run_child(source, mode)
        self.assertEqual(names.python(chains.pop()), ['<module>'])
        self.assertGreaterEqual(len(chains), least)
        for index, (addresses, wanted) in enumerate(chains):
            self.assertEqual(names.python(addresses), wanted, index)
            self.assert_reaches_bottom(names, addresses)
        return [(names.chain(addresses), wanted)
                for addresses, wanted in chains]


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
            # Locals die when their function has been left.
            'Class.__del__')

    def test_an_inlined_subscript(self):
        # Module level and function level; it is specialized after a while.
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
        """There are these functions and no C functions between them."""
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
            """, *[f'inner caller.<locals>.<{name}> caller' for name in (
                'listcomp', 'setcomp', 'dictcomp')],
            'inner caller.<locals>.<listcomp>.<listcomp> '
            'caller.<locals>.<listcomp> caller',
            'inner caller.<locals>.<genexpr> caller')

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
        # On x86-64 libffi has a frame pointer of its own kind.  A profiler that
        # follows frame pointers sees no farther.  The eval loop below takes less
        # stack than is walked, also that of -O0, which takes ten kilobytes.
        # Elsewhere all of the stack is walked.
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
        # New functions, one at each depth, among those that have names.
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
    """More calls than one base has records for."""

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
        # Each has a base of its own, and leaves the other's records alone.
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
    """Ways out of a function."""

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
        # The limit is met in calls through C as well as in inlined ones.
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


class GeneratorTests(RecordTestCase):

    def test_a_loop(self):
        self.assert_chains("""\
            def inner(): chains.append(walk())
            def generator():
                chains.append(walk())
                yield 1
                inner()
                yield 2
                chains.append(walk())
            def caller():
                for _ in generator():
                    chains.append(walk())
                chains.append(walk())
            for _ in rounds:
                caller()
            """, 'generator caller', 'caller', 'inner generator caller',
            'caller', 'generator caller', 'caller')

    def test_yield_from(self):
        self.assert_chains("""\
            def inner():
                chains.append(walk())
                yield 1
                chains.append(walk())
                return 2
            def middle():
                yield from inner()
                chains.append(walk())
            def outer():
                yield from middle()
                chains.append(walk())
            def caller():
                for _ in outer():
                    chains.append(walk())
            for _ in rounds:
                caller()
            """, 'inner middle outer caller', 'caller',
            'inner middle outer caller', 'middle outer caller',
            'outer caller')

    def test_send_throw_and_close(self):
        self.assert_chains("""\
            def inner():
                try:
                    yield 1
                except KeyError:
                    chains.append(walk())
                yield 2
            def generator():
                got = yield 0
                chains.append(walk())
                try:
                    yield from inner()
                finally:
                    chains.append(walk())
            def caller():
                g = generator()
                chains.append(walk())
                next(g)
                g.send(1)
                g.throw(KeyError)
                chains.append(walk())
                g.close()
                chains.append(walk())
            for _ in rounds:
                caller()
            """, 'caller', 'generator caller',
            # throw() goes to the innermost at once.
            'inner caller',
            'caller', 'generator caller', 'caller')

    def test_a_generator_that_raises(self):
        self.assert_chains("""\
            def generator(n):
                yield
                if n:
                    yield from generator(n - 1)
                raise ValueError
            def caller():
                try:
                    for _ in generator(3):
                        chains.append(walk())
                except ValueError:
                    chains.append(walk())
            for _ in rounds:
                caller()
            """, *['caller'] * 5)

    def test_created_in_one_place_and_resumed_in_others(self):
        # A generator's frame is a copy of one that had a record.
        self.assert_pairs(CALLERS + textwrap.dedent("""\
            import threading
            def generator(n):
                while True:
                    inner()
                    chains.append((walk(), callers(sys._getframe())))
                    yield n
            def inner():
                chains.append((walk(), callers(sys._getframe())))
            def create(n):
                if n:
                    result = create(n - 1)
                    chains.append((walk(), callers(sys._getframe())))
                    return result
                return generator(n)
            def resume(n, g):
                if n:
                    resume(n - 1, g)
                else:
                    next(g)
                chains.append((walk(), callers(sys._getframe())))
            for created in (0, 1, 31, 32, 33, 34, 70):
                g = create(created)
                for resumed in (0, 1, 30, 31, 32, 33, 70, 2):
                    resume(resumed, g)
            """), least=500)

    def test_resumed_in_another_thread(self):
        self.assert_chains("""\
            import _thread
            def generator():
                while True:
                    inner()
                    yield
            def inner(): chains.append(walk())
            def create(n): return create(n - 1) if n else generator()
            def thread(g):
                resume(g)
                lock.release()
            def resume(g):
                next(g)
                chains.append(walk())
            lock = _thread.allocate_lock()
            lock.acquire()
            for n in rounds:
                g = create(n)
                next(g)
                _thread.start_new_thread(thread, (g,))
                lock.acquire()
                chains[-3:] = [chains[-2], chains[-1], walk()]
            """, 'inner generator resume thread', 'resume thread', '<module>',
            module=False)

    def test_resumed_after_switching(self):
        # Which of its resumptions happened while it was on counts.
        self.assert_chains("""\
            def generator():
                while True:
                    inner()
                    chains.append(walk())
                    yield
            def inner(): chains.append(walk())
            def create(n): return create(n - 1) if n else generator()
            def resume(g):
                next(g)
                chains.append(walk())
            for n in rounds:
                g = create(n)
                resume(g)
                sys.deactivate_stack_trampoline()
                resume(g)
                g2 = create(n)
                sys.activate_stack_trampoline(mode)
                resume(g)
                resume(g2)
            """, *['inner generator resume', 'generator resume', 'resume',
                   '', '', '',
                   'inner generator resume', 'generator resume', 'resume',
                   'inner generator resume', 'generator resume', 'resume'])

    def test_switched_within(self):
        self.assert_chains("""\
            def generator():
                chains.append(walk())
                sys.deactivate_stack_trampoline()
                inner()
                chains.append(walk())
                yield
                inner()
                chains.append(walk())
                sys.activate_stack_trampoline(mode)
                inner()
                yield
                inner()
            def inner(): chains.append(walk())
            def create(n): return create(n - 1) if n else generator()
            def caller(n):
                for _ in create(n):
                    chains.append(walk())
            for n in rounds:
                caller(n)
            """, 'generator caller', 'generator caller', 'generator caller',
            'caller', 'caller', 'caller', 'inner caller', 'caller',
            'inner generator caller')

    def test_coroutines(self):
        self.assert_chains("""\
            class Awaitable:
                def __await__(self):
                    chains.append(walk())
                    got = yield
                    chains.append(walk())
                    return got
            async def inner():
                result = await Awaitable()
                chains.append(walk())
                return result
            async def middle(): return await inner()
            async def outer(): return await middle()
            def caller():
                coroutine = outer()
                coroutine.send(None)
                chains.append(walk())
                try:
                    coroutine.send(5)
                except StopIteration as stop:
                    chains.append(walk())
                    assert stop.value == 5
            for _ in rounds:
                caller()
            """, 'Awaitable.__await__ inner middle outer caller', 'caller',
            'Awaitable.__await__ inner middle outer caller',
            'inner middle outer caller', 'caller')

    def test_asynchronous_generators(self):
        self.assert_chains("""\
            class Manager:
                async def __aenter__(self): chains.append(walk())
                async def __aexit__(self, *args): chains.append(walk())
            async def generator():
                async with Manager():
                    yield 1
                    chains.append(walk())
            async def outer():
                async for _ in generator():
                    chains.append(walk())
                [chains.append(walk()) async for _ in generator()]
            def caller():
                try:
                    outer().send(None)
                except StopIteration:
                    chains.append(walk())
            for _ in rounds:
                caller()
            """, *[f'{name} outer caller'.replace('  ', ' ') for name in (
                'Manager.__aenter__ generator', '', 'generator',
                'Manager.__aexit__ generator',
                'Manager.__aenter__ generator outer.<locals>.<listcomp>',
                'outer.<locals>.<listcomp>',
                'generator outer.<locals>.<listcomp>',
                'Manager.__aexit__ generator outer.<locals>.<listcomp>')],
            'caller')

    def test_asyncio(self):
        self.assert_chains("""\
            import asyncio
            async def leaf(n):
                inner()
                await asyncio.sleep(0)
                inner()
            def inner(): chains.append(walk())
            async def task(n): await leaf(n)
            async def main():
                await asyncio.gather(*[task(n) for n in range(5)])
                await task(1)
            def caller(): asyncio.run(main())
            caller()
            chains = []
            for _ in rounds:
                caller()
            """, *['inner leaf task caller'] * 10,
            *['inner leaf task main caller'] * 2, stdlib=True)


class SwitchingTests(RecordTestCase):

    # What a function called itself while profiling was on, and so should be
    # seen, leaf first.
    SEEN = """\
def seen(frame):
    names = []
    while frame is not None:
        if frame.f_locals.get('on', True):
            names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names
def switch(mode):
    if mode is None:
        sys.deactivate_stack_trampoline()
    else:
        sys.activate_stack_trampoline(mode)
is_on = sys.is_stack_trampoline_active
"""

    def assert_seen(self, source, least=500):
        for mode in MODES:
            with self.subTest(mode=mode):
                self.assert_pairs(self.SEEN + textwrap.dedent(source), mode,
                                  least)

    def test_off_and_on_at_every_depth(self):
        self.assert_seen("""\
            def level(n):
                on = is_on()
                if n == off_at:
                    switch(None)
                if n == on_at:
                    switch(mode)
                if n < 45:
                    level(n + 1)
                chains.append((walk(), seen(sys._getframe())))
            for off_at in range(0, 45, 3):
                for on_at in range(off_at, 45, 4):
                    level(0)
                    switch(mode)
            """)

    def test_off_and_on_on_the_way_back(self):
        self.assert_seen("""\
            def level(n):
                on = is_on()
                if n < 45:
                    level(n + 1)
                if n == off_at:
                    switch(None)
                if n == on_at:
                    switch(mode)
                chains.append((walk(), seen(sys._getframe())))
                again(n)
            def again(n):
                on = is_on()
                chains.append((walk(), seen(sys._getframe())))
            for off_at in range(44, 0, -7):
                for on_at in range(off_at, 0, -5):
                    level(0)
                    switch(mode)
            """)

    def test_off_and_on_around_an_exception(self):
        self.assert_seen("""\
            def level(n):
                on = is_on()
                if n == off_at:
                    switch(None)
                if n == on_at:
                    switch(mode)
                if n == 45:
                    raise ValueError
                if n == catch_at:
                    try:
                        level(n + 1)
                    except ValueError:
                        chains.append((walk(), seen(sys._getframe())))
                else:
                    level(n + 1)
                chains.append((walk(), seen(sys._getframe())))
            for catch_at in range(0, 45, 6):
                for off_at in range(0, 45, 7):
                    for on_at in range(off_at, 45, 8):
                        level(0)
                        chains.append((walk(), seen(sys._getframe())))
                        switch(mode)
            """)

    def test_off_and_on_around_a_generators_creation(self):
        self.assert_seen("""\
            def generator(n, switched):
                while True:
                    on = is_on()
                    chains.append((walk(), seen(sys._getframe())))
                    if switched == 'within':
                        switch(None if n % 2 else mode)
                    chains.append((walk(), seen(sys._getframe())))
                    yield
            def level(n, switched):
                on = is_on()
                if switched == 'before':
                    switch(None if n % 2 else mode)
                g = generator(n, switched)
                if switched == 'after':
                    switch(None if n % 2 else mode)
                chains.append((walk(), seen(sys._getframe())))
                next(g)
                chains.append((walk(), seen(sys._getframe())))
                if n:
                    level(n - 1, switched)
                next(g)
                chains.append((walk(), seen(sys._getframe())))
            for switched in ('before', 'within', 'after'):
                for n in range(0, 70, 9):
                    level(n, switched)
                    switch(mode)
            """)

    def test_from_one_file_to_the_other_and_back(self):
        self.assert_seen("""\
            modes = ['perf', 'perf_jit', None, 'perf_jit', 'perf']
            def level(n):
                on = is_on()
                if n % 5 == 0:
                    switch(modes[n // 5 % len(modes)])
                chains.append((walk(), seen(sys._getframe())))
                if n < 45:
                    level(n + 1)
                if n % 3 == 0:
                    switch(modes[n // 3 % len(modes)])
                other(n)
                chains.append((walk(), seen(sys._getframe())))
            def other(n):
                on = is_on()
                chains.append((walk(), seen(sys._getframe())))
            for _ in rounds:
                level(0)
                switch('perf')
                chains.append((walk(), seen(sys._getframe())))
            """)

    def test_another_thread_switches(self):
        # Off and on again, while this one is within linked calls.
        self.assert_seen("""\
            import _thread
            lock = _thread.allocate_lock()
            lock.acquire()
            def thread(new):
                switch(new)
                lock.release()
            def level(n):
                on = is_on()
                if n % 4 == 0:
                    _thread.start_new_thread(
                        thread, (None if n % 8 else mode,))
                    lock.acquire()
                chains.append((walk(), seen(sys._getframe())))
                if n:
                    level(n - 1)
                chains.append((walk(), seen(sys._getframe())))
            for n in range(0, 90, 3):
                level(n)
                switch(mode)
            """)

    def test_an_eval_loop_entered_while_off(self):
        # It has no base around it, and so no room for records.
        self.assert_chains("""\
            def inner(n):
                chains.append(walk())
                if n:
                    inner(n - 1)
            def callback(x, y=1, z=2):
                a = b = c = x
                sys.activate_stack_trampoline(mode)
                inner(1)
                chains.append(walk())
                inner(0)
                return x, y, z, a, b, c
            def caller():
                sys.deactivate_stack_trampoline()
                assert max([5], key=callback) == 5
                assert list(map(callback, [3])) == [(3, 1, 2, 3, 3, 3)]
                inner(0)
            for _ in rounds:
                caller()
            """, *['inner caller', 'inner inner caller', 'caller',
                   'inner caller'],
            *['inner callback caller', 'inner inner callback caller',
              'callback caller', 'inner callback caller'], 'inner caller')

    def test_another_evaluator_is_installed_within(self):
        self.assert_chains("""\
            calls = []
            def inner(n):
                chains.append(walk())
                if n:
                    inner(n - 1)
            def switching():
                inner(1)
                _testinternalcapi.set_eval_frame_record(calls)
                inner(1)
                chains.append(walk())
                _testinternalcapi.set_eval_frame_default()
                inner(1)
                sys.activate_stack_trampoline(mode)
                inner(1)
            def outer():
                switching()
                chains.append(walk())
            for _ in rounds:
                outer()
            assert calls == ['inner'] * 24
            """, 'inner switching outer', 'inner inner switching outer',
            *['switching outer'] * 5, 'inner switching outer',
            'inner inner switching outer', 'outer')

    def test_a_random_program(self):
        # Everything at random, with the same seeds each time.
        self.assert_seen("""\
            import random
            modes = [None, 'perf', 'perf_jit', 'perf', 'perf_jit']
            class Failure(Exception): pass
            class Class:
                def __init__(self, n): step(n)
                def __getitem__(self, n):
                    on = is_on()
                    return step(n - 1)
                def method(self, n, k=1):
                    on = is_on()
                    return step(n - 1)
            def generator(n):
                on = is_on()
                step(n - 1)
                yield 1
                on = is_on()
                chains.append((walk(), seen(sys._getframe())))
                step(n - 1)
                yield 2
            def run(n):
                on = is_on()
                for _ in generator(n): pass
            def plain(n):
                on = is_on()
                step(n - 1)
            def callback(n):
                on = is_on()
                step(n - 1)
                return n
            def kept(n):
                on = is_on()
                generators.append(generator(n))
                step(n - 1)
            def resuming(n):
                on = is_on()
                if generators:
                    next(generators.pop(), None)
            def failing(n):
                on = is_on()
                step(n - 1)
                raise Failure
            def catching(n):
                on = is_on()
                try:
                    failing(n)
                except Failure:
                    chains.append((walk(), seen(sys._getframe())))
            def deep(n, levels):
                on = is_on()
                if levels:
                    deep(n, levels - 1)
                else:
                    step(n - 1)
                chains.append((walk(), seen(sys._getframe())))
            def step(n):
                on = is_on()
                if n > 0 and len(chains) < limit:
                    action = choice(actions)
                    if action is deep:
                        deep(n, choice(range(40)))
                    elif action is callback:
                        sorted([n], key=callback)
                    elif action is switch:
                        switch(choice(modes))
                    elif action == 'subscript':
                        instance[n]
                    elif action == 'method':
                        instance.method(n)
                    else:
                        action(n)
                    step(n - 1)
                chains.append((walk(), seen(sys._getframe())))
            actions = [run, plain, callback, kept, resuming, failing,
                       catching, deep, switch, 'subscript', 'method']
            for seed in range(20):
                limit = len(chains) + 100
                generators = []
                choice = random.Random(seed).choice
                instance = Class(0)
                while len(chains) < limit:
                    try:
                        step(12)
                    except Failure:
                        pass
                    chains.append((walk(), seen(sys._getframe())))
                switch('perf')
            """, least=2000)


class ObserverTests(RecordTestCase):
    """Code that runs in between, and what looks at frames."""

    def test_tracing_and_profiling_functions(self):
        for set_function in ('settrace', 'setprofile'):
            with self.subTest(function=set_function):
                pairs = self.assert_pairs(CALLERS + textwrap.dedent(f"""\
                    def hook(frame, event, arg):
                        sys.{set_function}(None)
                        chains.append((walk(), callers(sys._getframe())))
                        sys.{set_function}(hook)
                        return hook
                    def outer(n):
                        if n:
                            outer(n - 1)
                        else:
                            list(inner())
                    def inner():
                        try:
                            leaf()
                        except ValueError:
                            yield leaf
                    def leaf():
                        raise ValueError
                    for n in (1, 2, 40):
                        sys.{set_function}(hook)
                        outer(n)
                        sys.{set_function}(None)
                        chains.append((walk(), callers(sys._getframe())))
                    """), least=80)
                self.assertIn(['hook', 'leaf', 'inner', *['outer'] * 41,
                               '<module>'], [wanted for _, wanted in pairs])

    def test_threads(self):
        self.assert_chains("""\
            import threading
            def deep(n):
                if n:
                    deep(n - 1)
                else:
                    results.append(walk())
            def work():
                for _ in range(200):
                    deep(40)
                results.append(walk())
            results = []
            sys.setswitchinterval(1e-5)
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            chains = sorted(results, key=len, reverse=True)
            assert len(chains) == 804
            chains = chains[:800] * 1
            """, 'deep ' * 41 + 'work', stdlib=True, module=False)

    def test_a_thread_is_whole_from_its_start(self):
        names, chains = self.run_child("""\
            import threading
            def work(): inner()
            def inner(): chains.append(walk())
            for _ in rounds:
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
            """)
        for addresses in chains[:-1]:
            self.assertEqual(
                names.python(addresses),
                ['inner', 'work', 'threading.py:Thread.run',
                 'threading.py:Thread._bootstrap_inner',
                 'threading.py:Thread._bootstrap'])

    def test_a_signal_handler(self):
        self.assert_chains("""\
            import signal
            def handler(number, frame):
                inner()
                assert frame.f_code.co_name == 'interrupted'
            def inner(): chains.append(walk())
            def interrupted():
                signal.raise_signal(signal.SIGUSR1)
                chains.append(walk())
            def outer(n):
                if n:
                    outer(n - 1)
                else:
                    interrupted()
            signal.signal(signal.SIGUSR1, handler)
            for _ in rounds:
                outer(33)
            """, 'inner handler interrupted ' + 'outer ' * 34,
            'interrupted ' + 'outer ' * 34)

    def test_finalizers_and_the_collector(self):
        self.assert_chains("""\
            import gc, weakref
            gc.disable()
            class Class:
                def __del__(self): inner()
            def inner(): chains.append(walk())
            def callback(reference): inner()
            def drop():
                c = Class()
                c.cycle = c
                del c
                gc.collect()
                c = {1}
                reference = weakref.ref(c, callback)
                del c
            for _ in rounds:
                drop()
            """, 'inner Class.__del__ drop', 'inner callback drop')

    def test_frames_look_the_same(self):
        # What Python sees of its frames has nothing to do with records.
        source = """\
            import faulthandler, inspect, io, sys, traceback
            def generator(): yield from inner(3)
            def inner(n):
                if n:
                    yield from inner(n - 1)
                look()
                yield
            def look():
                frame = sys._getframe()
                while frame:
                    where = list(frame.f_code.co_positions())
                    print(frame.f_code.co_qualname, frame.f_lineno,
                          where[frame.f_lasti // 2],
                          sorted(frame.f_locals)[:3])
                    frame = frame.f_back
                print([(f.function, f.lineno) for f in inspect.stack(0)])
                traceback.print_stack(file=sys.stdout)
                sys.stdout.flush()
                faulthandler.dump_traceback(sys.stdout)
            def outer(n):
                if n:
                    return outer(n - 1)
                for _ in generator():
                    pass
                sorted([1], key=lambda x: look())
            def fails(n):
                if n:
                    fails(n - 1)
                1 / 0
            for _ in range(5):
                outer(40)
                try:
                    fails(40)
                except ZeroDivisionError as error:
                    traceback.print_exc(file=sys.stdout)
                    traceback.print_stack(error.__traceback__.tb_frame,
                                          file=sys.stdout)
            """
        off = self.run_python(source, mode=None)
        self.assertIn('File', off.out)
        # faulthandler names threads by an address.
        off.out = re.sub(r'0x[0-9a-f]+', 'ADDRESS', off.out)
        for mode in MODES:
            with self.subTest(mode=mode):
                on = self.run_python(source, mode=mode)
                on.out = re.sub(r'0x[0-9a-f]+', 'ADDRESS', on.out)
                self.assertEqual(on.out, off.out)
                self.assertEqual(on.err, off.err)

    def test_fork_in_nested_calls(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child("""\
                    def outer(n):
                        if n:
                            outer(n - 1)
                        else:
                            forks()
                        if os.getpid() != parent:
                            in_child(n)
                    def forks():
                        inner()
                        if os.fork() == 0:
                            chains.append(walk())
                        in_both()
                        inner()
                    def inner(): chains.append(walk())
                    def in_both(): chains.append(walk())
                    def in_child(n): chains.append(walk())
                    parent = os.getpid()
                    outer(40)
                    if os.getpid() == parent:
                        _, status = os.wait()
                        assert status == 0
                        with open(sys.argv[1]) as file:
                            chains.append(file.read())
                    else:
                        chains.append(walk())
                        with (open(sys.argv[1], 'w') as file,
                              open('/proc/self/maps') as maps):
                            json.dump([os.getpid(), time.monotonic_ns(),
                                       maps.read(), chains], file)
                        os._exit(0)
                    """, mode, args=[self.path('child')])
                *process, of_child = json.loads(chains[-2])
                in_child = self.names(*process)
                below = ['forks', *['outer'] * 41, '<module>']
                self.assertEqual(
                    [names.python(chain) for chain in chains[:-2]],
                    [[name, *below] for name in ('inner', 'in_both', 'inner')])
                self.assertEqual(
                    [in_child.python(chain) for chain in of_child],
                    [['inner', *below], below, ['in_both', *below],
                     ['inner', *below],
                     *[['in_child', *['outer'] * (41 - n), '<module>']
                       for n in range(41)],
                     ['<module>']])


# A program that does a little of everything, and who calls whom in it.
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
def comprehension(): return [leaf(i) for i in range(3)]
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
comprehension.<locals>.<listcomp>: comprehension
waiting: driving
awaited: waiting
leaf: Class.__init__ Class.__getitem__ Class.method Class.attribute deep \
generator looping catching key comprehension.<locals>.<listcomp> awaited \
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
    """Return the pairs of all that call one another, directly or not."""
    calls = set(calls)
    while True:
        more = {(a, d) for a, b in calls for c, d in calls if b == c}
        if more <= calls:
            return calls
        calls |= more


class SamplingTests(RecordTestCase):
    """Chains as signal handlers find them, at any instruction."""

    def assert_legal(self, names, samples, calls, least,
                     bottom=('<module>',), enough=()):
        """Look at samples that were taken in the interpreter's code or in
        trampolines: that they are whole and have nothing but these calls.

        Samples that were taken in libraries are left out: there the frame
        pointer may be used for something else.  So are the few in functions
        that a library calls back (dl_iterate_phdr() does).
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
            if end == 'outside' and chain[-1] == FOREIGN and not python:
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
        """Run a program with all of MIXED.  Return its Names and samples."""
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
        # What was called while it was off is missing in between.
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
                # A thread is sampled when it waits, too.
                self.assert_legal(names, samples, calls, least=2000,
                                  bottom=bottom,
                                  enough=[('leaf', 'deep'),
                                          ('failing', 'failing'),
                                          ('step', 'work')])

    @can_step
    def test_each_instruction_of_inlined_calls(self):
        # One change after the other, none in between.
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

    @can_step
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
