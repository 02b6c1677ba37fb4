"""Profiles made with the real samply.

It is told to save its profile, which is read back.
"""

import unittest
from textwrap import dedent

from test import perf_support
from test.perf_support import FOO_BAR_BAZ, RUN_FOO, python_names
from test.support import import_helper


def setUpModule():
    perf_support.require_trampoline()


class SamplyTests(perf_support.SamplyTestCase):

    def test_functions_are_nested_in_order(self):
        run, samples = self.record(RUN_FOO)
        wanted = ('spin', 'baz', 'bar', 'foo', 'until', '<module>')
        for sample in self.assert_nested(samples, *wanted)[:100]:
            self.assertEqual(python_names(sample),
                             [self.script_name(name) for name in wanted])

    def test_without_the_switch_there_are_no_names(self):
        run, samples = self.record(RUN_FOO, mode=None)
        self.assertGreater(len(samples), 50)
        self.assertFalse(any(map(python_names, samples)))

    def test_activated_at_run_time(self):
        run, samples = self.record(FOO_BAR_BAZ + dedent("""\
            import sys

            sys.activate_stack_trampoline('perf')
            until(0.5, foo)
            """), mode=None)
        self.assert_nested(samples, 'spin', 'baz', 'bar', 'foo', 'until')

    def test_a_forked_child_is_named_by_its_own_map(self):
        # samply does not look into the parent's.
        import_helper.import_module('_testinternalcapi')
        for args in ((), ('persist',)):
            with self.subTest(args=args):
                run, samples = self.record("""\
                    import os, sys

                    def both(n=20_000): spin(n)
                    def only_child(): both()
                    def only_parent(): both()

                    def forking():
                        child = os.fork()
                        if not child:
                            until(0.5, only_child)
                            os._exit(0)
                        until(0.5, only_parent)
                        assert os.waitpid(child, 0)[1] == 0
                        print(child)

                    both(0)    # nothing that samples would count
                    if 'persist' in sys.argv:
                        from _testinternalcapi import (
                            perf_trampoline_set_persist_after_fork as persist)
                        persist(1)
                    forking()
                    """, args=args)
                child = self.track(run.out)
                self.assert_nested(samples, 'spin', 'both', 'only_child',
                                   'until', 'forking', '<module>', pid=child)
                self.assert_nested(samples, 'spin', 'both', 'only_parent',
                                   'until', 'forking', '<module>',
                                   pid=run.pid)

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
