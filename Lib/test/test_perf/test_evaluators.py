"""Frame evaluators of others (PEP 523), compiled for the unpatched release.

The programs are in evaluators.py.  Their results are the same with profiling off, in both
modes, with perf=calls, and with the unpatched interpreter, whose results COUNTS and
FACTS are.  `make test-dropin` compares all results, call by call, with the distribution's
interpreter.
"""

import itertools
import json
import os
import re
import signal
import sys
import tempfile
import unittest

from test.support import os_helper
from test.test_perf import extensions, fixtures, walker
from test.test_perf.modes import MODES

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'evaluators.py')

# Of each program: how many calls each of its evaluators sees.
COUNTS = {
    'never': [1498],
    'after_chain': [1499],
    'after_default': [1500],
    'before_chain': [4490],
    'before_default': [4490],
    'after_then_off_chain': [2990],
    'after_then_off_default': [2991],
    'after_off_on': [14921],
    'two_after_chain_chain': [2994, 1499],
    'two_after_default_chain': [2996, 1500],
    'two_after_chain_default': [1495, 1501],
    'two_around_chain_chain': [4489, 1499],
    'two_around_chain_default': [2990, 1500],
    'two_around_default_chain': [4489, 1499],
    'lower_goes_first': [1498, 1497],
    'removed_within': [84],
    'removed_within_before': [108],
    'installed_within_chain': [372],
    'installed_within_default': [385],
    'generator_across': [108],
    'switching_frames': [2846],
    'threads_before': [29789],
    'threads_after': [29782],
    'fork_before': [2991],
    'fork_after': [2989],
    'too_deep_before': [4494],
    'too_deep_after': [4492],
    'copies_before': [2005],
    'copies_after': [2003],
    'null_before': [1598],
    'null_after': [1596],
    'other_before': [1529],
    'other_after': [1527],
    'switch_off_before': [1636],
    'switch_off_after': [1634],
    'switch_both_before': [1636],
    'switch_both_after': [1634],
}

FACTS = {
    'after_chain': {'current': True},
    'after_default': {'current': True},
    'before_chain': {'current': True},
    'before_default': {'current': True},
    'after_then_off_chain': {'current': True},
    'after_then_off_default': {'current': True},
    'after_off_on': {'calls': 14919},
    'two_around_chain_chain': {'current': True},
    'two_around_chain_default': {'current': True},
    'two_around_default_chain': {'current': True},
    'lower_goes_first': {'lost': True},
    'generator_across': {'seen': 820},
    'switching_frames': {'sum': 210},
    'threads_before': {'threads': 20},
    'threads_after': {'threads': 20},
    'fork_before': {'child': 4482, 'status': 0},
    'fork_after': {'child': 4480, 'status': 0},
    'too_deep_before': {'deepest': [996, 996, 996]},
    'too_deep_after': {'deepest': [996, 996, 996]},
    'copies_before': {'sum': 499500, 'f': 1000},
    'copies_after': {'sum': 499500, 'f': 1000},
    'null_before': {'errors': ['<function broken']},
    'null_after': {'errors': ['<function broken']},
    'other_before': {'results': ['other']},
    'other_after': {'results': ['other']},
    'switch_off_before': {'result': 'switched'},
    'switch_off_after': {'result': 'switched'},
    'switch_both_before': {'result': 'switched'},
    'switch_both_after': {'result': 'switched'},
}

# 3.13 inlines comprehensions, and more calls than 3.11.
if sys.version_info >= (3, 13):
    COUNTS |= {
        'never': [1479],
        'after_chain': [1481],
        'after_default': [1482],
        'before_chain': [4447],
        'before_default': [4447],
        'after_then_off_chain': [2960],
        'after_then_off_default': [2961],
        'after_off_on': [14794],
        'two_after_chain_chain': [2963, 1481],
        'two_after_default_chain': [2965, 1482],
        'two_after_chain_default': [1482, 1483],
        'two_around_chain_chain': [4446, 1481],
        'two_around_chain_default': [2965, 1482],
        'two_around_default_chain': [4446, 1481],
        'lower_goes_first': [1480, 1479],
        'generator_across': [107],
        'switching_frames': [2827],
        'threads_before': [29308],
        'threads_after': [29302],
        'fork_before': [2960],
        'fork_after': [2958],
        'too_deep_before': [4475],
        'too_deep_after': [4473],
        'copies_before': [2003],
        'copies_after': [2001],
        'null_before': [1579],
        'null_after': [1577],
        'other_before': [1509],
        'other_after': [1507],
        'switch_off_before': [1617],
        'switch_off_after': [1615],
        'switch_both_before': [1617],
        'switch_both_after': [1615],
    }
    FACTS |= {
        'after_off_on': {'calls': 14793},
        'fork_before': {'child': 4439, 'status': 0},
        'fork_after': {'child': 4437, 'status': 0},
    }

# Programs that a debug build ends, patched or not, and what it says.
ABORTED = {}
if hasattr(sys, 'gettotalrefcount'):
    ABORTED = dict.fromkeys(
        ('null_before', 'null_after'), 'returned NULL without setting an exception')

# What sys.is_stack_trampoline_active() says in the course of a program.
ACTIVE = {
    'never': {},
    'after_chain': {'with': True, 'without': True},
    'after_default': {'with': False},
    'before_chain': {'with': True, 'off': False, 'again': True},
    'before_default': {'with': True, 'off': False, 'again': True},
    'after_then_off_chain': {'off': False, 'removed': False},
    'after_then_off_default': {'off': False, 'removed': False},
    'after_off_on': {'on': True},
    'two_after_chain_chain': {'two': True, 'one': True},
    'two_after_default_chain': {'two': False, 'one': False},
    'two_after_chain_default': {'two': False, 'one': True},
    'two_around_chain_chain': {'two': True, 'one': True, 'off': False},
    'two_around_chain_default': {'two': False, 'one': True, 'off': False},
    'two_around_default_chain': {'two': True, 'one': True, 'off': False},
    'lower_goes_first': {'removed': True},
    'switching_frames': {'on': True},
    'fork_before': {'child': True, 'parent': True},
    'fork_after': {'child': True, 'parent': True},
    'null_before': {'with': True},
    'null_after': {'with': True},
    'other_before': {'with': True},
    'other_after': {'with': True},
    'switch_off_before': {'with': False},
    'switch_off_after': {'with': False},
    'switch_both_before': {'with': True},
    'switch_both_after': {'with': True},
}


# The unpatched eval loop inlines calls of this function even if an evaluator is installed.
# An evaluator that was installed before ours uses that loop, so the function is not shown.
# With perf=calls ours uses it too.
INLINED = 'Class.__init__' if sys.version_info >= (3, 13) else 'Class.__getitem__'


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    global directory
    directory = tempfile.mkdtemp(prefix='test_perf_')
    unittest.addModuleCleanup(os_helper.rmtree, directory)
    extensions.compile_for_release('perf_evaluators.c', directory)


def is_part(names, whole):
    """Are the names among the others, in that order?"""
    rest = iter(whole)
    return all(name in rest for name in names)


class EvaluatorTestCase(walker.RecordTestCase):

    def run_to_end(self, name, mode, returncode=0, **environment):
        """Run a program, profiled or not.

        Where profiling comes first it is switched on by -X, else at run time.
        """
        first = not name.endswith('_before') and not name.startswith(
            ('never', 'before', 'two_around', 'switching_frames'))
        return self.run_command(
            [sys.executable, *(['-X', mode] if mode and first else []), PROGRAM, name,
             *([mode] if mode else [])],
            env=fixtures.clean_environment(PYTHONPATH=directory, **environment),
            preexec_fn=fixtures.allow_large_stack if name.startswith('too_deep') else None,
            returncode=returncode)

    def run_program(self, name, mode, **environment):
        """Run a program, profiled or not.  Return what it found out."""
        run = self.run_to_end(name, mode, **environment)
        self.assertEqual(run.err, '')
        found = json.loads(run.out)
        found['inlines'] = mode == 'perf=calls' or not (
            name.endswith('_after') or name.startswith(('after', 'two_after')))
        for child in found['children']:
            self.track(child['pid'])
            child['inlines'] = found['inlines']
        return found

    def names_of(self, found):
        return walker.Names(PROGRAM, found['pid'], found['time'], found['maps'])

    def assert_stacks(self, found):
        """The stacks have the functions that they should have, leaf first, up to
        the one that switched profiling on."""
        names = self.names_of(found)
        outermost = found['outermost']
        self.assertGreater(len(found['chains']), 0)
        for index, (state, addresses, called) in enumerate(found['chains']):
            self.assert_reaches_bottom(names, addresses)
            seen = [name.rpartition(':')[2] for name in names.python(addresses)]
            if outermost in called:
                called = called[:called.index(outermost)]
            if outermost in seen:
                seen = seen[:seen.index(outermost)]
            if found['inlines']:
                seen, called = ([each for each in stack if each != INLINED]
                                for stack in (seen, called))
            message = (index, state, seen, called)
            if state == 'replaced':
                called = ['given' if name == 'other' else name for name in called]
            if state in ('shown', 'replaced'):
                self.assertEqual(seen[:len(called)], called, message)
            elif state == 'switching':
                running = called[called.index(state):] if state in called else []
                self.assertEqual(seen, running, message)
            elif state == 'hidden':
                self.assertFalse(set(seen) & set(called), message)
            else:
                self.assertTrue(is_part(seen, called), message)

    def check(self, name, **environment):
        """Run a program in all modes.  Counts, facts, states and stacks are right."""
        expected = COUNTS[name], FACTS.get(name, {})
        for mode in (None, *MODES, 'perf=calls'):
            with self.subTest(mode=mode):
                if name in ABORTED:
                    run = self.run_to_end(name, mode, -signal.SIGABRT, **environment)
                    self.assertIn(ABORTED[name], run.err)
                    continue
                found = self.run_program(name, mode, **environment)
                totals = [sum(counts.values()) for counts in found['counts'] if counts]
                if fixtures.FREE_THREADED and mode is None:
                    # Nothing is specialized, so the evaluator sees more calls.
                    expected = totals, found['facts']
                self.assertEqual((totals, found['facts']), expected, found['counts'])
                active = {**found['active']}
                for child in found['children']:
                    active.update(child['active'])
                for moment, state in ACTIVE.get(name, {}).items():
                    self.assertEqual(active[moment], state and mode is not None, moment)
                if mode is not None and name != 'never':
                    for process in (found, *found['children']):
                        self.assert_stacks(process)


class OneEvaluatorTests(EvaluatorTestCase):

    def test_one_that_chains_and_came_later_sees_every_call(self):
        self.check('after_chain')

    def test_one_that_chains_and_was_there_sees_every_call(self):
        self.check('before_chain')

    def test_one_that_does_not_chain_and_came_later_wins(self):
        self.check('after_default')

    def test_one_that_does_not_chain_and_was_there_runs_the_frames(self):
        self.check('before_default')

    def test_profiling_leaves_from_below_one_that_chains(self):
        self.check('after_then_off_chain')

    def test_profiling_leaves_from_below_one_that_does_not_chain(self):
        self.check('after_then_off_default')

    def test_profiling_is_switched_off_and_on_again_and_again(self):
        self.check('after_off_on')

    def test_without_profiling(self):
        self.check('never')

    def test_where_it_is_on_the_stack(self):
        """The trampoline calls an evaluator that was there before.  An evaluator that
        came later calls ours, so its C frames are further out than the function."""
        for name, wanted in (('before_chain', ['look', walker.FOREIGN]),
                             ('after_chain', [walker.FOREIGN, 'look'])):
            for mode in MODES:
                with self.subTest(name=name, mode=mode):
                    found = self.run_program(name, mode)
                    names = self.names_of(found)
                    state, addresses, called = found['chains'][0]
                    self.assertEqual(state, 'shown')
                    # Outermost first: what called what.
                    chain = [each for each in reversed(names.chain(addresses))
                             if each not in (walker.INTERPRETER, '<module>', 'main',
                                             found['outermost'])]
                    # The evaluator consists of several C functions.
                    chain = [key for key, group in itertools.groupby(chain)]
                    self.assertEqual(chain[-2:], wanted, names.chain(addresses))


class TwoEvaluatorsTests(EvaluatorTestCase):

    def test_both_came_later(self):
        self.check('two_after_chain_chain')

    def test_the_lower_one_does_not_chain(self):
        self.check('two_after_default_chain')

    def test_the_upper_one_does_not_chain(self):
        self.check('two_after_chain_default')

    def test_one_was_there_and_one_came_later(self):
        self.check('two_around_chain_chain')

    def test_one_was_there_and_one_that_does_not_chain_came_later(self):
        self.check('two_around_chain_default')

    def test_one_that_does_not_chain_was_there_and_one_came_later(self):
        self.check('two_around_default_chain')

    def test_the_lower_one_is_removed_first(self):
        self.check('lower_goes_first')


class WithinFramesTests(EvaluatorTestCase):
    """Evaluators change while frames run."""

    def test_one_that_came_later_is_removed(self):
        self.check('removed_within')

    def test_one_that_was_there_is_removed(self):
        self.check('removed_within_before')

    def test_one_that_chains_is_installed(self):
        self.check('installed_within_chain')

    def test_one_that_does_not_chain_is_installed(self):
        self.check('installed_within_default')

    def test_a_generator_is_resumed_with_and_without_one(self):
        self.check('generator_across')

    def test_profiling_is_switched_off_and_on(self):
        self.check('switching_frames')


class ThreadsAndProcessesTests(EvaluatorTestCase):

    # The evaluators of these tests are not made for threads that run at the same time.
    WITH_GIL = {'PYTHON_GIL': '1'} if fixtures.FREE_THREADED else {}

    def test_threads_with_one_that_was_there(self):
        self.check('threads_before', **self.WITH_GIL)

    def test_threads_with_one_that_came_later(self):
        self.check('threads_after', **self.WITH_GIL)

    def test_a_forked_child_with_one_that_was_there(self):
        self.check('fork_before')

    def test_a_forked_child_with_one_that_came_later(self):
        self.check('fork_after')

    def test_the_recursion_limit_with_one_that_was_there(self):
        self.check('too_deep_before')

    def test_the_recursion_limit_with_one_that_came_later(self):
        self.check('too_deep_after')


class FramesOfExtensionsTests(EvaluatorTestCase):
    """Frames in memory of the extension's own, which the interpreter runs."""

    def test_one_that_was_there_runs_copies_of_frames(self):
        self.check('copies_before')

    def test_one_that_came_later_runs_copies_of_frames(self):
        self.check('copies_after')

    def test_in_memory_that_was_used_before(self):
        for name in ('copies_before', 'copies_after'):
            with self.subTest(name=name):
                self.check(name, DIRTY='1')


class MisbehavingTests(EvaluatorTestCase):
    """Wrong evaluators have the same outcome as with the unpatched interpreter.  All
    other functions are still shown."""

    def test_null_without_an_exception_from_one_that_was_there(self):
        self.check('null_before')

    def test_null_without_an_exception_from_one_that_came_later(self):
        self.check('null_after')

    def test_one_that_was_there_runs_another_frame(self):
        self.check('other_before')

    def test_one_that_came_later_runs_another_frame(self):
        self.check('other_after')

    def test_one_that_was_there_switches_profiling_off(self):
        self.check('switch_off_before')

    def test_one_that_came_later_switches_profiling_off(self):
        self.check('switch_off_after')

    def test_one_that_was_there_switches_profiling_off_and_on(self):
        self.check('switch_both_before')

    def test_one_that_came_later_switches_profiling_off_and_on(self):
        self.check('switch_both_after')


class ListTests(unittest.TestCase):

    def test_every_program_is_run(self):
        with open(PROGRAM, encoding='utf-8') as file:
            text = file.read()
        with open(__file__, encoding='utf-8') as file:
            tests = file.read()
        names = re.findall(r"^    '(\w+)': \(", text, re.M)
        self.assertEqual(names, list(COUNTS))
        for name in names:
            self.assertRegex(tests, rf"(check\(|in \(.*)'{name}'")


if __name__ == '__main__':
    unittest.main()
