"""Profiles that samply makes with the map.

samply saves its profile and the test reads it.
"""

import unittest

from test.support import import_helper
from test.test_perf import fixtures, scenarios


def setUpModule():
    fixtures.require_trampoline()


class SamplyTests(scenarios.SamplyTestCase):

    def test_functions_are_nested_in_order(self):
        self.record_foo()

    def test_without_the_switch_there_are_no_names(self):
        self.record_without_the_switch()

    def test_activated_at_run_time(self):
        self.record_activated('perf')

    @fixtures.needs_hand_over
    def test_activated_while_a_function_runs(self):
        self.record_late('perf')

    def test_a_forked_child_is_named_by_its_own_map(self):
        # samply does not read the parent's file.
        import_helper.import_module('_testinternalcapi')
        for args in ((), ('persist',), ('c',)):
            with self.subTest(args=args):
                self.record_fork(*args)

    def test_hostile_names_do_not_cost_the_whole_map(self):
        names = {
            r"'new\nline'": r'new\nline',
            r"'a\n7f0000000000 1000 py::forged:/x'":
                r'a\n7f0000000000 1000 py::forged:/x',
            r"'sur\udc80rogate'": r'sur\udc80rogate',
            r"'\x1b[31mred\x00\x85'": r'\x1b[31mred\x00\x85',
            r"'Gr\xfc\xdfe \u65e5\u672c \U0001f40d'": 'Grüße 日本 🐍',
            "'f'": 'f',
            "'n' * 100_000": 'n' * 100_000,
        }
        run, samples, seen = self.record_names(names)
        self.assert_nested(samples, 'spin', 'until')
        self.assertLessEqual(seen, set(run.names))


if __name__ == '__main__':
    unittest.main()
