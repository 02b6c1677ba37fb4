import unittest

from test import test_perf

load_tests = test_perf.load_tests

unittest.main()
