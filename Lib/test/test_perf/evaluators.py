"""Programs with frame evaluators of others (PEP 523).  This file has no tests.

    python evaluators.py PROGRAM [BACKEND]

runs one of PROGRAMS.  It needs the extension module perf_evaluators, whose source is
in src.  With a BACKEND, "perf", "perf_jit", "perf=calls" or "perf=lines", the program
switches profiling on and off at run time.  Without one, or on an interpreter that
cannot profile, it runs unprofiled.  It prints a line of JSON:

    counts      how often each evaluator was called, by names of functions
    facts       results of the program, by name; equal with every interpreter
    active      results of sys.is_stack_trampoline_active(), by name; None if
                unprofiled
    chains      triples: what a profiler should see, the stack that the frame walker
                found, and the names that sys._getframe() has for it, leaf first
    outermost   the function that called all others after profiling was switched on
    children    the same for forked children
    pid, time, maps     to find names for the addresses
"""

import json
import os
import sys
import threading
import time

import perf_evaluators as evaluators

try:
    from _testinternalcapi import perf_walk_stack as walk
except ImportError:
    walk = list                     # a call of a C function all the same

backend = sys.argv[2] if len(sys.argv) > 2 else None
facts = {}
active = {}
chains = []
children = []                       # what forked children report
not_counted = set()                 # names that are left out of the counts

# What a profiler should see of the functions that the program has called:
#   shown       all of them
#   hidden      none of them
#   reported    all, if profiling says that it is active; none otherwise
#   some        some, in their order
#   replaced    all, but given() for other()
#   switching   none but switching(), which was called before
state = 'hidden'


def is_active():
    return bool(backend) and sys.is_stack_trampoline_active()


def expect(what):
    global state
    state = what


def on():
    if backend:
        name, _, more = backend.partition('=')
        # A comprehension would be one more call.
        sys.activate_stack_trampoline(name, **({more: True} if more else {}))
    expect('shown')


def off():
    if backend:
        sys.deactivate_stack_trampoline()
    expect('hidden')


def install(number, kind):
    """Install an evaluator. If it does not chain, ours is not called again."""
    evaluators.install(number, kind)
    if kind == 'default' and state == 'shown':
        expect('hidden')


def remove(number, then='shown'):
    evaluators.remove(number)
    expect(then)


def note(name):
    active[name] = is_active()


# ---------------------------------------------------------------------------
# What the evaluators see

def look():
    """Note the stack, and what it should be."""
    names = []
    frame = sys._getframe()
    while frame is not None:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    if len(chains) < 1000:
        what = state
        if what == 'reported':
            what = 'shown' if is_active() else 'hidden'
        chains.append((what, walk(), names))


def leaf(n):
    look()
    return n


def middle(n):
    return leaf(n) + leaf(n)


def generator(n):
    for i in range(n):
        yield leaf(i)


def delegating(n):
    yield from generator(n)
    yield leaf(n)


def consuming(n):
    return sum(delegating(n))


def stubborn():
    while True:
        try:
            yield leaf(0)
        except KeyError:
            leaf(1)
        finally:
            leaf(2)


def throwing():
    """Exceptions go into a generator, and one comes out again."""
    running = stubborn()
    next(running)
    running.throw(KeyError)
    try:
        running.throw(ValueError)
    except ValueError:
        leaf(3)
    closed = stubborn()
    next(closed)
    closed.close()


def raising(n):
    if n == 0:
        raise LookupError
    raising(n - 1)


def catching(n):
    try:
        raising(n)
    except LookupError:
        return leaf(n)


class Class:
    def __init__(self):
        self.value = leaf(1)

    def __getitem__(self, index):
        return leaf(index)

    def __add__(self, other):
        return leaf(2)

    def __eq__(self, other):
        return leaf(3)

    @property
    def attribute(self):
        return leaf(4)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        leaf(5)


def methods():
    c = Class()
    with c:
        return c[0], c + c, c == c, c.attribute


def key(n):
    return -leaf(n)


def callbacks():
    return sorted(range(3), key=key), list(map(leaf, range(3)))


def many(a, b=2, *args, c=3, **rest):
    return leaf(a)


def arguments():
    many(1)
    many(1, 2, 3, c=4, d=5)
    many(*(1, 2), **{'c': 3})
    return (lambda x: leaf(x))(1), [leaf(i) for i in range(2)]


class Awaitable:
    def __await__(self):
        yield leaf(1)


async def inner():
    await Awaitable()
    return leaf(2)


async def outer():
    return await inner()


def awaiting():
    coroutine = outer()
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


def work():
    for _ in range(12):             # enough for instructions to be specialized
        middle(1)
        consuming(3)
        throwing()
        catching(4)
        methods()
        callbacks()
        arguments()
        awaiting()


# ---------------------------------------------------------------------------
# One evaluator

def after(kind):
    on()
    install(0, kind)
    work()
    note('with')
    facts['current'] = evaluators.is_current(0)
    remove(0, 'shown' if kind == 'chain' else 'reported')
    note('without')
    work()


def before(kind):
    install(0, kind)
    on()
    work()
    note('with')
    off()
    note('off')
    work()
    on()
    work()
    note('again')
    off()
    facts['current'] = evaluators.is_current(0)


def after_then_off(kind):
    """Profiling is switched off while its evaluator is below another's."""
    on()
    install(0, kind)
    work()
    off()
    note('off')
    work()
    facts['current'] = evaluators.is_current(0)
    # The second eval loop runs this function, so functions with a name stay visible.
    remove(0, 'some' if kind == 'chain' else 'hidden')
    note('removed')
    work()


def after_off_on():
    """It is switched off and on again above and below another's evaluator."""
    on()
    install(0, 'chain')
    for _ in range(5):
        work()
        off()
        work()
        on()
    note('on')
    facts['calls'] = sum(evaluators.counts(0).values())


def never():
    """Nothing profiles."""
    install(0, 'chain')
    work()


# ---------------------------------------------------------------------------
# Two at once

def two_after(*kinds):
    on()
    for number, kind in enumerate(kinds):
        install(number, kind)
    if 'default' in kinds:
        expect('hidden')
    work()
    note('two')
    remove(1, 'shown' if kinds[0] == 'chain' else 'hidden')
    work()
    note('one')


def two_around(*kinds):
    """One is installed before profiling is switched on, and one after that."""
    install(0, kinds[0])
    on()
    install(1, kinds[1])
    work()
    note('two')
    remove(1)
    work()
    note('one')
    off()
    note('off')
    work()
    facts['current'] = evaluators.is_current(0)


def lower_goes_first():
    """A program removes its evaluator.  It does not know that a second one was
    installed after it."""
    on()
    install(0, 'chain')
    install(1, 'chain')
    work()
    remove(0)
    work()
    note('removed')
    facts['lost'] = not evaluators.is_current(1)


# ---------------------------------------------------------------------------
# Changes while frames run

def removing(n, then):
    if n == 0:
        remove(0, then)
        return middle(1)
    result = removing(n - 1, then)
    return result + middle(n)


def removed_within():
    on()
    for _ in range(12):
        install(0, 'chain')
        removing(5, 'shown')
    work()


def removed_within_before():
    for _ in range(12):
        install(0, 'chain')
        on()
        removing(5, 'some')         # those that were called before
        off()
        evaluators.reset()


def installing(n, kind):
    if n == 0:
        install(0, kind)
        if kind == 'default':
            expect('some')          # those that were called before
        return middle(1)
    result = installing(n - 1, kind)
    return result + middle(n)


def installed_within(kind):
    on()
    for _ in range(12):
        installing(5, kind)
        remove(0, 'shown' if kind == 'chain' else 'reported')
        expect('some' if kind == 'default' else 'shown')
    on()
    work()


def generator_across():
    """A generator is resumed with and without an evaluator."""
    on()
    running = delegating(40)
    seen = 0
    for round in range(20):
        install(0, 'chain')
        seen += next(running)
        remove(0)
        seen += next(running)
    install(0, 'chain')
    facts['seen'] = seen + sum(running)


def switching_frames():
    """Profiling is switched off and on within frames that an evaluator runs."""
    install(0, 'chain')

    def down(n):
        if n % 3 == 0:
            on()
        elif n % 3 == 1:
            off()
        expect('some')
        return leaf(n) if n == 0 else down(n - 1) + leaf(n)

    for _ in range(12):
        facts['sum'] = down(20)
    on()
    work()
    note('on')


# ---------------------------------------------------------------------------
# Threads, forks, depth

def with_threads(order):
    ready = threading.Event()

    def loop():
        ready.wait()
        for _ in range(5):
            work()

    # Evaluators see the first calls of __getitem__(), until the instruction is
    # specialized.  How many these are depends on which thread runs when.
    not_counted.add('__getitem__')
    if order == 'before':
        install(0, 'chain')
    on()
    threads = [threading.Thread(target=loop) for _ in range(4)]
    for thread in threads:
        thread.start()
    if order == 'after':
        install(0, 'chain')
    ready.set()
    for thread in threads:
        thread.join()
    facts['threads'] = evaluators.counts(0)['work']


def with_fork(order):
    if order == 'before':
        install(0, 'chain')
    on()
    if order == 'after':
        install(0, 'chain')
    work()
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        chains.clear()
        work()
        note('child')
        off()
        work()
        with open(writing, 'w', encoding='utf-8') as file:
            file.write(report('with_fork'))
        os._exit(0)
    os.close(writing)
    work()
    with open(reading, encoding='utf-8') as file:
        children.append(json.loads(file.read()))
    facts['child'] = sum(children[0]['counts'][0].values())
    facts['status'] = os.waitpid(child, 0)[1]
    note('parent')


def endless(n):
    deepest[0] = n
    endless(n + 1)


deepest = [0]


def too_deep(order):
    if order == 'before':
        install(0, 'chain')
    on()
    if order == 'after':
        install(0, 'chain')
    for _ in range(3):
        try:
            endless(0)
        except RecursionError:
            facts.setdefault('deepest', []).append(deepest[0])
    work()


# ---------------------------------------------------------------------------
# Frames of an extension

def f(x):
    look()
    return x


def copies(order):
    if order == 'before':
        install(0, 'copy')
    on()
    if order == 'after':
        install(0, 'copy')
    facts['sum'] = sum([f(i) for i in range(1000)])
    facts['f'] = evaluators.counts(0)['f']


# ---------------------------------------------------------------------------
# What evaluators should not do

def broken():
    return 1


def given(a, b):
    return a, b


def other():
    look()
    return 'other'


def switching():
    look()
    return 'switched'


def returns_nothing(order):
    """NULL and no exception, to the eval loop and to C code."""
    if order == 'before':
        install(0, 'null')
    on()
    if order == 'after':
        install(0, 'null')
    facts['errors'] = errors = set()
    for _ in range(12):
        for call in (lambda: broken(), lambda: list(map(lambda _: broken(), [1])),
                     lambda: [1].sort(key=lambda _: broken())):
            try:
                call()
            except SystemError as error:
                errors.add(f'{error}'.partition(' at 0x')[0])
    facts['errors'] = sorted(errors)
    work()
    note('with')


def runs_another(order):
    evaluators.set_other(other)
    if order == 'before':
        install(0, 'other')
    on()
    if order == 'after':
        install(0, 'other')
    # An evaluator that comes first is called by the trampoline of given().  One that
    # comes later calls ours with the frame of other().
    expect('replaced' if order == 'before' else 'shown')
    facts['results'] = sorted({given(1, 2) for _ in range(12)})
    expect('shown')
    work()
    note('with')


def switches(order, *steps):
    """The evaluator itself switches profiling on or off."""
    turn = iter(range(10 ** 6))
    was_on = True

    def hook():
        global state
        nonlocal was_on
        {'on': on, 'off': off}[steps[next(turn) % len(steps)]]()
        is_on = state == 'shown'
        # If the evaluator was there before ours and profiling was on, the
        # trampoline of switching() has called it.
        if order == 'before' and is_on != was_on:
            state = 'some' if is_on else 'switching'
        was_on = is_on

    evaluators.set_hook(hook)
    if order == 'before':
        install(0, 'switch')
    on()
    if order == 'after':
        install(0, 'switch')
    for _ in range(12):
        expect('some')
        facts['result'] = switching()
        middle(1)
    note('with')
    on()
    work()


PROGRAMS = {
    'never': (never,),
    'after_chain': (after, 'chain'),
    'after_default': (after, 'default'),
    'before_chain': (before, 'chain'),
    'before_default': (before, 'default'),
    'after_then_off_chain': (after_then_off, 'chain'),
    'after_then_off_default': (after_then_off, 'default'),
    'after_off_on': (after_off_on,),
    'two_after_chain_chain': (two_after, 'chain', 'chain'),
    'two_after_default_chain': (two_after, 'default', 'chain'),
    'two_after_chain_default': (two_after, 'chain', 'default'),
    'two_around_chain_chain': (two_around, 'chain', 'chain'),
    'two_around_chain_default': (two_around, 'chain', 'default'),
    'two_around_default_chain': (two_around, 'default', 'chain'),
    'lower_goes_first': (lower_goes_first,),
    'removed_within': (removed_within,),
    'removed_within_before': (removed_within_before,),
    'installed_within_chain': (installed_within, 'chain'),
    'installed_within_default': (installed_within, 'default'),
    'generator_across': (generator_across,),
    'switching_frames': (switching_frames,),
    'threads_before': (with_threads, 'before'),
    'threads_after': (with_threads, 'after'),
    'fork_before': (with_fork, 'before'),
    'fork_after': (with_fork, 'after'),
    'too_deep_before': (too_deep, 'before'),
    'too_deep_after': (too_deep, 'after'),
    'copies_before': (copies, 'before'),
    'copies_after': (copies, 'after'),
    'null_before': (returns_nothing, 'before'),
    'null_after': (returns_nothing, 'after'),
    'other_before': (runs_another, 'before'),
    'other_after': (runs_another, 'after'),
    'switch_off_before': (switches, 'before', 'off'),
    'switch_off_after': (switches, 'after', 'off'),
    'switch_both_before': (switches, 'before', 'off', 'on'),
    'switch_both_after': (switches, 'after', 'off', 'on'),
}


def report(outermost):
    counts = [evaluators.counts(number) for number in range(3)]
    for each in counts:
        for name in not_counted:
            each.pop(name, None)
    with open('/proc/self/maps', encoding='utf-8') as file:
        maps = file.read()
    return json.dumps({
        'counts': counts, 'facts': facts, 'active': active, 'chains': chains,
        'outermost': outermost, 'children': children, 'pid': os.getpid(),
        'time': time.monotonic_ns(), 'maps': maps})


def main(name):
    function, *args = PROGRAMS[name]
    function(*args)
    print(report(function.__name__))


if __name__ == '__main__':
    main(sys.argv[1])
