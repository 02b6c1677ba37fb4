"""Frame records when profiling is switched on or off under running functions."""

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


def fits(chain, frames):
    """Whether a chain has frames of this list, (name, whether it must be there), in
    their order, and all those that must be there."""
    ends = {0}                      # how many of the chain may be used up
    for name, must in frames:
        those = {end + 1 for end in ends if chain[end:end + 1] == [name]}
        ends = those if must else ends | those
    return len(chain) in ends


class FitsTests(unittest.TestCase):

    def test_it_is_strict(self):
        frames = [('a', True), ('b', False), ('c', True), ('b', False)]
        for chain in ('ac', 'abc', 'acb', 'abcb'):
            self.assertTrue(fits([*chain], frames), chain)
        for chain in ('', 'a', 'ab', 'c', 'ca', 'bac', 'aac', 'acc', 'abbc',
                      'abcbb', 'acd'):
            self.assertFalse(fits([*chain], frames), chain)


class SwitchingTests(RecordTestCase):

    # LOOK appends a pair to `chains`: a chain, and the names of the frames, leaf
    # first, each with a flag that says whether the chain must have it.  The chain
    # must have
    #
    # - every function that was called while profiling was on;
    # - if profiling is on, all frames up to the first one that C code called.  The
    #   eval loop that runs them has handed them over, or has given them names.
    #   From then on the chain must have them, also when profiling is off again.
    #
    # The chain may have other functions: those that have a name and are called while
    # profiling is off, in an eval loop that was entered while it was on.
    #
    # LOOK calls is_on() because an eval loop tests its breaker after each call.
    LOOK = 'chains.append((is_on(), walk(), seen(sys._getframe()))[1:])'
    SEEN = """\
import types
is_on = sys.is_stack_trampoline_active
called_by_c = {'generator', 'callback', 'Class.__init__', 'Class.__getitem__',
               'thread', '<module>'}
reached = set()     # frames that had to be in a chain
def seen(frame):
    frames = []
    is_reached = is_on() and HANDS_OVER
    while frame is not None:
        if is_reached:
            reached.add(frame)
            is_reached = frame.f_code.co_qualname not in called_by_c
        frames.append((frame.f_code.co_qualname,
                       frame in reached or frame.f_locals.get('on', True)))
        frame = frame.f_back
    return frames
def resumed():
    # Whether profiling is on, for a generator that begins or goes on.
    reached.discard(sys._getframe(1))
    return is_on()
def switch(mode):
    if mode is None:
        sys.deactivate_stack_trampoline()
    else:
        sys.activate_stack_trampoline(mode)
def copies(function, count):
    # Return so many copies of a function, with different names.
    return [types.FunctionType(function.__code__.replace(
                co_qualname=f'{function.__name__}{n}'), globals())
            for n in range(count)]
"""

    def assert_seen(self, source, least=500):
        source = (f'HANDS_OVER = {fixtures.hands_over()}\n' + self.SEEN
                  + textwrap.dedent(source).replace('LOOK', self.LOOK))
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child(source, mode)
                self.assertEqual(names.python(chains.pop()), ['<module>'])
                self.assertGreaterEqual(len(chains), least)
                for index, (addresses, frames) in enumerate(chains):
                    chain = names.python(addresses)
                    if not fits(chain, frames):
                        self.fail(f'chain {index} is {chain}, and not {frames}')
                    self.assert_reaches_bottom(names, addresses)

    def test_off_and_on_at_every_depth(self):
        self.assert_seen("""\
            def level(n):
                on = is_on()
                if n == off_at:
                    switch(None)
                if n == on_at:
                    switch(mode)
                if n < 45:
                    levels[n + 1](n + 1)
                LOOK
            levels = copies(level, 46)
            for off_at in range(0, 45, 3):
                for on_at in range(off_at, 45, 4):
                    levels[0](0)
                    switch(mode)
            """)

    def test_off_and_on_on_the_way_back(self):
        self.assert_seen("""\
            def level(n):
                on = is_on()
                if n < 45:
                    levels[n + 1](n + 1)
                if n == off_at:
                    switch(None)
                if n == on_at:
                    switch(mode)
                LOOK
                again(n)
            def again(n):
                on = is_on()
                LOOK
            levels = copies(level, 46)
            for off_at in range(44, 0, -7):
                for on_at in range(off_at, 0, -5):
                    levels[0](0)
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
                        levels[n + 1](n + 1)
                    except ValueError:
                        LOOK
                else:
                    levels[n + 1](n + 1)
                LOOK
            levels = copies(level, 46)
            for catch_at in range(0, 45, 6):
                for off_at in range(0, 45, 7):
                    for on_at in range(off_at, 45, 8):
                        levels[0](0)
                        LOOK
                        switch(mode)
            """)

    def test_off_and_on_around_a_generators_creation(self):
        self.assert_seen("""\
            def generator(n, switched):
                while True:
                    on = resumed()
                    LOOK
                    if switched == 'within':
                        switch(None if n % 2 else mode)
                    LOOK
                    yield
            def level(n, switched):
                on = is_on()
                if switched == 'before':
                    switch(None if n % 2 else mode)
                g = generator(n, switched)
                if switched == 'after':
                    switch(None if n % 2 else mode)
                LOOK
                next(g)
                LOOK
                if n:
                    levels[n - 1](n - 1, switched)
                next(g)
                LOOK
            levels = copies(level, 70)
            for switched in ('before', 'within', 'after'):
                for n in range(0, 70, 9):
                    levels[n](n, switched)
                    switch(mode)
            """)

    def test_from_one_file_to_the_other_and_back(self):
        self.assert_seen("""\
            modes = ['perf', 'perf_jit', None, 'perf_jit', 'perf']
            def level(n):
                on = is_on()
                if n % 5 == 0:
                    switch(modes[n // 5 % len(modes)])
                LOOK
                if n < 45:
                    levels[n + 1](n + 1)
                if n % 3 == 0:
                    switch(modes[n // 3 % len(modes)])
                other(n)
                LOOK
            def other(n):
                on = is_on()
                LOOK
            levels = copies(level, 46)
            for _ in rounds:
                levels[0](0)
                switch('perf')
                LOOK
            """)

    def test_another_thread_switches(self):
        # Profiling goes off and on again while this thread is in linked calls.
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
                LOOK
                if n:
                    levels[n - 1](n - 1)
                LOOK
            levels = copies(level, 91)
            for n in range(0, 90, 3):
                levels[n](n)
                switch(mode)
            """)

    @fixtures.needs_hand_over
    def test_an_eval_loop_entered_while_off(self):
        # This is the first eval loop, which has no room for records.  It hands
        # its frames over to the second one.
        self.assert_chains("""\
            def inner(n):
                chains.append(walk())
                if n:
                    inner(n - 1)
            def callback(x, y=1, z=2):
                a = b = c = x
                chains.append(walk())
                sys.activate_stack_trampoline(mode)
                inner(1)
                chains.append(walk())
                inner(0)
                return x, y, z, a, b, c
            def caller():
                sys.deactivate_stack_trampoline()
                assert max([5], key=callback) == 5
                sys.deactivate_stack_trampoline()
                assert list(map(callback, [3])) == [(3, 1, 2, 3, 3, 3)]
                inner(0)
            for _ in rounds:
                caller()
            """, *['caller', 'inner callback caller',
                   'inner inner callback caller', 'callback caller',
                   'inner callback caller'] * 2, 'inner caller')

    def test_another_evaluator_is_installed_within(self):
        # The other evaluator replaces ours.  Functions that the second eval loop
        # runs have records.  Functions that the other evaluator runs have none.
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
            *['switching outer'] * 3,
            'inner switching outer', 'inner inner switching outer',
            'inner switching outer', 'inner inner switching outer', 'outer')

    @fixtures.needs_hand_over
    def test_a_function_first_called_while_off(self):
        # The second eval loop runs it, but it has no slot.  It has a name as soon as
        # profiling is on.
        self.assert_chains("""\
            source = '''if True:
                def inner():
                    chains.append(walk())
                    sys.activate_stack_trampoline(mode)
                    chains.append(walk())
                def middle():
                    inner()
                def key(x):
                    sys.activate_stack_trampoline(mode)
                    return x
                def sorting():
                    sorted([1, 2, 3], key=key)
                    chains.append(walk())
                '''
            def outer():
                for name in 'middle', 'sorting':
                    sys.deactivate_stack_trampoline()
                    exec(compile(source, __file__, 'exec'), globals())
                    # A jitdump may name an address again if the function is gone.
                    kept.extend([inner, middle, key, sorting])
                    globals()[name]()
                    chains.append(walk())
            kept = []
            for _ in rounds:
                outer()
            """, 'outer', 'inner middle outer', 'outer', 'sorting outer', 'outer')

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
                on = resumed()
                step(n - 1)
                yield 1
                on = resumed()
                LOOK
                step(n - 1)
                yield 2
            def run(n):
                on = is_on()
                for _ in generator(n): is_on()
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
                    LOOK
            def deep(n, levels):
                on = is_on()
                if levels:
                    deep(n, levels - 1)
                else:
                    step(n - 1)
                LOOK
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
                        is_on()     # without the GIL, C code calls __getitem__
                    elif action == 'method':
                        instance.method(n)
                    else:
                        action(n)
                    step(n - 1)
                LOOK
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
                    LOOK
                switch('perf')
            """, least=2000)


if __name__ == '__main__':
    unittest.main()
