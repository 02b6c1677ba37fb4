"""libFuzzer runs the code that writes maps and jitdumps.

The target is perf_fuzz.c.  clang compiles it and our sources with
AddressSanitizer and UndefinedBehaviorSanitizer.  The fuzzer first tries the
inputs that once found faults, then the same inputs in each run.  With
PYTHON_PERF_FUZZ_SECONDS it tries new inputs for that many seconds.  If
PYTHON_PERF_FUZZ_CORPUS is a directory, it keeps inputs there.
"""

import base64
import os
import platform
import re
import subprocess
import sysconfig
import unittest

from test.test_perf import fixtures, relink

TARGET = 'Lib/test/test_perf/src/perf_fuzz.c'
SOURCES = ['Python/perf_error.c', 'Python/perf_text.c',
           'Python/perf_fd.c', 'Python/perf_file.c',
           'Python/perf_buffer.c', 'Python/perf_map.c',
           'Python/perf_jitdump.c', 'Python/perf_unwind.c',
           'Python/perf_window.c',
           f'Python/asm_trampoline_{platform.machine()}.S']

# Inputs that once found faults.
FOUND = ['FA8AAAAAAAAA7u7u7nws', 'FI8AAA8AAAAAAAAALBSPAAAPAAAAAAAA']

# The faults, in the order of perf_fuzz.c.
FAULTS = dict(zip(('memory', 'open', 'fstat', 'ftruncate', 'fchmod', 'read',
                   'write', 'fcntl', 'mmap'), range(9)))

RUNS = 10_000

# Options for the same inputs in each run.  The fuzzer must not read inputs
# from its directory or learn from comparisons: these depend on pids and file
# numbers.
REPEATABLE = ['-seed=1', '-reload=0', '-use_cmp=0', f'-runs={RUNS}']
SECONDS = os.environ.get('PYTHON_PERF_FUZZ_SECONDS')
CORPUS = os.environ.get('PYTHON_PERF_FUZZ_CORPUS')


def function(kind, qualname=b'function', filename=b'/file.py'):
    """Return the step that writes a function to a map (0) or jitdump (3)."""
    return (bytes([kind, *divmod(len(qualname), 256)]) + qualname
            + bytes([len(filename)]) + filename)


def function_with_lines(kind, *lines, qualname=b'function'):
    """Return the same with (size - 1, line's high byte, low byte)s."""
    return (bytes([kind // 3 + 12]) + function(kind, qualname)[1:]
            + bytes([len(lines)]) + b''.join(map(bytes, lines)))


def fault(name, turn=0, forever=False):
    """Return the step after which the call at this turn fails."""
    return bytes([11, FAULTS[name], 16 + 8 * forever + turn])


def seeds():
    """Return the first inputs of the fuzzer.

    Each has one fault, or a fault that leaves a partial entry and one that
    keeps the entry from being removed.  Each is tried with and without
    buffering.
    """
    buffering, close, passed = b'\x08', b'\x09', bytes([11, len(FAULTS), 0])
    entry, copy = b'\x06\x00\x03abc', b'\x07\x05abcde'
    tears = [(fault('ftruncate', forever=forever), later)
             for forever in (False, True)
             for later in (b'', fault('fstat'), fault('fstat', 1),
                           fault('fstat', forever=True), fault('open'))]
    tears.append((fault('fstat', forever=True), b''))
    window = bytes([14, 1, 200, 0, 16, 3, 2, 0])
    fork = window[:-1] + b'\xff'
    yield window + fork + window
    for turn in range(3):
        for name in ('memory', 'mmap'):
            yield fork + fault(name, turn) + window + window
    for kind in (0, 3):
        lines = [(1, 0, 0), (9, 0, 1), (255, 0, 2), (3, 255, 255)]
        for name in FAULTS:
            for turn in range(3):
                yield b''.join([
                    function_with_lines(kind, *lines), fault(name, turn),
                    function_with_lines(kind, *lines * 60, qualname=b'x' * 500),
                    function_with_lines(kind, (0, 0, 1)), function(kind)])
    for kind in (0, 3):
        for name in FAULTS:
            for turn in range(3):
                for other, later in [(b'', b''), *(
                        tears if name in ('write', 'read') else [])]:
                    for optional in (b'', buffering):
                        yield b''.join([
                            function(kind), optional, function(kind),
                            fault(name, turn), other, entry, copy,
                            function(kind, b'\xc3\xbcml' * 100), later,
                            entry, copy, function(kind), optional, close,
                            function(kind), passed, function(kind)])


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_no_emulation(
        'the fuzzer is compiled by the clang of another processor')
    if not sysconfig.is_python_build():
        raise unittest.SkipTest('needs the sources of the interpreter')


class FuzzTests(fixtures.PerfTestCase):

    def compile(self, name, *options):
        """Compile one of the sources and return the path of the object."""
        source = sysconfig.get_config_var('abs_srcdir')
        result = self.path(os.path.basename(name) + '.o')
        relink.run(
            ['clang', '-std=c11', '-g', '-O1', '-Wall', '-Wextra', '-Werror',
             *options, '-D_GNU_SOURCE',
             '-DPy_BUILD_CORE', '-DPY_HAVE_PERF_TRAMPOLINE',
             *(word for directory in (
                 sysconfig.get_config_var('abs_builddir'),
                 f'{source}/Include', f'{source}/Include/internal')
               for word in ('-isystem', directory)),
             '-c', f'{source}/{name}', '-o', result])
        return result

    def build(self):
        """Compile and link the fuzzer. Return its path."""
        sanitizers = ['-fsanitize=fuzzer,address,undefined',
                      '-fno-sanitize-recover=undefined']
        target = self.compile(TARGET, *sanitizers)
        objects = [target]
        for name in SOURCES:
            objects.append(self.compile(name, *sanitizers))
            relink.redirect(objects[-1], objects[-1],
                                 relink.wrapped(target))
        program = self.path('fuzz')
        done = subprocess.run(
            ['clang', '-no-pie', *sanitizers, *objects, '-o', program],
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if 'libclang_rt' in done.stderr:
            fixtures.tool_missing(f'no libFuzzer: {done.stderr}')
        self.assertEqual(done.returncode, 0, done.stderr)
        return program

    def found(self):
        """Return the inputs that found faults, to be added to FOUND."""
        lines = []
        for name in os.listdir(self.directory):
            if name.startswith(('crash-', 'leak-', 'timeout-', 'oom-')):
                with open(self.path(name), 'rb') as file:
                    data = base64.b64encode(file.read()).decode()
                lines.append(f'\n{name}: {data}')
        return ''.join(lines)

    def test_nothing_breaks_the_writers(self):
        program = self.build()
        corpus = CORPUS or self.path('corpus')
        os.makedirs(corpus, exist_ok=True)
        for number, data in enumerate([*map(base64.b64decode, FOUND),
                                       *seeds()]):
            with open(os.path.join(corpus, f'seed{number}'), 'wb') as file:
                file.write(data)
        # At the end of the process newer versions of libgcc forget what is registered,
        # and the objects for it are not freed.
        suppressions = self.path('suppressions')
        with open(suppressions, 'w', encoding='ascii') as file:
            file.write('leak:__register_frame\n')
        run = self.run_command(
            [program, '-max_len=4096', '-timeout=60', '-print_final_stats=1',
             *([f'-max_total_time={SECONDS}'] if SECONDS else REPEATABLE),
             f'-artifact_prefix={self.directory}/', corpus],
            env=fixtures.clean_environment(
                JITDUMPDIR=self.directory,
                LSAN_OPTIONS=f'suppressions={suppressions}:print_suppressions=0'),
            returncode=None)
        self.assertEqual(run.returncode, 0, run.err[-6000:] + self.found())
        [runs] = re.findall(r'number_of_executed_units: (\d+)', run.err)
        print(f'{runs} inputs')
        self.assertGreater(int(runs), 1000)
        # It reached far into the code: names with escapes, copied entries.
        [*_, reached] = re.findall(r'cov: (\d+)', run.err)
        self.assertGreater(int(reached), 300)


if __name__ == '__main__':
    unittest.main()
