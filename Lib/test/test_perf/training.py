"""Trains the second eval loop in builds with profile-guided optimization.

    ./python -B -m test.test_perf.training

The Makefile runs it in builds with --enable-optimizations.  It runs some of
the tests that train the rest of the interpreter, with lines and without, and
removes the maps.  This file has no tests.
"""

import os
import subprocess
import sys

TESTS = ['test_collections', 'test_dataclasses', 'test_datetime',
         'test_difflib', 'test_functools', 'test_generators', 'test_json',
         'test_patma', 'test_pickle', 'test_pprint', 'test_re',
         'test_statistics', 'test_unicode', 'test_xml_etree']


def main():
    for option in ('perf=lines', 'perf'):
        # The same counts each time, and so the same machine code.
        process = subprocess.Popen(
            [sys.executable, '-B', '-X', option, '-m', 'test', '--pgo',
             '--randseed', '1', *TESTS],
            env={**os.environ, 'PYTHONHASHSEED': '0'})
        process.wait()          # a test that fails has trained the loop, too
        try:
            os.unlink(f'/tmp/perf-{process.pid}.map')
        except FileNotFoundError:
            pass                # profiling is not available here


if __name__ == '__main__':
    main()
