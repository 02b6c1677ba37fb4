"""Forks: the files of parent and child.

test_fork_stacks.py has the tests that walk the stacks of both.
"""

import os
import re
import stat
import unittest
from textwrap import dedent

from test.support import import_helper
from test.test_perf import fixtures, parsers
from test.test_perf.modes import JitdumpMode, MapMode
from test.test_perf.parsers import names_in_map
from test.test_perf.programs import FORK


def setUpModule():
    fixtures.require_trampoline()


# With the argument "persist" children keep the trampolines of their parents.
# Prints the pids of child and grandchild.
GRANDCHILD = """\
    import os, sys
    from _testinternalcapi import (
        perf_trampoline_set_persist_after_fork as set_persist)

    def in_parent(): pass
    def in_child(): pass
    def in_grandchild(): pass

    in_parent()
    set_persist('persist' in sys.argv)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        in_child()
        grandchild = os.fork()
        if not grandchild:
            in_grandchild()
            os._exit(0)
        assert os.waitpid(grandchild, 0)[1] == 0
        os.write(write, str(grandchild).encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(child, os.read(read, 100).decode())
    """

# The names of the functions of FORK, and <module>.
FORK_NAMES = ('only_child', 'only_parent', 'before', 'dropped', 'forking',
              '<module>')


class ForkTests:

    def test_parent_and_child_have_files_of_their_own(self):
        run = self.run_python(FORK + 'forking()')
        child = self.child_names(run.out)
        # The functions that it has run, and those on its stack.
        self.assertEqual(
            [name for name in FORK_NAMES if self.script_name(name) in child],
            ['only_child', 'forking', '<module>'])
        self.assert_written(run, 'only_parent', 'before', 'forking', '<module>')
        self.assert_none(run.names, 'only_child')
        self.assertEqual(run.err, '')

    def test_the_childs_file_is_its_owners_alone(self):
        run = self.run_python("""\
            import os
            child = os.fork()
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        status = os.stat(self.file_of(self.track(run.out)))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)

    def test_the_functions_on_the_childs_stack_are_announced(self):
        run = self.run_python("""\
            import os

            def outer(): return inner()
            def inner(): return sorted([0], key=callback)[0]
            def callback(_):
                child = os.fork()
                if not child:
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                print(child)

            outer()
            """)
        child = self.read_entries(self.track(run.out))
        self.assertEqual(
            {entry.name for entry in child},
            {self.script_name(name)
             for name in ('<module>', 'outer', 'inner', 'callback')})
        self.assertEqual(len(child), 4)
        # Their trampolines are at the same addresses.
        self.assertLess(set(child), set(run.entries))

    def test_a_generator_on_the_childs_stack_is_announced(self):
        run = self.run_python("""\
            import os

            def generator():
                yield os.fork()

            def suspended():
                yield

            waiting = suspended()
            next(waiting)
            for child in generator():
                if not child:
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                print(child)
            """)
        child = self.child_names(run.out)
        self.assert_once(child, 'generator')
        self.assert_none(child, 'suspended')

    def test_a_function_called_again_in_the_child_keeps_its_trampoline(self):
        run = self.run_python("""\
            import os

            def both(): pass

            both()
            child = os.fork()
            both()
            if not child:
                both()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        self.track(run.out)
        child = self.read_entries(int(run.out))
        name = self.script_name('both')
        [in_child] = [entry for entry in child if entry.name == name]
        [in_parent] = [entry for entry in run.entries if entry.name == name]
        self.assertEqual(in_child, in_parent)

    def test_new_functions_of_the_child_lie_elsewhere(self):
        # Otherwise two children could use one address for different names.  A
        # profiler that reads the map of the parent would show the wrong name.
        run = self.run_python("""\
            import os

            def in_child(): pass
            def in_parent(): pass

            child = os.fork()
            if not child:
                in_child()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            in_parent()
            print(child)
            """)
        child = self.read_entries(self.track(run.out))
        [in_child] = [entry for entry in child
                      if entry.name == self.script_name('in_child')]
        [in_parent] = [entry for entry in run.entries
                       if entry.name == self.script_name('in_parent')]
        self.assertEqual(parsers.overlapping([in_child, in_parent]), [])
        self.assert_apart(child, run.entries)

    def test_twice_in_a_row(self):
        import_helper.import_module('_testinternalcapi')
        run = self.run_python(GRANDCHILD)
        child, grandchild = map(self.child_names, run.out.split())
        wanted = [self.script_name(name)
                  for name in ('in_parent', 'in_child', 'in_grandchild')]
        for names, own in zip((run.names, child, grandchild), wanted):
            self.assertEqual([name for name in wanted if name in names],
                             [own])

    def test_in_a_thread(self):
        run = self.run_python("""\
            import os, threading

            def thread():
                child = os.fork()
                if not child:
                    in_child()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                print(child)

            def in_child(): pass
            def waiting(): event.wait()

            event = threading.Event()
            other = threading.Thread(target=waiting)
            other.start()
            forking = threading.Thread(target=thread)
            forking.start()
            forking.join()
            event.set()
            other.join()
            """)
        child = self.child_names(run.out)
        self.assert_once(child, 'thread', 'in_child')
        self.assert_none(child, 'waiting')

    def test_while_threads_call_new_functions(self):
        run = self.run_python("""\
            import os, threading

            stop = False

            def busy(name):
                i = 0
                while not stop:
                    exec(f'def {name}{i}(): pass\\n{name}{i}()')
                    i += 1

            def in_child(): pass

            threads = [threading.Thread(target=busy, args=(name,))
                       for name in 'abc']
            for thread in threads: thread.start()
            children = []
            for i in range(20):
                child = os.fork()
                if not child:
                    in_child()
                    os._exit(7)
                children.append(child)
                assert os.waitpid(child, 0)[1] == 7 << 8
            stop = True
            for thread in threads: thread.join()
            print(*children)
            """)
        for child in run.out.split():
            self.assert_once(self.child_names(child), 'in_child')
        self.assert_good_entries(run.entries)

    def test_a_child_takes_little_memory_for_its_first_functions(self):
        # Its parent has many.
        run = self.run_python("""\
            import os

            def executable():
                total = 0
                with open('/proc/self/maps') as file:
                    for line in file:
                        if ' r-xp 00000000 00:00 0' in line:
                            start, end = line.split()[0].split('-')
                            total += int(end, 16) - int(start, 16)
                return total

            for i in range(5000):
                exec(f'def f{i}(): pass\\nf{i}()')
            print(os.getpid(), executable(), flush=True)
            child = os.fork()
            if not child:
                before = executable()
                exec('def new(): pass\\nnew()')
                print(os.getpid(), executable() - before, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            """)
        (parent, all_of_parent), (child, new) = map(str.split, run.out.splitlines())
        self.track(child)
        self.assertGreater(int(all_of_parent), 150_000)
        self.assertGreater(int(new), 0)
        self.assertLess(int(new), int(all_of_parent) // 4)

    def test_with_multiprocessing(self):
        run = self.run_python("""\
            import multiprocessing

            def work(queue):
                queue.put('result')

            if __name__ == '__main__':
                context = multiprocessing.get_context('fork')
                queue = context.SimpleQueue()
                process = context.Process(target=work, args=(queue,))
                process.start()
                assert queue.get() == 'result'
                process.join()
                assert process.exitcode == 0
                print(process.pid)
            """)
        self.assert_once(self.child_names(run.out), 'work')
        self.assert_none(run.names, 'work')

    def test_a_child_of_c_code_is_noticed(self):
        # The interpreter does not know about this fork.
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, os

            def before(): pass
            def in_child(): pass
            def in_parent(): pass

            def forking():
                child = ctypes.PyDLL(None).fork()
                if not child:
                    in_child()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                in_parent()
                print(child)

            before()
            forking()
            """)
        child = self.child_names(run.out)
        self.assertEqual(
            [name for name in ('in_child', 'in_parent', 'before', 'forking')
             if self.script_name(name) in child], ['in_child', 'forking'])
        self.assert_written(run, 'in_parent')
        self.assert_none(run.names, 'in_child')

    def test_a_child_that_the_c_library_knows_nothing_of_is_noticed(self):
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, os, platform, signal

            def in_child(): pass
            def in_parent(): pass

            clone = 56 if platform.machine() == 'x86_64' else 220
            child = ctypes.PyDLL(None).syscall(*map(ctypes.c_long, (
                clone, signal.SIGCHLD, 0, 0, 0, 0)))
            if not child:
                in_child()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            in_parent()
            print(child)
            """)
        child = self.child_names(run.out)
        self.assert_once(child, 'in_child')
        self.assert_written(run, 'in_parent')
        self.assert_none(run.names, 'in_child')

    def test_a_child_can_switch_off_for_itself(self):
        run = self.run_python("""\
            import os, sys

            def off(): pass
            def on(): pass
            def in_parent(): pass

            child = os.fork()
            if not child:
                sys.deactivate_stack_trampoline()
                off()
                sys.activate_stack_trampoline('@MODE@')
                on()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            in_parent()
            print(child)
            """)
        child = self.child_names(run.out)
        self.assert_once(child, 'on')
        self.assert_none(child, 'off')
        self.assert_written(run, 'in_parent')

    def test_a_child_of_a_program_that_was_switched_off_writes_nothing(self):
        run = self.run_python("""\
            import os, sys

            def function(): pass

            sys.deactivate_stack_trampoline()
            child = os.fork()
            if not child:
                path = f'@FILE@'
                if os.path.exists(path):    # from another process
                    os.unlink(path)
                function()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        self.assert_written(run, '<module>')
        self.assertFalse(os.path.exists(
            self.file_of(self.track(run.out))))

    def test_the_child_is_whole_when_it_ends_like_a_program(self):
        run = self.run_python("""\
            import os, sys

            def at_the_end(): pass

            child = os.fork()
            if not child:
                import atexit
                atexit.register(at_the_end)
                sys.exit(5)
            assert os.waitpid(child, 0)[1] == 5 << 8
            print(child)
            """)
        self.assert_once(self.child_names(run.out), 'at_the_end')


class MapForkTests(ForkTests, MapMode):

    def assert_apart(self, child, parent):
        """No address has two names."""
        self.assertEqual(parsers.overlapping(set(child) | set(parent)), [])

    @fixtures.not_emulated('a fork among threads hangs qemu-user: its lock '
                               'for paths stays locked in the child')
    def test_a_lock_that_another_thread_held_does_not_hang_the_child(self):
        # Threads without the GIL may be in the functions of the map at any
        # time.
        import_helper.import_module('ctypes')
        for fork in ('os.fork', 'ctypes.PyDLL(None).fork'):
            with self.subTest(fork=fork):
                run = self.run_python(f"""\
                    import ctypes, os, signal, sys, threading

                    # A child of C code that has been asked for the GIL waits
                    # for ever, in the unpatched interpreter too.  With this
                    # interval nobody asks.
                    sys.setswitchinterval(1000)
                    stop = False

                    def hold():
                        library = ctypes.CDLL(None)
                        while not stop:
                            library.PyUnstable_CopyPerfMapFile(b'/missing')

                    def in_child(): pass

                    threads = [threading.Thread(target=hold)
                               for i in range(3)]
                    for thread in threads: thread.start()
                    children = []
                    for i in range(20):
                        child = {fork}()
                        if not child:
                            signal.alarm(30)
                            in_child()
                            os._exit(7)
                        children.append(child)
                        if os.waitpid(child, 0)[1] != 7 << 8:
                            break
                    stop = True
                    for thread in threads: thread.join()
                    print(*children)
                    """)
                children = [self.track(pid) for pid in run.out.split()]
                self.assertEqual(len(children), 20, 'a child hung')
                for child in children:
                    self.assert_once(self.child_names(child), 'in_child')

    @fixtures.not_emulated('a fork among threads hangs qemu-user: its lock '
                               'for paths stays locked in the child')
    def test_threads_of_the_interpreter_write_to_the_map(self):
        # Without the GIL they are stopped for the fork, and do not stop while they wait.
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, os, threading

            def write():
                while not ended:
                    ctypes.pythonapi.PyUnstable_WritePerfMapEntry(
                        ctypes.c_void_p(0x1000), 16, b'entry')

            ended = []
            threads = [threading.Thread(target=write) for i in range(2)]
            for thread in threads: thread.start()
            statuses = set()
            for i in range(100):
                child = os.fork()
                if not child:
                    os._exit(7)
                statuses.add(os.waitpid(child, 0)[1] >> 8)
            ended.append(True)
            for thread in threads: thread.join()
            print(statuses)
            """)
        self.assertEqual(run.out, '{7}\n')


class JitdumpForkTests(ForkTests, JitdumpMode):

    def assert_apart(self, child, parent):
        """New functions of the child are at no address that the parent uses.
        """
        parent_starts = {entry.start for entry in parent}
        self.assertEqual([entry for entry in set(child) - set(parent)
                          if entry.start in parent_starts], [])

    def test_the_childs_functions_have_its_thread(self):
        run = self.run_python(FORK + 'forking()')
        dump = self.read(self.track(run.out))
        for load in dump.loads:
            self.assertEqual(load.tid, dump.header.pid)

    def test_functions_in_use_again_in_the_child_are_told_apart(self):
        run = self.run_python("""\
            import os

            def template(): pass

            def make_and_drop(name, count=100):
                for i in range(count):
                    type(template)(template.__code__.replace(
                        co_qualname=f'{name}{i}', co_filename='/made'), {})()

            make_and_drop('before')
            child = os.fork()
            if not child:
                make_and_drop('child')
                os._exit(0)
            make_and_drop('parent')
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        dump = self.read(self.track(run.out))
        self.assertEqual([name for name in dump.names
                          if name.endswith(':/made')],
                         [f'py::child{i}:/made' for i in range(100)])
        self.assertEqual([name for name in self.read(run).names
                          if name.endswith(':/made')],
                         [f'py::{name}{i}:/made' for name in
                          ('before', 'parent') for i in range(100)])

    def test_the_child_may_go_on_with_a_map(self):
        run = self.run_python("""\
            import os, sys

            def in_child(): pass

            child = os.fork()
            if not child:
                sys.activate_stack_trampoline('perf')
                in_child()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        child = self.track(run.out)
        self.assert_once(names_in_map(child), 'in_child')
        self.assert_none(self.read(child).names, 'in_child')

    def test_multiprocessing_children_have_dumps(self):
        import_helper.import_module('_multiprocessing')
        run = self.run_python("""\
            import multiprocessing, os

            def work():
                print(os.getpid(), flush=True)

            for method in 'fork', 'spawn':
                context = multiprocessing.get_context(method)
                child = context.Process(target=work)
                if __name__ == '__main__':
                    child.start()
                    child.join()
            """, mode=None, env={'PYTHON_PERF_JIT_SUPPORT': '1',
                                 'JITDUMPDIR': self.directory})
        for child in run.out.split():
            names = self.read(child, self.directory).names
            self.assertTrue([name for name in names
                             if name.startswith('py::work:')])
        self.assertEqual(len(run.out.split()), 2)

    @fixtures.functions_die_at_once
    def test_inherited_places_are_not_used_again_in_the_child(self):
        # Profilers look up their names in the parent's file.
        run = self.run_python("""\
            import os

            def template(): pass

            def make(name, count=100):
                made = []
                for i in range(count):
                    made.append(type(template)(template.__code__.replace(
                        co_qualname=f'{name}{i}', co_filename='/made'), {}))
                    made[-1]()
                return made

            inherited = make('parent')
            child = os.fork()
            if not child:
                inherited.clear()
                make('child')       # these are dropped
                make('again')
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        dump = self.read(self.track(run.out.strip()))
        starts = {kind: {f.start for f in functions
                         if f.load.name.startswith(f'py::{kind}')}
                  for kind, functions in (
                      ('parent', self.read(run).functions()),
                      ('child', dump.functions()),
                      ('again', dump.functions()))}
        self.assertEqual([len(starts[kind]) for kind in starts], [100] * 3)
        self.assertEqual(starts['parent'] & starts['child'], set())
        # Its own are used again.
        self.assertEqual(starts['child'], starts['again'])


class PersistTests:
    """Children that keep the trampolines of their parent."""

    def setUp(self):
        super().setUp()
        import_helper.import_module('_testinternalcapi')

    def test_the_child_is_still_on(self):
        run = self.run_python("""\
            import os, sys
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
            child = os.fork()
            if not child:
                os._exit(10 + sys.is_stack_trampoline_active())
            print(child, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """)
        child, status = run.out.split()
        self.track(child)
        self.assertEqual(status, '11')

    def test_a_grandchild_has_it_all(self):
        run = self.run_python(GRANDCHILD, args=['persist'])
        child, grandchild = map(self.track, run.out.split())
        self.assert_once(self.child_names(grandchild), 'in_parent', 'in_child',
                         'in_grandchild')

    def test_it_can_be_taken_back(self):
        run = self.run_python("""\
            import os
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)

            def in_parent(): pass

            in_parent()
            set_persist(1)
            set_persist(0)
            child = os.fork()
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        names = self.child_names(run.out)
        self.assert_none(names, 'in_parent')
        self.assert_once(names, '<module>')

    def test_a_child_of_c_code_with_persist_keeps_out_of_the_parents_file(self):
        import_helper.import_module('ctypes')
        run = self.run_python("""\
            import ctypes, os
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)

            def in_child(): pass

            set_persist(1)
            child = ctypes.PyDLL(None).fork()
            if not child:
                in_child()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        names = self.child_names(run.out)
        self.assert_once(names, 'in_child')
        self.assert_none(run.names, 'in_child')

    def test_a_child_may_fork_again(self):
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_python(f"""\
                    import os
                    from _testinternalcapi import (
                        perf_trampoline_set_persist_after_fork as set_persist)

                    def generation(n):
                        if not n:
                            return
                        def local(): pass
                        local.__code__ = local.__code__.replace(
                            co_qualname=f'local{{n}}')
                        local()
                        child = os.fork()
                        if not child:
                            generation(n - 1)
                            os._exit(0)
                        assert os.waitpid(child, 0)[1] == 0
                        print(child, flush=True)

                    set_persist({persist})
                    generation(4)
                    """)
                children = run.out.split()[::-1]
                self.assertEqual(len(children), 4)
                for n, pid in zip((4, 3, 2, 1, 0), [run.pid, *children]):
                    names = self.child_names(pid)
                    self.assert_once(names, 'generation')
                    if n:
                        self.assert_once(names, f'local{n}')
                    if n < 4:
                        # It is alive: the frame of its creator has it.
                        self.assertEqual(
                            self.script_name(f'local{n + 1}') in names,
                            bool(persist))


class MapPersistTests(PersistTests, MapMode):

    def test_every_line_of_the_parent_stands_in_the_childs_map(self):
        run = self.run_python("""\
            import os
            from _testinternalcapi import (
                compile_perf_trampoline_entry as compile_entry,
                perf_trampoline_set_persist_after_fork as set_persist)

            def called(): pass
            def precompiled(): pass
            def in_child(): pass
            def in_parent(): pass

            called()
            compile_entry(precompiled.__code__)
            set_persist(1)
            with open(f'/tmp/perf-{os.getpid()}.map') as file:
                print(file.read(), end='')
            print(flush=True)
            child = os.fork()
            if not child:
                in_child()
                precompiled()
                called()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            in_parent()
            print(child)
            """)
        before, child = run.out.split('\n\n')
        before = parsers.parse_map(before + '\n')
        child = parsers.read_map(self.track(child))
        self.assert_good_map(child)
        self.assert_once([entry.name for entry in before], 'precompiled')
        self.assertEqual(child[:len(before)], before)
        names = [entry.name for entry in child]
        self.assert_once(names, 'in_child', 'precompiled', 'called',
                         '<module>')
        self.assert_none(names, 'in_parent')
        self.assert_none(run.names, 'in_child')
        self.assert_written(run, 'in_parent')

    def test_a_map_of_any_size_is_copied(self):
        # Multiples of a buffer's size are where copying goes wrong.
        run = self.run_python("""\
            import os
            from _testinternalcapi import (
                write_perf_map_entry,
                perf_trampoline_set_persist_after_fork as set_persist)

            def read(pid):
                fd = os.open(f'/tmp/perf-{pid}.map', os.O_RDONLY)
                data = os.read(fd, 1 << 20)
                os.close(fd)
                return data

            def copy_with_size(target):
                missing = target - len(read(os.getpid()))
                write_perf_map_entry(0x1000, 1,
                                     'x' * (missing - len('1000 1 \\n')))
                before = read(os.getpid())
                assert len(before) == target
                child = os.fork()
                if not child:
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                print(child)
                assert read(child)[:target] == before, target

            set_persist(1)
            for target in (1 << 15, 1 << 16, (1 << 16) + 4096, 1 << 17,
                           (1 << 17) + 100, 1 << 18):
                copy_with_size(target)
            """)
        children = run.out.split()
        for child in children:
            self.track(child)
        self.assertEqual(len(children), 6)


class JitdumpPersistTests(PersistTests, JitdumpMode):

    @fixtures.functions_die_at_once
    def test_with_persist_the_child_has_what_the_parent_had(self):
        run = self.run_python(FORK + dedent("""\
            from _testinternalcapi import (
                compile_perf_trampoline_entry as compile_entry,
                perf_trampoline_set_persist_after_fork as set_persist)
            def compiled(): pass
            compile_entry(compiled.__code__)
            set_persist(1)
            forking()
            """))
        dump = self.read(self.track(run.out))
        found = [name for name in (*FORK_NAMES, 'compiled')
                 if self.script_name(name) in dump.names]
        self.assertEqual(found, ['only_child', 'before', 'forking',
                                 '<module>', 'compiled'])
        self.assertNotIn('py::dropped:<string>', dump.names)
        self.assertIn('py::dropped:<string>', self.read(run).names)
        # The methods of frozen modules live as long as the process.
        child = {f.load.name: f for f in dump.functions()}
        lasting = [f for f in self.read(run).functions()
                   if f.load.timestamp < dump.header.timestamp
                   and re.fullmatch(r'py::\w+\.\w+:<frozen .*>', f.load.name)]
        self.assertGreater(len(lasting), 10)
        for function in lasting:
            copy = child[function.load.name]
            self.assertEqual(copy.start, function.start)
            self.assertEqual(copy.lines(), function.lines())


class LostFileForkTests:
    """The parent's file is gone, or the child has closed everything."""

    def test_a_parents_file_that_is_gone_does_the_child_no_harm(self):
        import_helper.import_module('_testinternalcapi')
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_python(f"""\
                    import os
                    from _testinternalcapi import (
                        perf_trampoline_set_persist_after_fork as set_persist)

                    def in_child():
                        return 7

                    set_persist({persist})
                    os.unlink(f'@FILE@')
                    child = os.fork()
                    if not child:
                        os._exit(in_child())
                    assert os.waitpid(child, 0)[1] == 7 << 8
                    print(child)
                    """)
                names = [entry.name for entry in
                         self.read_entries(self.track(run.out))]
                if self.script_name('in_child') not in names:
                    self.assert_one_warning(run)

    def test_a_child_that_closed_everything_has_its_file(self):
        run = self.run_python("""\
            import os

            def in_child(): pass

            child = os.fork()
            if not child:
                os.closerange(0, 20_000)
                in_child()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(child)
            """)
        names = self.child_names(run.out)
        self.assert_once(names, 'in_child')


class MapLostFileForkTests(LostFileForkTests, MapMode):
    pass


class JitdumpLostFileForkTests(LostFileForkTests, JitdumpMode):
    pass


if __name__ == '__main__':
    unittest.main()
