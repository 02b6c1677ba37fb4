"""Threads, subinterpreters, and starting the interpreter again.

Threads call new functions while others switch profiling on and off.  Threads
outlive the interpreter.  A program starts and ends its interpreter again and
again.
"""

import collections
import os
import sys
import tempfile
import unittest

from test.support import import_helper, os_helper
from test.test_perf import fixtures, jitdump, relink
from test.test_perf.modes import (
    JitdumpMode, MODES, MapMode, dump_path, names_of)


def setUpModule():
    fixtures.require_trampoline()


class ThreadSwitchTests(fixtures.PerfTestCase):

    def test_thousands_of_switches_while_threads_call_new_functions(self):
        # Switch between two modes and off.  Each thread's results stay right.  Without
        # the GIL, all threads are stopped each time.
        least = 1_000 if fixtures.FREE_THREADED else 10_000
        run = self.run_python("""\
            import random, sys, threading

            def deep(n):
                return deep(n - 1) + 1 if n else 0

            def generator(n):
                for i in range(n):
                    yield deep(i)

            def work(name):
                try:
                    for i in range(800):
                        space = {}
                        exec(f'def {name}{i}(n): return n + {i}', space)
                        function = space[f'{name}{i}']
                        assert function(1) == i + 1
                        assert sum(map(function, [1, 2])) == 2 * i + 3
                        assert deep(45) == 45
                        assert list(generator(5)) == [0, 1, 2, 3, 4]
                    done.append(name)
                except BaseException as error:
                    print(error, flush=True)

            def switch(seed):
                choice = random.Random(seed)
                count = 0
                while len(done) < 6 or count < int(sys.argv[1]):
                    match choice.randrange(3):
                        case 0: sys.activate_stack_trampoline('perf')
                        case 1: sys.activate_stack_trampoline('perf_jit')
                        case 2: sys.deactivate_stack_trampoline()
                    count += 1
                    deep(choice.randrange(40))
                switches.append(count)

            sys.setswitchinterval(1e-5)
            done, switches = [], []
            threads = [threading.Thread(target=work, args=(name,))
                       for name in 'abcdef']
            threads.append(threading.Thread(target=switch, args=(1,)))
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sorted(done), switches[0] >= int(sys.argv[1]))
            """, args=[str(least)])
        self.assertEqual(run.out,
                         "['a', 'b', 'c', 'd', 'e', 'f'] True\n")
        self.assertEqual(run.err, '')
        for mode in MODES:
            names_of(mode, run.pid)

    def test_two_threads_switch(self):
        run = self.run_python("""\
            import sys, threading

            def work(name, mode):
                for i in range(1500):
                    sys.activate_stack_trampoline(mode)
                    exec(f'def {name}{i}(): pass\\n{name}{i}()', {})
                    sys.deactivate_stack_trampoline()
                done.append(name)

            sys.setswitchinterval(1e-5)
            done = []
            threads = [threading.Thread(target=work, args=arguments)
                       for arguments in [('a', 'perf'), ('b', 'perf_jit')]]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(*sorted(done))
            """)
        self.assertEqual((run.out, run.err), ('a b\n', ''))
        for mode in MODES:
            names_of(mode, run.pid)

    def test_threads_of_c_code_come_while_others_switch(self):
        # They start without the GIL while all stacks are walked.
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, sys, threading

            libc = ctypes.CDLL(None)

            @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
            def body(argument):
                counts.append(nested(10))

            def nested(n):
                return nested(n - 1) + 1 if n else 0

            def start():
                for i in range(60):
                    threads = [ctypes.c_ulong() for i in range(20)]
                    for thread in threads:
                        assert not libc.pthread_create(
                            ctypes.byref(thread), None, body, None)
                    for thread in threads:
                        libc.pthread_join(thread, None)

            def switch():
                while starting.is_alive():
                    for mode in 'perf', 'perf_jit':
                        sys.activate_stack_trampoline(mode)

            counts = []
            starting = threading.Thread(target=start)
            starting.start()
            switching = threading.Thread(target=switch)
            switching.start()
            starting.join()
            switching.join()
            print(len(counts), sum(counts))
            """)
        self.assertEqual((run.out, run.err), ('1200 12000\n', ''))
        for mode in MODES:
            names_of(mode, run.pid)

    def test_daemon_threads_at_the_end(self):
        # Without the GIL, CPython itself can wait forever if threads compile code at the
        # end: a daemon thread that cannot run any more owns the lock of the dictionary of
        # interned strings.  There the functions exist already.
        functions = ('itertools.cycle(list(map(define, range(1000))))'
                     if fixtures.FREE_THREADED else
                     'map(define, itertools.count())')
        for mode in MODES:
            for _ in range(10):
                run = self.run_python("""\
                    import itertools, sys, threading

                    def busy(name):
                        def define(i):
                            space = {}
                            exec(f'def {name}{i}(): pass', space)
                            return space[f'{name}{i}']

                        for i, function in enumerate(FUNCTIONS, 1):
                            function()
                            if i == 20:
                                started.release()

                    def switches(mode):
                        while True:
                            sys.deactivate_stack_trampoline()
                            sys.activate_stack_trampoline(mode)

                    sys.setswitchinterval(1e-5)
                    started = threading.Semaphore(0)
                    for name in 'abcd':
                        threading.Thread(target=busy, args=(name,),
                                         daemon=True).start()
                    threading.Thread(target=switches, args=sys.argv[1:],
                                     daemon=True).start()
                    for name in 'abcd':
                        started.acquire()
                    """.replace('FUNCTIONS', functions), mode, args=[mode])
                self.assertEqual(run.err, '')
                names = names_of(mode, run.pid)
                self.assert_once(names, 'busy')


class ThreadTests:

    def test_threads_call_new_functions(self):
        run = self.run_on_and_off("""\
            import threading

            results = []

            def work(name):
                for i in range(500):
                    namespace = {}
                    exec(f'def {name}{i}(): return {i}', namespace)
                    results.append(namespace[f'{name}{i}']())

            threads = [threading.Thread(target=work, args=(name,))
                       for name in 'abcd']
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sum(results))
            """)
        self.assert_good_entries(run.entries)
        counts = collections.Counter(run.names)
        self.assertEqual(
            {counts[f'py::{name}{i}:<string>']
             for name in 'abcd' for i in range(500)}, {1})

    def test_threads_call_the_same_new_functions_at_once(self):
        run = self.run_on_and_off("""\
            import threading

            def new(i):
                namespace = {}
                exec(f'def same{i}(): return {i}', namespace)
                return namespace[f'same{i}']

            def work():
                for function in functions:
                    barrier.wait()
                    results.append(function())

            functions = [new(i) for i in range(600)]
            results = []
            barrier = threading.Barrier(8)
            threads = [threading.Thread(target=work) for i in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sum(results))
            """)
        self.assertEqual(run.out, f'{8 * sum(range(600))}\n')
        self.assert_good_entries(run.entries)
        counts = collections.Counter(run.names)
        self.assertEqual({counts[f'py::same{i}:<string>'] for i in range(600)}, {1})

    def test_functions_die_on_other_threads(self):
        run = self.run_on_and_off("""\
            import gc, threading

            def new(i):
                namespace = {}
                exec(f'def short{i}(): return {i}', namespace)
                return namespace[f'short{i}']

            def work():
                for i in range(40):
                    for j in range(25):
                        function = new(j)
                        results.append(function())
                        kept.append(function)
                        kept.pop(0)
                    gc.collect()

            kept = [new(1000), new(1001)]
            results = []
            threads = [threading.Thread(target=work) for i in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sum(results))
            """)
        self.assertEqual(run.out, f'{4 * 40 * sum(range(25))}\n')
        self.assert_good_entries(run.entries)
        names = [name for name in run.names if name.startswith('py::short')]
        self.assertEqual(set(names), {f'py::short{i}:<string>' for i in range(25)})
        # Without the GIL, functions of a program with threads live until it ends.
        if self.REUSES_FOR_SAME_NAME and not fixtures.FREE_THREADED:
            self.assertLess(len(names), 4 * 40 * 25 // 4)

    def test_a_thread_switches_while_others_run(self):
        run = self.run_python("""\
            import sys, threading

            results = []

            def deep(n):
                return deep(n - 1) + 1 if n else 0

            def work(name):
                for i in range(500):
                    namespace = {}
                    exec(f'def {name}{i}(): return {i}', namespace)
                    results.append(namespace[f'{name}{i}']() + deep(10))

            def switch():
                while any(thread.is_alive() for thread in threads):
                    sys.activate_stack_trampoline('@MODE@')
                    sys.deactivate_stack_trampoline()

            sys.setswitchinterval(1e-5)
            threads = [threading.Thread(target=work, args=(name,))
                       for name in 'abcd']
            for thread in threads: thread.start()
            switching = threading.Thread(target=switch)
            switching.start()
            for thread in threads: thread.join()
            switching.join()
            print(sum(results) == 4 * sum(range(10, 510)))
            """)
        self.assertEqual(run.out, 'True\n')
        self.assertEqual(run.err, '')
        self.assert_good_entries(run.entries)

    def test_a_thread_may_leave_by_pthread_exit(self):
        # Its stack is unwound through the trampolines.
        import_helper.import_module('ctypes')
        run = self.run_on_and_off("""\
            import _thread, ctypes, os, threading

            def outer():
                leaving()

            def leaving():
                ready.set()
                ctypes.CDLL(None).pthread_exit(None)

            def threads():      # qemu-user has one of its own
                return len(os.listdir('/proc/self/task'))

            before = threads()
            ready = threading.Event()
            _thread.start_new_thread(outer, ())
            ready.wait()
            while threads() > before:
                pass
            print('alive')
            """)
        self.assert_written(run, 'leaving')

    def test_daemon_threads_live_on_at_the_end(self):
        for i in range(5):
            run = self.run_python("""\
                import threading

                def busy(name):
                    i = 0
                    while True:
                        exec(f'def {name}{i}(): pass\\n{name}{i}()')
                        i += 1
                        ready.set()

                ready = threading.Event()
                for name in 'abc':
                    threading.Thread(target=busy, args=(name,),
                                     daemon=True).start()
                ready.wait()
                """)
            self.assert_written(run, 'busy')
            self.assert_good_entries(run.entries)


class MapThreadTests(ThreadTests, MapMode):
    REUSES_FOR_SAME_NAME = True


class JitdumpThreadTests(ThreadTests, JitdumpMode):
    REUSES_FOR_SAME_NAME = False    # each function has its time


class SubinterpreterTests:

    def setUp(self):
        super().setUp()
        import_helper.import_module('test.test_perf.subinterpreters')

    def test_a_subinterpreter_lives_and_dies(self):
        run = self.run_on_and_off("""\
            from test.test_perf import subinterpreters as interpreters

            def before(): pass
            def after(): pass

            before()
            for i in range(3):
                new = interpreters.create()
                interpreters.run_string(
                    new, 'def within(): print("within")\\nwithin()')
                interpreters.destroy(new)
            after()
            """)
        self.assertEqual(run.out, 'within\n' * 3)
        self.assert_written(run, 'before', 'after')
        self.assert_good_entries(run.entries)

    def test_a_subinterpreter_can_be_switched_by_itself(self):
        run = self.run_python("""\
            from test.test_perf import subinterpreters as interpreters
            import sys

            def after(): pass

            new = interpreters.create()
            interpreters.run_string(new, '''if True:
                import sys
                sys.activate_stack_trampoline('@MODE@')
                def within(): pass
                within()
                print(sys.is_stack_trampoline_active())
                sys.deactivate_stack_trampoline()
                print(sys.is_stack_trampoline_active())
                ''')
            interpreters.destroy(new)
            after()
            print(sys.is_stack_trampoline_active())
            """)
        self.assertEqual(run.out, 'True\nFalse\nTrue\n')
        self.assert_written(run, 'after')
        self.assertEqual([name for name in run.names if 'within' in name],
                         ['py::within:<string>'])

    def test_a_subinterpreter_shares_the_file(self):
        run = self.run_python("""\
            import sys
            from test.test_perf import subinterpreters as interpreters

            def outer(): pass

            outer()
            interpreter = interpreters.create()
            interpreters.run_string(interpreter, '''if True:
                def inner(): pass
                inner()
                ''')
            interpreters.destroy(interpreter)
            def late(): pass
            late()
            """)
        self.assert_written(run, 'outer', 'late')
        self.assertEqual([name for name in run.names if 'inner' in name],
                         ['py::inner:<string>'])


class MapSubinterpreterTests(SubinterpreterTests, MapMode):
    pass


class JitdumpSubinterpreterTests(SubinterpreterTests, JitdumpMode):
    pass


class SubinterpreterModeTests(fixtures.PerfTestCase):

    def setUp(self):
        super().setUp()
        import_helper.import_module('test.test_perf.subinterpreters')

    def test_each_is_profiled(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.run_python("""\
                    import textwrap
                    from test.test_perf import subinterpreters as interpreters

                    new = [interpreters.create() for _ in range(10)]
                    for number, interpreter in enumerate(new):
                        interpreters.run_string(interpreter, textwrap.dedent(
                            f'''
                            import sys
                            def within{number}(n):
                                return within{number}(n - 1) + 1 if n else 0
                            assert within{number}(100) == 100
                            assert sys.is_stack_trampoline_active()
                            '''))
                    for interpreter in new[::-1]:
                        interpreters.destroy(interpreter)
                    """, mode)
                self.assertEqual(run.err, '')
                self.assertEqual(
                    {name for name in names_of(mode, run.pid)
                     if name.startswith('py::within')},
                    {f'py::within{n}:<string>' for n in range(10)})

    def test_none_outlives_its_code(self):
        # When an interpreter ends, its code objects are destroyed, and nothing
        # refers to them any more.  In jitdump mode their addresses are used
        # again.
        run = self.run_python("""\
            import os, sys
            from test.test_perf import subinterpreters as interpreters

            def size():
                with open('/proc/self/maps') as file:
                    return sum(' r-xp 00000000 00:00 0' in line
                               for line in file)

            source = '''if True:
                import sys
                for i in range(200):
                    exec(f'def f{i}(n): return [*map(f{i}, [n - 1])] '
                         f'if n else []')
                    locals()[f'f{i}'](3)
                '''
            sizes = []
            for number in range(40):
                new = interpreters.create()
                interpreters.run_string(new, source)
                interpreters.destroy(new)
                # Every slot is looked at.
                sys.deactivate_stack_trampoline()
                sys.activate_stack_trampoline('perf_jit')
                sizes.append(size())
            print(sizes[10] == sizes[-1] or sizes)
            """, 'perf_jit')
        self.assertEqual((run.out, run.err), ('True\n', ''))
        names_of('perf_jit', run.pid)

    def test_they_are_switched_in_threads(self):
        run = self.run_python("""\
            import threading
            from test.test_perf import subinterpreters as interpreters

            def run(number):
                new = interpreters.create()
                for i in range(20):
                    interpreters.run_string(new, f'''if True:
                        import sys
                        sys.activate_stack_trampoline('perf')
                        try:
                            sys.activate_stack_trampoline('perf_jit')
                        except RuntimeError as error:
                            assert 'another interpreter' in str(error), error
                        else:
                            assert False
                        def f{number}_{i}(n):
                            return f{number}_{i}(n - 1) + 1 if n else 0
                        assert f{number}_{i}(70) == 70
                        sys.deactivate_stack_trampoline()
                        assert f{number}_{i}(70) == 70
                        ''')
                interpreters.destroy(new)
                done.append(number)

            # In 3.11 a busy thread does not release the GIL for threads of other
            # interpreters.  So this thread only waits.
            done = []
            threads = [threading.Thread(target=run, args=(n,))
                       for n in range(6)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sorted(done))
            """)
        self.assertEqual((run.out, run.err), ('[0, 1, 2, 3, 4, 5]\n', ''))
        names = names_of('perf', run.pid)
        for number in range(6):
            for i in range(20):
                self.assertEqual(names.count(f'py::f{number}_{i}:<string>'), 1)
        self.assertFalse(os.path.lexists(dump_path(run.pid)))

    @unittest.skipIf(sys.version_info < (3, 13), 'all interpreters share one GIL')
    def test_others_with_their_own_gil_come_and_go(self):
        # They run at the same time as the thread that switches.  It takes long to
        # switch on: a new file names all functions on the stack.
        run = self.run_python("""\
            import _interpreters, os, sys, threading

            def come_and_go():
                while not ended:
                    _interpreters.destroy(_interpreters.create('isolated'))

            def f0():
                for i in range(1000):
                    sys.activate_stack_trampoline('perf')
                    sys.deactivate_stack_trampoline()
                    os.unlink(f'/tmp/perf-{os.getpid()}.map')
                sys.activate_stack_trampoline('perf')

            sys.setrecursionlimit(3000)
            for i in range(1, 900):
                exec(f'def f{i}(): f{i - 1}()')
            ended = []
            threads = [threading.Thread(target=come_and_go) for i in range(3)]
            for thread in threads: thread.start()
            sys.activate_stack_trampoline('perf')
            try:
                f899()
            finally:
                ended.append(True)
            for thread in threads: thread.join()
            print(sys.is_stack_trampoline_active())
            """, mode=None)
        self.assertEqual((run.out, run.err), ('True\n', ''))
        self.assertLessEqual({f'py::f{i}:<string>' for i in range(1, 900)},
                             set(names_of('perf', run.pid)))


class InterpretersShareOneModeTests(fixtures.PerfTestCase):

    def setUp(self):
        super().setUp()
        import_helper.import_module('test.test_perf.subinterpreters')

    def test_a_subinterpreter_cannot_choose_a_different_mode(self):
        run = self.run_python("""\
            from test.test_perf import subinterpreters as interpreters
            import os, sys

            def after(): pass

            new = interpreters.create()
            interpreters.run_string(new, '''if True:
                import sys
                try:
                    sys.activate_stack_trampoline('perf_jit')
                except RuntimeError as error:
                    print(error)
                print(sys.is_stack_trampoline_active(), flush=True)
                def within(): pass
                within()
                ''')
            after()
            print(sys.is_stack_trampoline_active(),
                  os.path.exists(f'/tmp/jit-{os.getpid()}.dump'))
            """, prepare='rm -f /tmp/jit-$$.dump')
        error, *rest = run.out.splitlines()
        self.assertEqual(error, 'cannot activate the perf trampoline for '
                                "'perf_jit': another interpreter is profiled "
                                "with 'perf'")
        self.assertEqual(rest, ['True', 'True False'])
        self.assert_written(run, 'after')
        self.assertIn('py::within:<string>', run.names)
        self.assertEqual(run.err, '')

    def test_the_main_interpreter_neither(self):
        run = self.run_python("""\
            from test.test_perf import subinterpreters as interpreters
            import sys

            def between(): pass
            def after(): pass

            new = interpreters.create()
            try:
                sys.activate_stack_trampoline('perf_jit')
            except RuntimeError as error:
                print(error)
            between()
            interpreters.run_string(
                new, 'import sys; sys.deactivate_stack_trampoline()')
            sys.activate_stack_trampoline('perf_jit')
            after()
            """)
        self.assertIn("another interpreter is profiled with 'perf'", run.out)
        self.assert_written(run, 'between')
        self.assert_none(run.names, 'after')
        self.assertEqual(run.err, '')

    def test_a_new_subinterpreter_takes_the_mode_of_the_others(self):
        run = self.run_python("""\
            from test.test_perf import subinterpreters as interpreters
            import sys

            def after(): pass

            sys.activate_stack_trampoline('perf_jit')
            new = interpreters.create()
            interpreters.run_string(new, '''if True:
                import sys
                def within(): pass
                within()
                print(sys.is_stack_trampoline_active())
                ''')
            interpreters.destroy(new)
            after()
            """)
        self.assertEqual((run.out, run.err), ('True\n', ''))
        dump = jitdump.read(f'/tmp/jit-{run.pid}.dump')
        for name in (self.script_name('after'), 'py::within:<string>'):
            self.assertEqual(dump.names.count(name), 1)
            self.assertNotIn(name, run.names)

    def test_a_refused_activation_uses_up_no_index(self):
        """An index in co_extra: there are 255, and all users share them."""
        import_helper.import_module('ctypes')
        function = '_PyEval_RequestCodeExtraIndex'
        if sys.version_info >= (3, 12):
            function = 'PyUnstable_Eval_RequestCodeExtraIndex'
        run = self.run_python("""\
            from test.test_perf import subinterpreters as interpreters
            import ctypes, sys

            # Ours is the second one in all interpreters.
            ctypes.pythonapi._PyEval_RequestCodeExtraIndex(None)
            sys.activate_stack_trampoline('perf')
            new = interpreters.create()
            interpreters.run_string(new, '''if True:
                import ctypes, sys
                request = ctypes.pythonapi._PyEval_RequestCodeExtraIndex
                for i in range(300):
                    try:
                        sys.activate_stack_trampoline('perf')
                    except RuntimeError as error:
                        message = str(error)
                print(message)
                print(request(None))
                sys.activate_stack_trampoline('perf')
                print(sys.is_stack_trampoline_active())
                sys.activate_stack_trampoline('perf')
                print(request(None))
                ''')
            """.replace('_PyEval_RequestCodeExtraIndex', function), mode=None)
        error, *rest = run.out.splitlines()
        self.assertIn('other extensions use its place', error)
        self.assertEqual(rest, ['0', 'True', '2'])


class EmbeddingTests(fixtures.PerfTestCase):
    """The interpreter is started and ended again and again in one process."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.mkdtemp(prefix='test_perf_')
        cls.addClassCleanup(os_helper.rmtree, directory)
        cls.program = relink.build_embedding(directory)

    SOURCE = """\
import itertools, os, sys
def count():
    number = int(os.environ.get('ROUND', 0))
    os.environ['ROUND'] = str(number + 1)
    return number
def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')
exec(f'def round{count()}(n): return sorted(range(n), key=lambda k: -k)\\n'
     f'assert round{int(os.environ["ROUND"]) - 1}(3) == [2, 1, 0]')
print(sys.is_stack_trampoline_active(), len(os.listdir('/proc/self/fd')),
      resident(), flush=True)
"""

    def embed(self, mode, rounds, source=None):
        run = self.run_command(
            [sys.executable, str(mode), str(rounds), sys.executable,
             source or self.SOURCE], executable=self.program)
        self.assertEqual(run.err, '')
        return run

    def test_each_round_is_profiled(self):
        for number, mode in enumerate(MODES, 1):
            with self.subTest(mode=mode):
                run = self.embed(number, 12)
                lines = [line.split() for line in run.out.splitlines()]
                self.assertEqual([active for active, *_ in lines],
                                 ['True'] * 12)
                # No round leaves a descriptor.
                self.assertEqual(len({fds for _, fds, _ in lines}), 1, lines)
                names = names_of(mode, run.pid)
                for i in range(12):
                    self.assertEqual(
                        names.count(f'py::round{i}:<string>'), 1)

    def test_all_rounds_use_the_same_memory(self):
        # A jitdump has timestamps, so addresses are used again.
        run = self.embed(2, 40, """\
with open('/proc/self/maps') as file:
    lines = [line.split() for line in file]
print(sum(line[1] == 'r-xp' and line[4] == '0' for line in lines), flush=True)
""")
        counts = run.out.split()
        self.assertEqual(counts[3:], [counts[3]] * 37)

    def test_a_map_grows_once(self):
        # The first end keeps no names, because most processes end then.
        run = self.embed(1, 10, """\
import os
with open(f'/tmp/perf-{os.getpid()}.map') as file:
    print(len(list(file)), flush=True)
""")
        counts = run.out.split()
        self.assertEqual(counts[2:], [counts[2]] * 8)

    def test_off_it_is_off(self):
        run = self.embed(0, 3)
        self.assertEqual([line.split()[0] for line in run.out.splitlines()],
                         ['False'] * 3)

    def test_switched_on_by_the_program_each_time(self):
        run = self.embed(0, 6, """\
import sys
for mode in 'perf', 'perf_jit':
    sys.activate_stack_trampoline(mode)
    def function(n): return n and function(n - 1)
    function(100)
""")
        for mode in MODES:
            self.assertIn('py::function:<string>', names_of(mode, run.pid))

    def test_rounds_with_threads_and_subinterpreters(self):
        import_helper.import_module('test.test_perf.subinterpreters')
        for number, mode in enumerate(MODES, 1):
            with self.subTest(mode=mode):
                run = self.embed(number, 6, """\
import threading
from test.test_perf import subinterpreters as interpreters
def thread():
    new = interpreters.create()
    interpreters.run_string(new, 'def within(): pass\\nwithin()')
    interpreters.destroy(new)
threads = [threading.Thread(target=thread) for _ in range(3)]
for each in threads: each.start()
for each in threads: each.join()
""")
                self.assertIn('py::within:<string>', names_of(mode, run.pid))


if __name__ == '__main__':
    unittest.main()
