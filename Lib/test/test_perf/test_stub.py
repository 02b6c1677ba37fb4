"""The interpreter on platforms that have no trampolines (perf_stub.c).

relink.py links the interpreter again for this, as configure does it there.
"""

import json
import os
import sys
import tempfile
import unittest

from test.support import os_helper
from test.test_perf import extensions, fixtures, relink
from test.test_perf.modes import MODES, VARIABLES
from test.test_perf.programs import TELL

EVALUATORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'evaluators.py')

executable = directory = None


def setUpModule():
    global executable, directory
    fixtures.require_trampoline()
    fixtures.require_no_emulation('the compiler is for the other processor')
    directory = os.path.realpath(tempfile.mkdtemp(prefix='test_perf_'))
    unittest.addModuleCleanup(os_helper.rmtree, directory)
    executable = relink.build_without_trampolines(directory)


class StubTests(fixtures.PerfTestCase):

    LINE = ('python: perf profiling is off: cannot start: '
            'perf trampoline not available\n')

    def run_stub(self, source, mode=None, options=(), **rest):
        return self.run_command(self.python_command(source, mode, options),
                                executable=executable, **rest)

    def test_the_functions_of_sys(self):
        run = self.run_stub("""\
            import sys
            for backend in ('perf', 'perf_jit', 'other', 1):
                for calls in (False, True):
                    try:
                        sys.activate_stack_trampoline(backend, calls=calls)
                    except Exception as error:
                        print(f'{type(error).__name__}: {error}')
            print(sys.is_stack_trampoline_active(), sys.deactivate_stack_trampoline())
            """)
        lines = ['ValueError: perf trampoline not available'] * 4
        lines += ['ValueError: invalid backend: other'] * 2
        lines += ['TypeError: activate_stack_trampoline() argument must be str, not int'] * 2
        self.assertEqual(run.out.splitlines(), [*lines, 'False None'])
        self.assertEqual(run.err, '')

    def test_a_request_is_answered_by_one_line_and_the_program_runs(self):
        for mode in (*MODES, *(f'{mode}=calls' for mode in MODES)):
            with self.subTest(mode=mode):
                run = self.run_stub(TELL, mode)
                self.assertEqual((run.out, run.err), ('False\n', self.LINE))
                self.assertFalse(run.has_map)
        for variable in VARIABLES.values():
            with self.subTest(variable=variable):
                run = self.run_stub(TELL, env=fixtures.clean_environment(**{variable: '1'}))
                self.assertEqual((run.out, run.err), ('False\n', self.LINE))

    def test_without_a_request_there_is_no_line(self):
        for mode in (None, 'perf=0'):
            run = self.run_stub(TELL, mode)
            self.assertEqual((run.out, run.err), ('False\n', ''))

    def test_subinterpreters_threads_and_an_exit_status(self):
        run = self.run_stub("""\
            import sys, threading
            from test.test_perf import subinterpreters as interpreters
            thread = threading.Thread(target=print, args=('thread',))
            thread.start()
            thread.join()
            interpreters.run_string(interpreters.create(), 'print("inner")')
            sys.exit(3)
            """, 'perf', options=['-u'], returncode=3)
        self.assertEqual((run.out, run.err), ('thread\ninner\n', self.LINE))

    def test_the_map_without_trampolines(self):
        """C code may write a map, and a forked child has its own."""
        run = self.run_stub("""\
            import ctypes, os
            api = ctypes.pythonapi

            def write(address, name):
                return api.PyUnstable_WritePerfMapEntry(
                    ctypes.c_void_p(address), ctypes.c_size_t(16), name)

            print(api.PyUnstable_PerfMapState_Init(), write(0x1000, b'outer'))
            print(api.PyUnstable_PerfTrampoline_CompileCode(
                ctypes.py_object(write.__code__)))
            print(api.PyUnstable_PerfTrampoline_SetPersistAfterFork(1), flush=True)
            child = os.fork()
            if child == 0:
                print(write(0x2000, b'inner'), flush=True)
                os._exit(0)
            print(os.waitpid(child, 0)[1], write(0x3000, b'outer again'))
            print(child)
            api.PyUnstable_PerfMapState_Fini()
            """)
        *lines, child = run.out.splitlines()
        self.assertEqual(lines, ['0 0', '0', '0', '0', '0 0'])
        self.assertEqual(run.names, ['outer', 'outer again'])
        self.assertEqual(self.child_names(child), ['inner'])
        self.assertEqual(run.err, '')

    def test_evaluators_of_others(self):
        fixtures.require_frame_pointers()       # the programs walk the stack
        extensions.compile_for_release('perf_evaluators.c', directory)
        env = fixtures.clean_environment(PYTHONPATH=directory)
        for name in ('never', 'two_around_chain_default', 'copies_before', 'fork_after'):
            with self.subTest(name=name):
                found = []
                for options in ({'executable': executable}, {}):
                    run = self.run_command([sys.executable, EVALUATORS, name], env=env,
                                           **options)
                    result = json.loads(run.out)
                    found.append((result['counts'], result['facts'], run.err))
                self.assertEqual(*found)


if __name__ == '__main__':
    unittest.main()
