"""Children that C code forks: the C library tells us, and no hook is called.

The child's file is there before the child runs any Python code.
"""

import os
import re
import tempfile
import unittest
from textwrap import dedent

from test.support import import_helper, os_helper
from test.test_perf import fixtures, parsers
from test.test_perf.extensions import compile_extension
from test.test_perf.modes import JitdumpMode, MapMode


def setUpModule():
    fixtures.require_trampoline()
    import_helper.import_module('ctypes')


# fork() copies the child's file before the child runs Python code, for the
# test.  It checks that the parent's file has not changed.
PRELUDE = dedent("""\
    import ctypes, os, sys, threading

    library = (ctypes.CDLL if 'without' in sys.argv else ctypes.PyDLL)(
        sys.argv[1])
    fork_and_stay = library.fork_and_stay
    fork_in_thread = library.fork_in_thread

    def known(): pass
    def new(): pass

    def content(pid):
        path = f'@FILE@'.replace(str(os.getpid()), str(pid))
        file = os.open(path, os.O_RDONLY)
        data = os.read(file, 10_000_000)
        os.close(file)
        return data

    def fork(in_child=os.getpid, c_function=fork_and_stay):
        ready, ready_end = os.pipe()
        release, release_end = os.pipe()
        content(os.getpid())
        before = content(os.getpid())
        child = c_function(ready_end, release, release_end)
        if not child:
            in_child()
            os._exit(0)
        assert os.read(ready, 1) == b'\\0'
        at_once = content(child)
        os.close(release_end)
        status = os.waitpid(child, 0)[1]
        assert content(os.getpid()) == before
        for end in ready, ready_end, release:
            os.close(end)
        print(child, status, flush=True)
        file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
        os.write(file, at_once)
        os.close(file)

    known()
    """)


class CForkTestCase(fixtures.PerfTestCase):

    # Whether the thread that forks holds the GIL.
    with_gil = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.built = tempfile.mkdtemp(prefix='test_perf_')
        cls.addClassCleanup(os_helper.rmtree, cls.built)
        compile_extension('CC', 'perf_c_fork.c', cls.built)

    def run_script(self, source):
        return self.run_python(
            PRELUDE + dedent(source),
            args=[os.path.join(self.built, 'perf_c_fork.so'),
                  self.path('at_once'),
                  'with' if self.with_gil else 'without'])

    def children(self, run):
        """Return the ids of the children.  None has failed."""
        self.assertEqual(run.err, '')
        numbers = list(map(int, run.out.split()))
        self.assertEqual(numbers[1::2], [0] * (len(numbers) // 2), run)
        return [self.track(pid) for pid in numbers[::2]]

    def fork(self, source):
        """Run a script that calls fork() once.

        Return the run, the names in the child's file before it ran Python
        code, and those when it had ended.  run.child is the child.
        """
        run = self.run_script(source)
        [run.child] = self.children(run)
        at_once = self.read_file(self.path('at_once'), run.child)
        self.assert_good_entries(at_once)
        return (run, [entry.name for entry in at_once],
                self.child_names(run.child))


class CForkTests:

    def test_the_functions_on_the_stack_are_there_at_once(self):
        run, at_once, names = self.fork("""\
            def outer(): return inner()
            def inner(): return sorted([0], key=callback)
            def callback(_): fork()

            outer()
            """)
        # The innermost first.
        self.assertEqual(at_once, [
            self.script_name(name) for name in
            ('fork', 'callback', 'inner', 'outer', '<module>')])
        self.assertEqual(names, at_once)
        # Their trampolines are at the same addresses.
        child = self.read_entries(run.child)
        self.assertLessEqual(set(child), set(run.entries))

    def test_functions_that_the_parent_has_called_appear_when_called(self):
        run, at_once, names = self.fork("""\
            def in_child():
                known()
                new()
                known()

            in_child()
            fork(in_child)
            """)
        self.assert_none(at_once, 'known', 'new', 'in_child')
        self.assert_once(names, 'known', 'new', 'in_child', 'fork', '<module>')

    def test_a_new_function_appears(self):
        run, at_once, names = self.fork('fork(new)')
        self.assert_none(at_once, 'new')
        self.assert_once(names, 'new', 'fork', '<module>')
        self.assert_none(run.names, 'new')

    def test_new_functions_of_the_child_are_elsewhere(self):
        run, at_once, names = self.fork("""\
            def in_parent(): pass
            fork(new)
            in_parent()
            """)
        child = self.read_entries(run.child)
        [in_child] = [entry for entry in child
                      if entry.name == self.script_name('new')]
        self.assertEqual([entry for entry in run.entries
                          if parsers.overlapping([entry, in_child])], [])

    def test_a_generator_and_a_coroutine(self):
        run, at_once, names = self.fork("""\
            def generator():
                fork()
                yield
            async def coroutine():
                for _ in generator(): pass
            def suspended(): yield

            waiting = suspended()
            next(waiting)
            try:
                coroutine().send(None)
            except StopIteration:
                pass
            """)
        self.assert_once(at_once, 'fork', 'generator', 'coroutine', '<module>')
        self.assert_none(at_once, 'suspended')

    def test_a_deep_recursion(self):
        run, at_once, names = self.fork("""\
            def recursive(n):
                return recursive(n - 1) if n else fork()
            recursive(900)
            """)
        self.assert_once(at_once, 'recursive', 'fork', '<module>')
        self.assertEqual(names, at_once)

    def test_names_of_all_kinds(self):
        # Each of these functions calls the next one.
        run, at_once, names = self.fork("""\
            def call(rest):
                if not rest:
                    return fork()
                function = type(call)(call.__code__.replace(
                    co_qualname=rest[0]), globals())
                return function(rest[1:])

            call(['plain', 'Gr\\xfc\\xdfe', '\\u65e5\\u672c', '\\U0001f40d',
                  'sur\\udc80rogate', 'line\\nbreak', 'back\\\\slash',
                  'x' * 900, '\\x01' * 900, '\\u65e5' * 300])
            """)
        others = set(map(self.script_name, ('known', 'content')))
        wanted = {name for name in run.names
                  if name.endswith('/script.py')} - others
        self.assertEqual(len(wanted), 13)
        self.assertEqual(set(at_once), wanted)
        self.assertEqual(names, at_once)

    def test_very_long_names_wait_until_python_runs(self):
        run, at_once, names = self.fork("""\
            def long(): fork(known)
            long.__code__ = long.__code__.replace(co_qualname='l' * 100_000)
            long()
            """)
        self.assert_none(at_once, 'l' * 100_000)
        self.assert_once(at_once, 'fork', '<module>')
        self.assert_once(names, 'l' * 100_000, 'known', 'fork', '<module>')

    def test_in_a_thread(self):
        run, at_once, names = self.fork("""\
            import _thread

            def thread():
                fork(known)
                ended.release()
            def waiting():
                started.release()
                stop.acquire()

            # Locks call no Python functions, which would be announced.
            started, stop, ended = [_thread.allocate_lock() for i in range(3)]
            for lock in started, stop, ended:
                lock.acquire()
            _thread.start_new_thread(waiting, ())
            started.acquire()
            _thread.start_new_thread(thread, ())
            ended.acquire()
            """)
        self.assert_once(at_once, 'thread', 'fork')
        self.assert_none(at_once, 'waiting', '<module>')
        self.assert_once(names, 'known', 'thread', 'fork')

    def test_in_a_thread_that_python_does_not_know(self):
        run = self.run_script('fork(c_function=fork_in_thread)')
        [child] = self.children(run)
        # It has nothing to name.
        self.assertTrue(os.path.exists(self.file_of(child)))
        self.assertLess(os.path.getsize(self.file_of(child)), 100)

    def test_the_child_starts_threads(self):
        run, at_once, names = self.fork("""\
            def child():
                def work():
                    while not ended:
                        known()

                ended = []
                threads = [threading.Thread(target=work) for i in range(4)]
                for thread in threads: thread.start()
                for i in range(10_000):
                    exec(f'def f{i}(): pass\\nf{i}()')
                ended.append(True)
                for thread in threads: thread.join()

            fork(child)
            """)
        self.assert_once(names, 'child', 'known')
        self.assertEqual(
            len([name for name in names if re.fullmatch(r'py::f\d+:<string>', name)]),
            10_000)

    def test_children_of_children(self):
        # C code, os.fork(), C code, C code.
        run = self.run_script("""\
            def first(): pass
            def second(): pass
            def third(): pass
            def fourth(): pass

            def in_first():
                first()
                child = os.fork()
                if not child:
                    in_second()
                    os._exit(0)
                print(child, os.waitpid(child, 0)[1], flush=True)
            def in_second():
                second()
                fork(in_third)
            def in_third():
                third()
                fork(fourth)

            known()
            fork(in_first)
            """)
        fourth, third, second, first = self.children(run)
        all_names = 'first', 'second', 'third', 'fourth'
        for child, own in zip((first, second, third, fourth), all_names):
            names = self.child_names(child)
            self.assertEqual([name for name in all_names
                              if self.script_name(name) in names], [own])
            self.assert_once(names, 'fork', '<module>')
        self.assert_none(run.names, *all_names)

    def test_a_child_of_os_fork_has_the_functions_on_its_stack_too(self):
        # They were on the stack when os.fork() was called.
        run = self.run_script("""\
            def outer():
                child = os.fork()
                if not child:
                    fork()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            outer()
            """)
        [child] = self.children(run)
        self.assertEqual(
            [entry.name for entry in
             self.read_file(self.path('at_once'), child)],
            [self.script_name(name) for name in
             ('fork', 'outer', '<module>')])

    def test_a_child_of_clone_forks(self):
        # The C library knows nothing of the first child.
        import_helper.import_module('_testinternalcapi')
        for persist in 0, 1:
            with self.subTest(persist=persist):
                run = self.run_script(f"""\
                    import platform, signal
                    from _testinternalcapi import (
                        perf_trampoline_set_persist_after_fork as set_persist)

                    def first(): pass
                    def second(): pass

                    set_persist({persist})
                    arguments = [ctypes.c_long(n) for n in (
                        56 if platform.machine() == 'x86_64' else 220,
                        signal.SIGCHLD, 0, 0, 0, 0)]
                    clone = ctypes.PyDLL(None).syscall
                    content(os.getpid())
                    before = content(os.getpid())
                    child = clone(*arguments)
                    if not child:
                        grandchild = os.fork()
                        if not grandchild:
                            second()
                            os._exit(0)
                        print(grandchild, os.waitpid(grandchild, 0)[1],
                              flush=True)
                        first()
                        os._exit(0)
                    status = os.waitpid(child, 0)[1]
                    assert content(os.getpid()) == before
                    print(child, status)
                    """)
                grandchild, child = map(self.child_names, self.children(run))
                self.assert_once(grandchild, 'second', '<module>')
                self.assert_once(child, 'first', '<module>')
                self.assert_none(grandchild, 'first')
                self.assert_none(child, 'second')
                if persist:
                    self.assert_once(grandchild, 'known')
                    self.assert_once(child, 'known')

    def test_a_child_forks_again_before_it_runs_python_code(self):
        run = self.run_script("""\
            fork(lambda: fork(known))
            """)
        inner, outer = self.children(run)
        self.assert_once(self.child_names(inner), 'known', 'fork', '<module>')
        self.assert_none(self.child_names(outer), 'known')

    def test_a_child_keeps_its_parents_functions(self):
        import_helper.import_module('_testinternalcapi')
        run, at_once, names = self.fork("""\
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
            fork(new)
            """)
        self.assert_once(names, 'known', 'new', 'fork', '<module>')
        self.assert_persists(at_once)

    def test_profiling_is_off(self):
        run = self.run_python("""\
            import ctypes, os, sys
            def nothing(): pass
            sys.deactivate_stack_trampoline()
            child = ctypes.PyDLL(None).fork()
            if not child:
                if os.path.lexists(f'@FILE@'):
                    os._exit(1)
                nothing()
                os._exit(0)
            print(child, os.waitpid(child, 0)[1])
            """)
        [child] = self.children(run)
        self.assertFalse(os.path.lexists(self.file_of(child)))

    def test_switched_off_and_on_in_the_child(self):
        run, at_once, names = self.fork("""\
            def off(): pass
            def on(): pass
            def in_child():
                sys.deactivate_stack_trampoline()
                off()
                sys.activate_stack_trampoline('@MODE@')
                on()
            fork(in_child)
            """)
        self.assert_once(at_once, 'fork', '<module>')
        self.assert_once(names, 'on', 'fork', '<module>')
        self.assert_none(names, 'off')

    def test_the_childs_file_cannot_be_opened(self):
        # There is no descriptor for it.
        run = self.run_script("""\
            import resource
            def in_child():
                known()
                os._exit(sys.is_stack_trampoline_active())

            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit))
            child = library.fork()
            if not child:
                in_child()
            print(child, os.waitpid(child, 0)[1])
            """)
        child, status = run.out.split()
        self.track(child)
        self.assertEqual(status, '0', 'profiling is on in the child')
        self.assert_one_warning(run, self.file_of(child),
                                'Too many open files')

    def test_a_disk_that_is_full_for_the_child(self):
        # Its limit on file sizes is reached.
        run = self.run_script("""\
            import resource
            def in_child():
                known()
                os._exit(sys.is_stack_trampoline_active())

            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, limit))
            child = library.fork()
            if not child:
                in_child()
            os.write(1, b'%d %d' % (child, os.waitpid(child, 0)[1]))
            os._exit(0)
            """)
        child, status = run.out.split()
        self.track(child)
        self.assertEqual(status, '0', 'profiling is on in the child')
        self.assert_one_warning(run, self.file_of(child), 'File too large')


@fixtures.not_emulated('a fork among threads hangs qemu-user: its lock for '
                       'paths stays locked in the child')
class BusyTests:
    """Other threads run Python code and hold locks.

    A child that is forked without the GIL while another thread has it never
    gets it, in the unpatched interpreter too.
    """

    with_gil = False

    FORKING = dedent("""\
        def forking():
            child = fork_and_stay(ready_end, release, release_end)
            if child:
                hangs = not select.select([ready], [], [], 120)[0]
                os.kill(child, 9)
                os.waitpid(child, 0)
                if hangs:
                    os._exit(4)
                os.read(ready, 1)
            return child

        import select
        stop = False
        ready, ready_end = os.pipe()
        release, release_end = os.pipe()
        """)

    def test_while_another_thread_has_the_gil(self):
        # Its functions are announced again and again: profiling is switched
        # off and on.
        count = fixtures.repetitions(40)
        run = self.run_script(self.FORKING + dedent(f"""\
            def busy():
                i = 0
                while not stop:
                    exec(f'def busy{{i}}(): pass\\nbusy{{i}}()')
                    i += 1
                    if i % 7 == 0:
                        sys.deactivate_stack_trampoline()
                        sys.activate_stack_trampoline('@MODE@')

            sys.setswitchinterval(1e-6)
            threads = [threading.Thread(target=busy) for i in range(2)]
            for thread in threads: thread.start()
            children = [forking() for i in range({count})]
            stop = True
            for thread in threads: thread.join()
            print(*children)
            """))
        self.assertEqual(run.err, '')
        children = run.out.split()
        self.assertEqual(len(children), count)
        found = 0
        for child in map(self.track, children):
            if os.path.exists(self.file_of(child)) \
                    and os.path.getsize(self.file_of(child)) > 100:
                names = self.child_names(child)
                self.assertEqual(
                    [name for name in names if ':busy' in name
                     or self.script_name('known') == name], [])
                found += self.script_name('forking') in names
        # The others were forked while profiling was off, or while a function
        # had no name.
        self.assertGreater(found, 0)

    def test_nothing_is_allocated_without_the_gil(self):
        # With tracemalloc each allocation needs the GIL.
        run = self.run_script(self.FORKING + dedent("""\
            import tracemalloc

            def busy():
                while not stop: pass

            forking.__code__ = forking.__code__.replace(co_qualname='x' * 900)
            threads = [threading.Thread(target=busy) for i in range(2)]
            for thread in threads: thread.start()
            tracemalloc.start()
            children = [forking() for i in range(20)]
            tracemalloc.stop()
            stop = True
            for thread in threads: thread.join()
            print(*children)
            """))
        children = run.out.split()
        self.assertEqual((len(children), run.err), (20, ''))
        for child in children:
            self.assert_once(self.child_names(child), 'x' * 900, '<module>')

    def test_while_other_threads_hold_the_lock_of_the_map(self):
        run = self.run_script(self.FORKING + dedent("""\
            def hold():
                copy_map = ctypes.CDLL(None).PyUnstable_CopyPerfMapFile
                while not stop:
                    copy_map(b'/missing')

            threads = [threading.Thread(target=hold) for i in range(3)]
            for thread in threads: thread.start()
            children = [forking() for i in range(20)]
            stop = True
            for thread in threads: thread.join()
            print(*children)
            """))
        self.assertEqual(run.err, '')
        children = run.out.split()
        self.assertEqual(len(children), 20)
        for child in children:
            names = self.child_names(child)
            self.assert_once(names, 'forking', '<module>')
            self.assert_none(names, 'hold', 'known')


class SignalTests:

    def test_in_a_signal_handler_at_any_instruction(self):
        count = fixtures.repetitions(200)
        run = self.run_script(f"""\
            pids = (ctypes.c_int * {count})()
            names = 0
            assert library.fork_often(pids, {count}) == 0
            while 0 <= library.forks_done() < {count}:
                exec(f'def made{{names}}(): pass\\nmade{{names}}()')
                names += 1
            print(library.forks_done(), *pids)
            """)
        done, *pids = map(int, run.out.split())
        self.assertEqual((done, run.err), (count, ''))
        parent = set(run.entries)
        for pid in pids:
            self.track(pid)
            entries = self.read_entries(pid)
            self.assertEqual(set(entries) - parent, set())
        self.assert_good_entries(run.entries)


class MapCForkTests(CForkTests, CForkTestCase, MapMode):

    def assert_persists(self, at_once):
        self.assert_once(at_once, 'known', 'fork', '<module>')


class JitdumpCForkTests(CForkTests, CForkTestCase, JitdumpMode):

    def assert_persists(self, at_once):
        # The others follow when the child runs Python code.
        self.assert_once(at_once, 'fork', '<module>')

    def test_the_marker_is_there_at_once(self):
        run, at_once, names = self.fork("""\
            def marker(child):
                with open(f'/proc/{child}/maps') as maps:
                    return [line.split()[5:] for line in maps
                            if '/jit-' in line]
            def content(pid, content=content):
                assert marker(pid) == [[
                    f'@FILE@'.replace(str(os.getpid()), str(pid))]]
                return content(pid)
            fork(known)
            """)
        self.assert_once(names, 'known')


class MapCForkWithoutGilTests(MapCForkTests):
    with_gil = False


class JitdumpCForkWithoutGilTests(JitdumpCForkTests):
    with_gil = False


class MapSignalTests(SignalTests, CForkTestCase, MapMode):
    pass


class JitdumpSignalTests(SignalTests, CForkTestCase, JitdumpMode):
    pass


class MapBusyTests(BusyTests, CForkTestCase, MapMode):
    pass


class JitdumpBusyTests(BusyTests, CForkTestCase, JitdumpMode):
    pass


class LineTests(CForkTestCase):
    """With lines, those of the functions on the stack are there, too."""

    mode = 'perf=lines'

    def test_lines(self):
        run, at_once, later = self.fork('fork()')
        for names in at_once, later:
            for name in map(self.script_name, ('fork', '<module>')):
                self.assertEqual(names.count(name), 1)
                self.assertTrue(any(each.startswith(f'{name}:') for each in names), name)


if __name__ == '__main__':
    unittest.main()
