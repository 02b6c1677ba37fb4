"""Tests of native profiler support: how native profilers see Python functions.

    python -m test test_perf                    all of them
    python -m test test_perf.test_names         those of one subject

Doc/howto/perf_internals.rst, "How to add a test", says what is in which file.
"""

import os


def load_tests(*args):
    # Programs under test import this package.  They must not import unittest.
    from test.support import load_package_tests
    return load_package_tests(os.path.dirname(__file__), *args)
