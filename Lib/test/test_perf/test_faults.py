"""Each call that profiling makes fails: once at its turn, then always from
there.

The program must not notice: its results, output and exit status stay the same.
One warning names the cause.  Nothing leaks, and no file has a partial entry.
After the fault profiling can be switched on again.  Then its file has the
functions that are called, also those that were called before.

relink.py links the interpreter again for this.  faults_walk.py plays the
cases.
"""

import concurrent.futures
import errno
import json
import os
import resource
import subprocess
import sys
import tempfile
import unittest

from test.support import os_helper
from test.test_perf import fixtures, jitdump, relink

WALK = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    'faults_walk.py')

# Functions that our files call and that are not made to fail.  They cannot fail,
# or the caller could not react: computations, ids of the process, signal masks,
# releasing a lock.  access() only decides whether an effort is worthwhile.
# Wrong arguments, for PyArg_ParseTupleAndKeywords(), are in
# test_calls.py.
CANNOT_FAIL = set("""
    PyArg_ParseTupleAndKeywords
    PyBool_FromLong PyErr_Clear PyErr_ExceptionMatches PyErr_Format
    PyErr_SetString PyExc_RuntimeError PyExc_TypeError
    PyExc_UnicodeEncodeError PyExc_ValueError PyGILState_GetThisThreadState
    PyInterpreterState_Head
    PyInterpreterState_Next PyInterpreterState_ThreadHead PyOS_snprintf
    PySys_GetObject PyThreadState_Next PyThread_acquire_lock
    PyThread_release_lock
    PyThread_get_thread_ident PyUnicode_AsUTF8AndSize PyUnicode_Type
    Py_hexdigits
    _GLOBAL_OFFSET_TABLE_ __errno_location __libc_single_threaded __stack_chk_fail
    _PyOpcode_Deopt
    access
    clock_gettime
    getenv geteuid getpagesize getpid memcmp memcpy memset pthread_attr_destroy
    pthread_attr_getstack pthread_self pthread_sigmask
    sched_yield
    sigaddset sigemptyset sigismember sigpending sigwait sprintf strcmp
    strerror strlen strnlen strrchr strspn syscall wcscmp wcslen wcsncmp
    _PyCode_GetExtra _PyCode_InitAddressRange _PyErr_Fetch _PyErr_Restore _PyEval_EvalFrameDefault
    _PyLineTable_NextAddressRange _PyInterpreterState_SetEvalFrameFunc _PyRuntime _Py_Dealloc _Py_GetEnv
    _Py_NoneStruct
    PyMutex_Unlock PyUnstable_Code_GetExtra _PyMutex_LockTimed _Py_tss_tstate
    _PyEval_StartTheWorldAll _PyEval_StopTheWorldAll _PyRecursiveMutex_IsLockedByCurrentThread
    _PyRecursiveMutex_Lock _PyRecursiveMutex_Unlock _Py_DecRefShared _Py_MergeZeroLocalRefcount
    """.split())

# Our own functions are tested, not replaced.
OURS = ('_PyPerf',)

# The words of a warning, if they are not those of the errno.
REASONS = {
    ('mmap', errno.EPERM): [os.strerror(errno.EPERM), 'mounted noexec'],
    ('write', 1000): [os.strerror(errno.ENOSPC)],
    ('extra_index', errno.ENOMEM): ['other extensions use its place'],
    ('dl_iterate', 0): ["trampoline's unwind information"],
}

# A descriptor stays open if the system does not confirm that it is ours, or if
# another thread may be writing to it.
LEAVES_OPEN = {'fstat', 'lock'}

executable = directory = None


def setUpModule():
    global executable, directory
    fixtures.require_trampoline()
    fixtures.require_no_emulation(
        'qemu-user answers calls that the kernel would refuse')
    directory = os.path.realpath(tempfile.mkdtemp(prefix='test_perf_'))
    unittest.addModuleCleanup(os_helper.rmtree, directory)
    # A usual limit.  Our descriptors are above it.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    unittest.addModuleCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
    executable = relink.build(directory)


def reasons(kind, number):
    """Return words of which a warning about this cause has at least one."""
    return REASONS.get((kind, number), [os.strerror(number)])


class CompletenessTests(fixtures.PerfTestCase):

    def test_everything_that_can_fail_is_made_to_fail(self):
        build = relink.Build()
        self.assertGreater(len(build.our_objects), 10)
        calls = {name for name in relink.our_calls(build, directory)
                 if not name.startswith(OURS)}
        faults = relink.wrapped(os.path.join(directory, 'perf_faults.o'))
        self.assertEqual(calls - faults - CANNOT_FAIL, set())
        # Each name is used.  An unused one would be a spelling mistake.
        self.assertEqual(faults - calls, set())

    def test_the_turn_is_kept(self):
        run = self.run_command(
            [sys.executable, '-c', """if True:
                import _perf_faults, errno, sys
                _perf_faults.arm('open', 2, errno.ENFILE, False)
                for i in range(3):
                    sys.activate_stack_trampoline('perf')
                    print(sys.is_stack_trampoline_active(), end=' ')
                    sys.deactivate_stack_trampoline()
                    sys.activate_stack_trampoline('perf_jit')
                    sys.deactivate_stack_trampoline()
                print(_perf_faults.hits()['open'])
                """], executable=executable)
        self.assertEqual(run.out, 'True True True 1\n')
        self.assert_one_warning(run, '/tmp/jit-', os.strerror(errno.ENFILE))

    def test_a_refused_arena_uses_up_no_numbers(self):
        """There is an address in memory for each number."""
        runs = [self.run_command(
            [sys.executable, '-c', """if True:
                import _perf_faults, errno, os, sys
                _perf_faults.arm('mprotect', 1, errno.EACCES, True)
                for i in range(int(sys.argv[1])):
                    sys.activate_stack_trampoline('perf')
                _perf_faults.reset()
                sys.activate_stack_trampoline('perf')
                def function(): pass
                function()
                with open(f'/tmp/perf-{os.getpid()}.map') as file:
                    [line] = [line for line in file if 'function' in line]
                address, size, name = line.split()
                with open('/proc/self/mem', 'rb', buffering=0) as memory:
                    memory.seek(int(address, 16) + int(size, 16) - 8)
                    print(int.from_bytes(memory.read(8), sys.byteorder))
                """, str(refused)], executable=executable)
            for refused in (0, 100)]
        self.assertEqual([len(run.warnings) for run in runs], [0, 100])
        self.assertEqual([run.err_without_warnings for run in runs], ['', ''])
        self.assertEqual(runs[1].out, runs[0].out)

    def test_nothing_is_kept_for_a_name(self):
        for mode in ('perf', 'perf_jit'):
            run = self.run_command(
                [sys.executable, '-X', mode, '-c', """if True:
                    import types, _perf_faults
                    def call(name):
                        types.FunctionType(call.__code__.replace(
                            co_qualname=name, co_consts=(None,),
                            co_code=return_none), {})(1)
                    def nothing(name): pass
                    return_none = nothing.__code__.co_code
                    call('warm')
                    for i in range(100):        # makes an arena with more room
                        call('warm' * 1000)
                    before = _perf_faults.balance()
                    for i in range(50):
                        call('long' * 1000 + str(i))
                        call('\\xfc\\ud800' * 1000 + str(i))
                    print(_perf_faults.balance() == before)
                    """], executable=executable)
            self.assertEqual((run.out, run.err), ('True\n', ''))


def describe(case):
    faults = ', '.join(f'{kind} {turn} {number}{" for ever" * forever}'
                       for kind, turn, number, forever in case['faults'])
    return f'{case["mode"]} {case["phase"]}: {faults or "no fault"}'


class WalkTestCase(fixtures.PerfTestCase):

    executable = property(lambda self: executable)
    leaks_of_none = None
    timeout = fixtures.TIMEOUT

    def walk(self, mode, phase):
        """Return the cases. The first one has no fault."""
        directory = self.path(mode)
        os.mkdir(directory)
        run = subprocess.run(
            [sys.executable, WALK, mode, phase, directory],
            executable=self.executable,
            env=fixtures.clean_environment(
                ASAN_OPTIONS='detect_leaks=1:exitcode=99'),
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=self.timeout)
        self.assertEqual((run.returncode, run.stderr), (0, ''))
        cases = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertFalse(any(cases[0]['hits'].values()))
        return cases

    def judge(self, case, reference):
        """Return what is wrong with a case, as a list of strings."""
        wrong = []

        def check(condition, text):
            if not condition:
                wrong.append(text)

        check(case['status'] == 7, f'exit status {case["status"]}')
        check(len(case['processes']) == len(reference['processes']),
              f'{len(case["processes"])} processes have reported')
        causes = [reason for kind, _, number, _ in case['faults']
                  for reason in reasons(kind, number)]
        off = told = 0
        for seen, usual in zip(case['processes'], reference['processes']):
            who = 'the child ' if usual is not reference['processes'][0] \
                else ''
            check(seen.get('inner_status', 5) == 5,
                  f'the child ended with {seen.get("inner_status")}')
            check(seen['result'], f'{who}has another result')
            check(seen['again_result'], f'{who}has another result again')
            check(seen['again_active'], f'{who}cannot be switched on again')
            check('again_exception' not in seen,
                  f'{who}raised {seen.get("again_exception")}')
            if seen['active']:
                # Some phases also close descriptors that are not ours.
                check(case is not reference
                      or seen['balance'][3] <= seen['descriptors'],
                      f'{who}has {seen["balance"][3]} descriptors, '
                      f'not {seen["descriptors"]}')
                check(not seen['file'], f'{who}file: {seen["file"][:300]}')
            else:
                off += 1
                check(not any(number == errno.EINTR
                              for _, _, number, _ in case['faults']),
                      f'{who}an interrupted call was not repeated')
                # The file has whole entries, but not all.  The last may be
                # partial while it can be neither completed nor removed.
                check(not seen['file'] or 'missing' in seen['file']
                      or case['hits']['ftruncate'] > 0,
                      f'{who}file: {seen["file"][:300]}')
            if seen['exception']:
                told += 1
                check(any(r in seen['exception'] for r in causes),
                      f'{who}exception: {seen["exception"]}')
            check(not seen['again_file'],
                  f'{who}file again: {seen["again_file"][:300]}')
            leak = [a - b for a, b in zip(seen['balance'], usual['balance'])]
            check(seen['leaks'] == usual['leaks'], f'{who}leaks')
            left_open = sum(case['hits'][kind] for kind in LEAVES_OPEN)
            check(leak[0] <= 0 and leak[1] <= 0
                  and max(leak[2:]) <= left_open,
                  f'{who}balance {seen["balance"]}, not {usual["balance"]}')
        lines = case['errors'].splitlines()
        if case['phase'] == 'at_exit':      # after the report
            off = min(len(lines), 1)
        check(len(lines) + told == off, f'{off} off, told: {lines}')
        for line in lines:
            check(line.startswith(fixtures.WARNING)
                  and any(reason in line for reason in causes),
                  f'stderr: {line}')
        return wrong

    def check_phase(self, phase, *kinds):
        """Play the phase in both modes.  At least these kinds of calls failed.
        """
        modes = ('perf', 'perf_jit')
        with concurrent.futures.ThreadPoolExecutor(len(modes)) as pool:
            walks = list(pool.map(self.walk, modes, [phase] * len(modes)))
        for cases in walks:
            reference = cases[0]
            self.assertEqual(self.judge(reference, reference), [])
            for process in reference['processes']:
                self.assertTrue(process['active'])
                self.assertIs(process['leaks'], self.leaks_of_none)
            hit = {kind for case in cases
                   for kind, number in case['hits'].items() if number}
            self.assertLessEqual(set(kinds), hit)
            for case in cases:
                with self.subTest(describe(case)):
                    self.assertEqual(self.judge(case, reference), [])


class WalkTests(WalkTestCase):

    def test_activation(self):
        self.check_phase('at_activation', 'memory', 'encode', 'set_extra',
                         'extra_index', 'mmap', 'mprotect', 'madvise',
                         'open', 'close', 'fstat', 'fchmod', 'write',
                         'fcntl', 'getrlimit', 'setrlimit', 'dl_iterate', 'atfork')

    def test_another_activation(self):
        self.check_phase('at_another_activation', 'open', 'fstat', 'write')

    def test_an_old_file_in_the_way(self):
        self.check_phase('when_an_old_file_is_there', 'ftruncate')

    def test_a_change_of_the_mode(self):
        self.check_phase('when_the_mode_changes', 'open', 'write')

    def test_the_first_calls_of_functions(self):
        self.check_phase('at_first_calls', 'memory', 'encode', 'set_extra',
                         'write')

    def test_activation_with_lines(self):
        self.check_phase('at_activation_with_lines', 'memory', 'mmap', 'mprotect', 'write')

    def test_fork_with_lines(self):
        self.check_phase('at_fork_with_lines', 'memory', 'mmap', 'mprotect', 'write')

    def test_a_full_arena(self):
        self.check_phase('in_a_full_arena', 'memory', 'mmap', 'mprotect', 'madvise')

    def test_closed_descriptors(self):
        self.check_phase('when_descriptors_are_closed', 'open', 'fstat')

    def test_a_file_that_is_gone(self):
        self.check_phase('when_the_file_is_gone', 'open', 'fstat')

    def test_switching_off(self):
        self.check_phase('when_switched_off', 'fstat', 'close')

    def test_fork(self):
        self.check_phase('at_fork', 'lock', 'open', 'mprotect', 'write')

    def test_fork_with_persist(self):
        self.check_phase('at_fork_with_persist', 'open', 'write')

    def test_fork_by_c_code(self):
        self.check_phase('at_fork_by_c_code', 'open', 'mprotect', 'write')

    def test_fork_by_c_code_with_persist(self):
        self.check_phase('at_fork_by_c_code_with_persist', 'open', 'write')

    def test_a_program_that_cannot_be_executed(self):
        self.check_phase('when_a_program_cannot_be_executed', 'lstat',
                         'unlink', 'open', 'lseek', 'read', 'write')

    def test_the_end(self):
        self.check_phase('at_exit', 'fstat', 'close')


class SanitizedTests(WalkTestCase):
    """The same with AddressSanitizer and UndefinedBehaviorSanitizer."""

    executable = None
    leaks_of_none = False           # LeakSanitizer has run
    timeout = 3 * fixtures.TIMEOUT  # a second for a case, on a busy machine

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        place = os.path.join(directory, 'sanitized')
        os.mkdir(place)
        cls.executable = relink.build(place, sanitized=True)

    def test_activation(self):
        self.check_phase('at_activation', 'memory', 'encode', 'mmap')

    def test_activation_with_lines(self):
        self.check_phase('at_activation_with_lines', 'memory', 'mmap')

    def test_a_file_that_is_gone(self):
        self.check_phase('when_the_file_is_gone', 'open', 'fstat')

    def test_fork_with_persist(self):
        self.check_phase('at_fork_with_persist', 'open', 'write')


# These happen once for each function.  Other tests let them fail for ever.
MANY_AT_START = {'set_extra', 'lock'}

# Has an exit status of its own.  Its last activation is without faults.
STARTED = """\
import sys, _perf_faults

def first(): return 'first'
def again(): return 'again'

print(first(), sys.is_stack_trampoline_active())
_perf_faults.reset()
try:
    sys.activate_stack_trampoline(sys.argv[1])
except RuntimeError as error:
    print(error)
print(again(), sys.is_stack_trampoline_active())
first()
import colorsys     # calls what was called while the interpreter started
sys.deactivate_stack_trampoline()
print(sum(_perf_faults.hits().values()), *_perf_faults.balance())
sys.exit(7)
"""


class StartTests(WalkTestCase):
    """Faults while the interpreter starts, each in a new process."""

    def start(self, mode, fault=''):
        run = self.run_command(
            [sys.executable, '-X', mode, '-c', STARTED, mode],
            env=fixtures.clean_environment(PERF_FAULTS=fault),
            executable=executable, returncode=7)
        if mode == 'perf':
            run.names_of_file = run.names
        else:
            dump = jitdump.read(f'/tmp/jit-{run.pid}.dump')
            run.names_of_file = [f.load.name for f in dump.functions()]
        run.hits, *run.balance = map(int, run.out.splitlines()[-1].split())
        return run

    def walk_kind(self, mode, fault):
        """Return a list of (what failed, the run). The last run met no fault.
        """
        kind, number, forever = fault
        runs = []
        while not runs or runs[-1][1].hits:
            what = f'{kind}:{len(runs) + 1}:{number}{":forever" * forever}'
            runs.append((what, self.start(mode, what)))
        return runs

    def check_start(self, mode, *kinds):
        usual = self.start(mode)
        faults = [(*fault, False)
                  for fault in relink.FAULTS + relink.ONCE]
        faults += [(*fault, True) for fault in relink.FAULTS
                   if fault[0] not in MANY_AT_START]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            walks = list(pool.map(self.walk_kind, [mode] * len(faults),
                                  faults))
        self.assertLessEqual(set(kinds), {fault[0] for fault, walk
                                          in zip(faults, walks) if walk[1:]})
        for (kind, number, _), walk in zip(faults, walks):
            for what, run in walk:
                with self.subTest(mode=mode, fault=what):
                    self.check(run, usual, kind, number)

    def check(self, run, usual, kind, number):
        first, again, _ = run.out.splitlines()
        self.assertIn(first, ('first True', 'first False'))
        self.assertEqual(again, 'again True')
        for name in ('again:<string>', 'first:<string>',
                     '_find_and_load:<frozen importlib._bootstrap>'):
            self.assertIn(f'py::{name}', run.names_of_file)
        self.assertEqual(run.err_without_warnings, '')
        if first == 'first True':
            self.assertEqual(run.warnings, [])
        else:
            [warning] = run.warnings
            self.assertTrue(any(reason in warning
                                for reason in reasons(kind, number)), warning)
        leak = [a - b for a, b in zip(run.balance, usual.balance)]
        self.assertLessEqual(leak[0], 0, 'memory')
        self.assertLessEqual(leak[1], 0, 'mappings')
        self.assertLessEqual(leak[2], run.hits if kind in LEAVES_OPEN else 0)

    KINDS = ('memory', 'set_extra', 'extra_index', 'mmap', 'mprotect', 'madvise',
             'open', 'close', 'fstat', 'fchmod', 'write', 'fcntl',
             'getrlimit', 'setrlimit', 'dl_iterate', 'atfork')

    def test_with_a_map(self):
        self.check_start('perf', 'lock', *self.KINDS)

    def test_with_a_jitdump(self):
        self.check_start('perf_jit', *self.KINDS)


if __name__ == '__main__':
    unittest.main()
