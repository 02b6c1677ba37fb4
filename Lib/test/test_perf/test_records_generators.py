"""Frame records of generators, coroutines and asyncio."""

import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.walker import CALLERS, RecordTestCase


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    import_helper.import_module('_testinternalcapi')


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
        # While it is off a generator runs in the first eval loop.  resume() runs in
        # the second one, which has been entered while it was on.
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
                   'resume', 'resume', 'resume',
                   'inner generator resume', 'generator resume', 'resume',
                   'inner generator resume', 'generator resume', 'resume'])

    @fixtures.needs_hand_over
    def test_switched_within(self):
        # itertools resumes the generator from C on each release.
        self.assert_chains("""\
            import itertools
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
                chains.append(walk())
                yield
                inner()
            def inner(): chains.append(walk())
            def create(n): return create(n - 1) if n else generator()
            def caller(n):
                for _ in itertools.islice(create(n), 9):
                    chains.append(walk())
            inner()
            chains = []
            for n in rounds:
                caller(n)
            """, 'generator caller', 'inner generator caller',
            'generator caller', 'caller',
            'caller', 'caller', 'inner generator caller', 'generator caller',
            'caller', 'inner generator caller')

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
            """, *[' '.join(f'{name} {listcomp} outer caller'.split())
                   for listcomp in ('', self.list_comprehension('outer'))
                   for name in ('Manager.__aenter__ generator', '', 'generator',
                                'Manager.__aexit__ generator')],
            'caller')

    @staticmethod
    def list_comprehension(function):
        """Return the name of one in `function`, '' if it is no function."""
        if 'listcomp' in fixtures.FUNCTION_COMPREHENSIONS:
            return f'{function}.<locals>.<listcomp>'
        return ''

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


if __name__ == '__main__':
    unittest.main()
