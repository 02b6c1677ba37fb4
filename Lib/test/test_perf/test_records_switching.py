"""Frame records when profiling is switched under running functions."""

import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.modes import MODES
from test.test_perf.walker import RecordTestCase


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    import_helper.import_module('_testinternalcapi')


class SwitchingTests(RecordTestCase):

    # Defines seen(): the functions that were called while profiling was on and
    # must be in the chain, leaf first.
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
        # Profiling goes off and on again within linked calls.
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
        # No _PyPerf_EnterEvalLoop() is around it, so there is no record area.
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
        # All at random, with the same seeds in each run.
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


if __name__ == '__main__':
    unittest.main()
