"""What writes maps and jitdumps, under libFuzzer with sanitizers.

The target is perf_fuzz.c.  It is compiled here with clang, with AddressSanitizer
and UndefinedBehaviorSanitizer, from the sources that the interpreter was built
from, and runs for as many seconds as PYTHON_PERF_FUZZ_SECONDS says, or 20.
What it found is kept in PYTHON_PERF_FUZZ_CORPUS, if that is a directory.
"""

import base64
import os
import platform
import re
import shutil
import subprocess
import sysconfig
import unittest

from test import perf_support

SOURCES = ['Lib/test/perf_fuzz.c', 'Python/perf_text.c', 'Python/perf_file.c',
           'Python/perf_map.c', 'Python/perf_jitdump.c',
           'Python/perf_unwind.c']

# What broke them once.
FOUND = ['FA8AAAAAAAAA7u7u7nws', 'FI8AAA8AAAAAAAAALBSPAAAPAAAAAAAA']

SECONDS = os.environ.get('PYTHON_PERF_FUZZ_SECONDS', '20')
CORPUS = os.environ.get('PYTHON_PERF_FUZZ_CORPUS')


def setUpModule():
    perf_support.require_trampoline()
    perf_support.require_no_emulation(
        'the fuzzer is compiled by the clang of another processor')
    if not sysconfig.is_python_build():
        raise unittest.SkipTest('needs the sources of the interpreter')


class FuzzTests(perf_support.PerfTestCase):

    def compile(self):
        if not shutil.which('clang'):
            perf_support.tool_missing('no clang')
        source = sysconfig.get_config_var('abs_srcdir')
        program = self.path('fuzz')
        done = subprocess.run(
            ['clang', '-std=c11', '-g', '-O1', '-Wall', '-Wextra', '-Werror',
             '-fsanitize=fuzzer,address,undefined',
             '-fno-sanitize-recover=undefined', '-D_GNU_SOURCE',
             '-DPy_BUILD_CORE', '-DPY_HAVE_PERF_TRAMPOLINE',
             '-Dwrite=fuzz_write',
             *(word for directory in (
                 sysconfig.get_config_var('abs_builddir'),
                 f'{source}/Include', f'{source}/Include/internal')
               for word in ('-isystem', directory)),
             *(f'{source}/{name}' for name in [
                 *SOURCES,
                 f'Python/asm_trampoline_{platform.machine()}.S']),
             '-o', program],
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if 'libclang_rt' in done.stderr:
            perf_support.tool_missing(f'no libFuzzer: {done.stderr}')
        self.assertEqual(done.returncode, 0, done.stderr)
        return program

    def test_nothing_breaks_the_writers(self):
        program = self.compile()
        corpus = CORPUS or self.path('corpus')
        os.makedirs(corpus, exist_ok=True)
        for number, data in enumerate(FOUND):
            with open(os.path.join(corpus, f'found{number}'), 'wb') as file:
                file.write(base64.b64decode(data))
        run = self.run_command(
            [program, f'-max_total_time={SECONDS}', '-max_len=4096',
             '-timeout=60', '-print_final_stats=1',
             f'-artifact_prefix={self.directory}/', corpus],
            env=perf_support.clean_environment(JITDUMPDIR=self.directory),
            returncode=None)
        self.assertEqual(run.returncode, 0, run.err[-6000:])
        [runs] = re.findall(r'number_of_executed_units: (\d+)', run.err)
        print(f'{runs} inputs')
        self.assertGreater(int(runs), 1000)
        # It came far: names that need an escape, entries that were copied.
        [*_, reached] = re.findall(r'cov: (\d+)', run.err)
        self.assertGreater(int(reached), 300)


if __name__ == '__main__':
    unittest.main()
