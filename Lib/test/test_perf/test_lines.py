"""-X perf=lines: each Python function shows the line that it executes."""

import json
import re
import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures, jitdump, parsers, walker
from test.test_perf.modes import MODES
from test.test_perf.test_records_sampling import MIXED


def setUpModule():
    fixtures.require_trampoline()


# More single steps than a program needs.  At -O0 it takes several times as many.
MOST_STEPS = 200_000

# Defines runs(): the lines of a code object and the bytes of instructions that each has,
# one after the other.
RUNS = """\
def runs(code):
    result = [] if code.co_linetable else [[None, len(code.co_code)]]
    for start, end, line in code.co_lines():
        if result and result[-1][0] == line:
            result[-1][1] += end - start
        else:
            result.append([line, end - start])
    return result

"""


class EntriesTests(fixtures.PerfTestCase):
    """What the files say about the addresses of instructions."""

    # Bytes that belong to the first instruction although they are before it, and after
    # the last one: the number of the record, in a jitdump.
    BEFORE = 2
    AFTER = {'perf': 0, 'perf_jit': 8}

    def line_entries(self, run, mode, name):
        """Return (line, size, start) for each run of instructions of a function."""
        if mode == 'perf':
            pattern = re.compile(re.escape(name) + r'(?::(\d+))?')
            matches = [(entry, pattern.fullmatch(entry.name)) for entry in run.entries]
            # The first one is the trampoline.
            return [(match[1] and int(match[1]), entry.size, entry.start)
                    for entry, match in matches if match][1:]
        dump = jitdump.read(f'/tmp/jit-{run.pid}.dump')
        trampoline, *pieces = [function for function in dump.functions()
                               if function.load.name == name]
        return [(line or None, end - start, start)
                for piece in pieces for _, line, start, end in piece.lines()]

    def assert_entries(self, source, *, count=None):
        """Each function that the program prints with its runs has these entries."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.run_python(RUNS + textwrap.dedent(source), f'{mode}=lines')
                self.assertEqual(run.err, '')
                printed = json.loads(run.out)
                self.assertGreater(len(printed), 0)
                for qualname, runs in printed:
                    runs[0][1] += self.BEFORE
                    runs[-1][1] += self.AFTER[mode]
                    entries = self.line_entries(run, mode, self.script_name(qualname))
                    self.assertEqual([[line, size] for line, size, start in entries],
                                     runs, qualname)
                    for (_, size, start), (_, _, next) in zip(entries, entries[1:]):
                        self.assertEqual(start + size, next)

    def test_functions_of_all_kinds(self):
        self.assert_entries("""\
            import json
            def decorator(function):
                return function
            @decorator
            @decorator
            def decorated(a,
                          b=1):
                return max(
                    a,
                    b
                )
            def matching(x):
                match x:
                    case 1 | 2:
                        return 1
                    case [a, *rest]:
                        return (a,
                                rest)
                    case _:
                        return None
            def generator():
                for i in range(3):
                    yield (
                        i)
                else:
                    yield from ()
            async def coroutine():
                async with x as y:
                    pass
            def excepting():
                try:
                    1 / 0
                except ZeroDivisionError:
                    return 2
                finally:
                    1
            def empty(): pass
            functions = [decorated, matching, generator, excepting, empty]
            decorated(1)
            matching(1)
            list(generator())
            excepting()
            empty()
            try:
                coroutine().send(None)
            except NameError:
                pass
            else:
                raise AssertionError
            functions.append(coroutine)
            print(json.dumps([(f.__qualname__, runs(f.__code__)) for f in functions]))
            """)

    def test_unusual_line_numbers(self):
        self.assert_entries("""\
            import json
            def make(name, **changes):
                def f():
                    x = 1
                    return x
                f.__code__ = f.__code__.replace(co_qualname=name, co_name=name, **changes)
                f()
                return name, runs(f.__code__)
            print(json.dumps([
                make('none', co_linetable=b''),
                make('first', co_firstlineno=1),
                make('large', co_firstlineno=2**31 - 10),
                make('plain'),
            ]))
            """)

    def test_a_line_table_that_is_damaged(self):
        # The files must be well-formed, and the program must run.  Each function has
        # exactly the addresses of its instructions.  Three kinds of tables: any bytes;
        # entries of any kind, mostly for more instructions than there are; one that is
        # right but for one byte.
        source = """\
            import random
            def f():
                x = 1
                return x
            random.seed(1)
            right = f.__code__.co_linetable
            alive = []
            for n in range(2000):
                alive.append(f.__code__)
                table = bytearray(random.randbytes(random.randrange(24)))
                if n % 3 == 1:
                    table = bytes(byte | 0x80 if i % 2 == 0 else byte & 0x7f
                                  for i, byte in enumerate(table))
                elif n % 3 == 2:
                    table = bytearray(right)
                    table[random.randrange(len(table))] = random.randrange(256)
                f.__code__ = f.__code__.replace(co_linetable=bytes(table))
                f()
            print(len(f.__code__.co_code))
            """
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.run_python(source, f'{mode}=lines')
                self.assertEqual(run.err, '')
                size = int(run.out) + self.BEFORE + self.AFTER[mode]
                pieces = self.pieces(run, mode, self.script_name('f'), size)
                self.assertEqual(len(pieces), 2000)
                for piece in pieces:
                    position = piece[0][0]
                    for start, end in piece:
                        self.assertEqual(start, position)
                        self.assertGreater(end, start)
                        position = end
                    self.assertEqual(position - piece[0][0], size)
                if mode == 'perf':
                    self.assert_good_map(run.entries)

    def pieces(self, run, mode, name, size):
        """Return, for each function of this name and size, the ranges of its lines."""
        if mode == 'perf_jit':
            dump = jitdump.read(f'/tmp/jit-{run.pid}.dump')
            functions = [function for function in dump.functions()
                         if function.load.name == name]
            return [[(start, end) for _, _, start, end in function.lines()]
                    for function in functions[1::2]]    # the others are trampolines
        entries = [entry for entry in run.entries
                   if re.fullmatch(re.escape(name) + r'(:-?\d+)?', entry.name)]
        pieces = []
        while entries:
            entries.pop(0)      # the trampoline
            pieces.append([])
            while entries and sum(end - start for start, end in pieces[-1]) < size:
                entry = entries.pop(0)
                pieces[-1].append((entry.start, entry.start + entry.size))
        return pieces

    def test_a_function_of_200000_instructions(self):
        self.assert_entries("""\
            import json
            source = 'def f(x):\\n' + '    x = x + 1\\n' * 50_000 + '    return x\\n'
            exec(compile(source, __file__, 'exec'))
            assert f(0) == 50_000
            assert len(f.__code__.co_code) > 400_000
            print(json.dumps([(f.__qualname__, runs(f.__code__))]))
            """)

    def test_addresses_of_dead_functions_are_not_told_again(self):
        run = self.run_python("""\
            for n in range(5000):
                exec(f'def made_{n}():\\n' + '    x = 1\\n' * (n % 7 + 1))
                globals().pop(f'made_{n}')()
            """, 'perf=lines')
        self.assert_good_map(run.entries)
        made = {match[1] for match in
                (re.search(r'py::(made_\d+):<string>:\d+$', name) for name in run.names)
                if match}
        self.assertEqual(len(made), 5000)

    def test_memory_in_a_jitdump_is_bounded(self):
        run = self.run_python("""\
            import resource
            def make(count):
                for n in range(count):
                    exec(f'def made(): return {n}', made := {})
                    made['made']()
                return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(make(3000), make(20_000))
            """, 'perf_jit=lines')
        first, second = map(int, run.out.split())
        self.assertLess(second - first, 2000, 'KiB')

    def test_a_child_that_was_forked(self):
        # Functions of the child have addresses that the parent does not have.
        run = self.run_python("""\
            import os
            def both(): return 1
            both()
            source = 'def one(): return 1\\ndef two(): return 2\\n'
            if pid := os.fork():
                os.waitpid(pid, 0)
                print(pid)
            exec(compile(source, __file__, 'exec'))
            both(), one(), two()
            if not pid:
                os._exit(0)
            """, 'perf=lines')
        child = self.track(run.out)
        entries = {}
        for pid in (run.pid, child):
            found = parsers.read_map(pid)
            self.assert_good_map(found)
            entries[pid] = {
                entry.name.split(':')[2]: (entry.start, entry.start + entry.size)
                for entry in found
                if re.fullmatch(re.escape(self.path('script.py')) + r':\d+',
                                entry.name.split(':', 3)[-1])}
        self.assertLessEqual({'both', 'one', 'two'}, set(entries[run.pid]))
        self.assertLessEqual({'both', 'one', 'two'}, set(entries[child]))
        self.assertEqual(entries[child]['both'], entries[run.pid]['both'])
        for name in ('one', 'two'):
            start, end = entries[child][name]
            for other in parsers.read_map(run.pid):
                self.assertFalse(other.start < end and start < other.start + other.size,
                                 (name, other))

    def test_address_space_that_is_refused(self):
        for mode in MODES:
            run = self.run_python("""\
                def f(): return 'end'
                print(f())
                """, f'{mode}=lines', prepare='ulimit -v 4000000')
            self.assertEqual(run.out, 'end\n')
            self.assert_one_warning(run, 'reserve address space for lines')


class LineNames(walker.Names):
    """Names with lines: QUALNAME:LINE."""

    @staticmethod
    def read_jitdump(pid, time):
        # A function may have addresses that earlier ones had, not all of them.
        alive = []
        for function in jitdump.read(f'/tmp/jit-{pid}.dump').functions():
            if function.load.timestamp <= time:
                alive = [other for other in alive if other.end <= function.start
                         or function.end <= other.start]
                alive.append(function)
        for function in alive:
            for _, line, start, end in function.lines():
                yield start, end, f'{function.load.name}:{line}'

    def qualname(self, name):
        match = re.fullmatch(r'py::(.*?):(.*?)(?::(\d+))?', name, re.DOTALL)
        if match is None:
            return name
        qualname, filename, line = match.groups()
        line = line if line != '0' else None
        if filename != self.script:
            qualname = f'{filename.rpartition("/")[2]}:{qualname}'
        return f'{qualname}:{line}'

    def chain(self, addresses):
        # Profilers look up either the return address or the byte before it.
        names = super().chain(addresses)
        for name, address in zip(names, addresses):
            if walker.is_python(name):
                assert self.name(address) == name, (name, self.name(address))
        return names


# Defines places(): what sys._getframe() knows of a frame and of its callers.
PLACES = """\
def places(frame):
    result = []
    while frame is not None:
        result.append(f'{frame.f_code.co_qualname}:{frame.f_lineno}')
        frame = frame.f_back
    return result
def here(): return sys._getframe(1)
"""


# Defines following(): for each offset the instructions that may come next.
FOLLOWING = """\
import dis
def following(code):
    result = {-2: [0]}
    instructions = list(dis.get_instructions(code))
    for this, next in zip(instructions, [*instructions[1:], None]):
        end = next.offset if next else len(code.co_code)
        for offset in range(this.offset, end, 2):
            result[offset] = [end] if next else []
            if this.opcode in dis.hasjrel:
                result[offset].append(this.argval)
    # At the end of its loop, FOR_ITER jumps to END_FOR.  But Python 3.13 executes neither
    # END_FOR nor the POP_TOP after it: it continues after POP_TOP.
    after = {this.offset: next.offset for this, next in zip(instructions, instructions[1:])
              if (this.opname, next.opname) == ('END_FOR', 'POP_TOP')}
    for this in instructions:
        if this.opname == 'FOR_ITER' and this.argval in after:
            result[this.offset] += result[after[this.argval]]
    # Some comparisons are executed as one with the jump after them, and some calls with
    # what is after them.
    for this, *more in reversed(list(zip(instructions, instructions[1:], instructions[2:]))):
        if this.opname in ('COMPARE_OP', 'PRECALL'):
            for each in more:
                result[this.offset] += result[each.offset]
        elif this.opname == 'CALL' and more[0].opname == 'POP_TOP':
            result[this.offset] += result[more[0].offset]
    for entry in dis._parse_exception_table(code):
        for offset in range(entry.start, entry.end, 2):
            result[offset].append(entry.target)
    return result

"""


class RecordTests(walker.RecordTestCase):
    """Records, compared with what the interpreter knows of its frames."""

    def setUp(self):
        super().setUp()
        fixtures.require_frame_pointers()
        import_helper.import_module('_testinternalcapi')

    def names(self, pid, time, maps):
        return LineNames(self.path('script.py'), self.track(pid), time, maps)

    def assert_places(self, source, *, least=50, modes=[f'{mode}=lines' for mode in MODES],
                      **options):
        """In the program, each of `chains` is a pair: a chain and the places expected.
        """
        for mode in modes:
            with self.subTest(mode=mode):
                names, chains = self.run_child(PLACES + textwrap.dedent(source), mode,
                                               **options)
                chains.pop()
                self.assertGreaterEqual(len(chains), least)
                for index, (addresses, wanted) in enumerate(chains):
                    self.assertEqual(names.python(addresses), wanted, index)
                    self.assert_reaches_bottom(names, addresses)

    CALLS = """\
        def note(): chains.append((walk(), places(sys._getframe())))
        class Class:
            def __init__(self): note()
            def __getitem__(self, i):
                note()
                return 1
            @property
            def attribute(self): return note()
            def __add__(self, other):
                return note()
            def __del__(self): note()
        def decorator(f):
            note()
            return f
        def generator():
            x = 1
            note()
            while x < 3:
                yield x
                note()
                x += 1
            note()
        def delegating():
            yield from generator()
            note()
        async def inner():
            note()
        async def outer():
            1
            await inner()
            note()
        def failing(n):
            if n:
                failing(
                    n - 1
                )
            raise ValueError
        def everything(n):
            c = Class()
            c[1]; c[1]
            c.attribute
            c + 1
            note()
            @decorator
            @decorator
            def local(): pass
            for x in generator():
                note()
            list(
                delegating()
            )
            [note() for x in range(2)]
            sorted([2, 1], key=lambda x: note() or x)
            max(
                n,
                note() or 1,
                n
            )
            try:
                failing(3)
            except ValueError:
                note()
            finally:
                note()
            try:
                outer().send(None)
            except StopIteration:
                note()
            match n:
                case 1:
                    note()
                case [*_]:
                    pass
                case _ if note():
                    pass
                case _:
                    note()
            g = generator()
            next(g)
            try:
                g.throw(KeyError)
            except KeyError:
                note()
            with_finally = (note(),
                            note())
            del c
            exec(first)
            exec(second)
        # Both live on, because names are looked up at the end.
        first = compile('note()\\n\\nnote()', __file__, 'exec')
        second = compile('\\n' * 70_000 + 'note()', __file__, 'exec')
        for n in range(12): everything(n)
        """

    def test_calls_of_all_kinds(self):
        self.assert_places(self.CALLS, least=12 * 38)

    def test_traced_functions(self):
        self.assert_places("""\
            def tracer(frame, event, arg):
                return tracer
            def note(): chains.append((walk(), places(sys._getframe())))
            def f():
                note()
                x = 1
                for _ in range(20):
                    note()
                return note()
            def g():
                sys.settrace(tracer)
                f()
                note()
                sys.settrace(None)
                f()
            for _ in range(4): g()
            """)

    def test_a_tracer_sees_the_line(self):
        self.assert_places("""\
            def tracer(frame, event, arg):
                if frame.f_code is f.__code__:
                    chains.append((walk(), places(sys._getframe())))
                return tracer
            def f():
                x = 1
                for _ in range(20):
                    x = 2
                return x
            sys.settrace(tracer)
            f()
            sys.settrace(None)
            """, least=40)

    def test_switched_on_in_running_functions(self):
        fixtures.require_hand_over()
        self.assert_places("""\
            def note(): chains.append((walk(), places(sys._getframe())))
            def inner(n):
                for i in range(n):
                    note()
                sys.activate_stack_trampoline('perf', lines=True)
                chains.clear()
                for i in range(n):
                    note()
                return 1
            def outer(n):
                x = 0
                x += inner(
                    n
                )
                note()
                return x
            for _ in range(2):
                outer(30)
                note()
            """, least=31, modes=[None, 'perf'])

    def test_switched_again_and_again_in_one_function(self):
        """Each time takes C stack until the function ends.  Enough is left."""
        run = self.run_python("""\
            import sys
            def deep(n):
                return n and deep(n - 1)
            def switch(n):
                for i in range(n):
                    sys.activate_stack_trampoline('perf', lines=i % 2 == 0)
                deep(900)
                return sys.is_stack_trampoline_active()
            print(switch(10_000))
            """, None)
        self.assertEqual(run.out, 'True\n')
        self.assertEqual(run.err, '')

    def test_switched_off_and_to_names_alone(self):
        # Loops that began with lines go on with them or are converted; names and calls
        # are right in any case.
        self.assert_names_while_switching("""\
            import itertools
            kinds = itertools.cycle([
                lambda: sys.activate_stack_trampoline('perf'),
                lambda: sys.activate_stack_trampoline('perf', lines=True),
                lambda: sys.activate_stack_trampoline('perf_jit', lines=True),
                lambda: sys.activate_stack_trampoline('perf_jit'),
                lambda: sys.activate_stack_trampoline('perf', lines=True),
            ])
            """)

    def assert_names_while_switching(self, kinds):
        names, chains = self.run_child(walker.CALLERS + textwrap.dedent(kinds) + textwrap.dedent(
            """\
            def note(): chains.append((walk(), callers(sys._getframe())))
            def generator(n):
                for i in range(n):
                    next(kinds)()
                    note()
                    yield i
            def inner(n):
                for i in generator(n):
                    note()
                    leaf()
            def leaf():
                note()
            def outer(n):
                if n % 3:
                    outer(n - 1)
                inner(n)
                note()
            for n in range(12):
                outer(n)
            """), 'perf=lines')
        chains.pop()
        self.assertGreater(len(chains), 100)
        for index, (addresses, wanted) in enumerate(chains):
            python = [name.partition(':')[0] for name in
                      map(self.without_line, names.python(addresses))]
            self.assertEqual(python, wanted, index)

    def without_line(self, name):
        return re.sub(r'^py::', '', name)

    def sampled(self, source, interval, capacity, mode):
        names, chains = self.run_child(
            MIXED + FOLLOWING + textwrap.dedent(source).replace(
                '@START@', f'perf_sample_start({interval}, {capacity}, True)\n'
                           'perf_sample_thread()').replace(
                '@STOP@', textwrap.dedent("""\
                for pc, addresses, end, frames in perf_sample_stop():
                    chains.append((pc, addresses, end, [
                        (known.setdefault(code, len(known)), offset)
                        for code, offset in frames]))
                chains.append([
                    (code.co_qualname, list(code.co_lines()),
                     list(following(code).items()))
                    for code in known])
                """)), mode)
        chains.pop()
        codes = [Code(*each) for each in chains.pop()]
        return names, codes, chains

    def agree(self, recorded, frames):
        """Whether the records say what the frames say.

        The innermost function may be at the next instruction.  One function may be
        linked and not yet known to the interpreter, or the other way round.
        """
        known = [code.place(offset) for code, offset in frames]
        if len(recorded) > len(known):
            return recorded[1:] == known
        if len(recorded) < len(known):
            return recorded == known[1:]
        code, offset = frames[0]
        return recorded[1:] == known[1:] and recorded[0] in code.places_after(offset)

    def assert_agree(self, names, codes, samples, least, most_faults=0):
        good = 0
        faults = []
        for pc, addresses, end, frames in samples:
            if names.name(pc) != walker.FOREIGN:
                recorded = names.python(addresses)
                frames = [(codes[index], offset) for index, offset in frames]
                if frames and self.agree(recorded, frames):
                    good += 1
                else:
                    faults.append((hex(pc), recorded, [
                        (code.place(offset), offset) for code, offset in frames]))
        self.assertLessEqual(len(faults), most_faults, faults[:3])
        self.assertGreaterEqual(good, least)

    def test_sampled(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, codes, samples = self.sampled("""\
                    known = {}
                    @START@
                    n = 0
                    while perf_sample_count() < 5000:
                        step(n)
                        n += 1
                    @STOP@
                    """, 97, 5000, f'{mode}=lines')
                # What the interpreter knows is not right at each moment: see
                # store_frames() in _testinternalcapi_perf.c.
                self.assert_agree(names, codes, samples, 3000, most_faults=50)

    @fixtures.needs_single_steps
    def test_each_instruction(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, codes, samples = self.sampled("""\
                    known = {}
                    for n in range(100):
                        step(n)
                    @START@
                    step(50)
                    step(49)
                    @STOP@
                    """, 0, MOST_STEPS, f'{mode}=lines')
                self.assertLess(len(samples), MOST_STEPS)
                self.assert_agree(names, codes, samples, 3000)


class Code:
    """What a test knows of a code object of the program."""

    def __init__(self, qualname, lines, following):
        self.qualname = qualname
        self.lines = {offset: line for start, end, line in lines
                      for offset in range(start, end, 2)}
        self.following = dict(following)

    def place(self, offset):
        return f'{self.qualname}:{self.lines[max(offset, 0)]}'

    def places_after(self, offset):
        """The places of an instruction and of those that may come next."""
        return {self.place(each) for each in (offset, *self.following[offset])}


if __name__ == '__main__':
    unittest.main()
