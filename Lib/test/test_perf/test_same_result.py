"""A program does the same with profiling and without."""

import unittest

from test.test_perf import fixtures
from test.test_perf.modes import JitdumpMode, MapMode


def setUpModule():
    fixtures.require_trampoline()


class SameResultTests:
    """The program does what it does without profiling."""

    def test_output_and_exit_status_are_the_programs_own(self):
        run = self.run_on_and_off("""\
            import sys

            def main():
                print('out')
                print('err', file=sys.stderr)
                sys.exit(42)

            main()
            """, returncode=42)
        self.assertEqual((run.out, run.err), ('out\n', 'err\n'))

    def test_an_uncaught_exception_looks_the_same(self):
        self.run_on_and_off("""\
            def fails(n):
                if n:
                    return fails(n - 1)
                1 / 0
            fails(10)
            """, returncode=1)

    def test_the_recursion_limit_is_the_same(self):
        run = self.run_on_and_off("""\
            import sys

            def depth(n):
                try:
                    return depth(n + 1)
                except RecursionError:
                    return n

            print(depth(0))
            sys.setrecursionlimit(5000)
            print(depth(0))
            """)
        self.assert_written(run, 'depth')

    def test_a_recursion_too_deep_for_the_c_stack_does_not_crash(self):
        # Calls between Python functions take no C stack in this version.
        self.run_on_and_off("""\
            import sys

            def depth(n):
                return n and depth(n - 1) + 1

            sys.setrecursionlimit(100_100)
            print(depth(100_000))
            """)

    def test_arithmetic_with_ints_is_the_same(self):
        # Small ints exist once.  Beyond one digit the base does the work.
        self.run_on_and_off("""\
            values = [0, True, 2**15 - 1, 2**15, 2**60, 10**40]
            values += [sign * (edge + step)
                       for sign in (1, -1) for edge in (0, 5, 256, 2**30)
                       for step in (-1, 0, 1)]

            def calculate(a, b):
                return a + b, a - b, a * b

            for a in values:
                for b in values:
                    results = calculate(a, b)
                    shared = [result is int(str(result)) for result in results]
                    print(a, b, *results, *shared)
            """)

    def test_descriptors_have_the_same_numbers(self):
        run = self.run_on_and_off("""\
            import os

            def numbers():
                return [os.open('/dev/null', os.O_RDONLY) for i in range(20)]

            first = numbers()
            exec('def late(): pass\\nlate()')
            print(first, numbers(), os.pipe())
            """)
        self.assertIn('py::late:<string>', run.names)

    def test_tracing_and_profiling_functions_see_the_same(self):
        self.run_on_and_off("""\
            import sys

            def traced(n):
                return n and traced(n - 1)

            events = []
            def trace(frame, event, arg):
                events.append((event, frame.f_code.co_qualname,
                               frame.f_lineno))
                return trace

            sys.settrace(trace)
            traced(3)
            sys.settrace(None)
            sys.setprofile(trace)
            traced(3)
            sys.setprofile(None)
            print(events)
            """)

    def test_deep_frames_see_their_callers(self):
        self.run_on_and_off("""\
            import sys, traceback

            def callers(n):
                if n:
                    return callers(n - 1)
                traceback.print_stack(file=sys.stdout)
                return sys._getframe(2).f_code.co_name

            print(callers(5))
            """)


class MapSameResultTests(SameResultTests, MapMode):
    pass


class JitdumpSameResultTests(SameResultTests, JitdumpMode):
    pass


class CallsSameResultTests(SameResultTests, MapMode):
    mode = 'perf=calls'


if __name__ == '__main__':
    unittest.main()
