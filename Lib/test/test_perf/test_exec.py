"""Forked children that execute another program: what they leave.

A child that has announced nothing that its parent had not leaves no file.  Its
file is there again if the program cannot be executed.
"""

import os
import re
import unittest
from textwrap import dedent, indent

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.modes import JitdumpMode, MapMode
from test.test_perf.programs import MARKER


def setUpModule():
    fixtures.require_trampoline()


PRELUDE = dedent("""\
    import os, sys, threading, random

    def known(): pass
    def new(): pass

    known()
    """)

# What a child does without a call of a Python function.  The words in capitals
# are replaced by these lines and this expression.
CONTENT = "os.read(os.open(f'@FILE@', os.O_RDONLY), 1_000_000)"
FAIL = """\
try:
    os.execv({path}, ['program'])
except OSError as error:
    assert error.errno == {number}, error
"""


def expand(source):
    """Replace CONTENT, and FAIL(path, number), which stands on its own line."""
    return re.sub(
        r'^( *)FAIL\((.*), (.*)\)\n',
        lambda match: indent(FAIL.format(path=match[2], number=match[3]),
                             match[1]),
        dedent(source).replace('CONTENT', CONTENT), flags=re.M)


def no_program(directory):
    """Make an executable file that is no program, and return its path."""
    path = os.path.join(directory, 'no_program')
    with open(path, 'wb') as file:
        file.write(b'\0')
    os.chmod(path, 0o700)
    return path


class ExecTests:

    def run_children(self, source, **options):
        """Run a script.  It prints the ids of children and their statuses, which
        must be 0.  Return the run and the ids.
        """
        run = self.run_python(PRELUDE + expand(source), **options)
        self.assertEqual(run.err, '')
        numbers = list(map(int, run.out.split()))
        children = numbers[::2]
        self.assertEqual(numbers[1::2], [0] * len(children), run)
        return run, [self.track(child) for child in children]

    def assert_no_file(self, source, count=1, **options):
        run, children = self.run_children(source, **options)
        self.assertEqual(len(children), count)
        for child in children:
            self.assertFalse(os.path.lexists(self.file_of(child)))
            self.assertFalse(os.path.lexists(self.other_file_of(child)))
        self.assert_good_entries(run.entries)
        return run

    def test_execv_and_execve(self):
        self.assert_no_file("""\
            for name in 'execv', 'execve':
                child = os.fork()
                if not child:
                    if name == 'execv':
                        os.execv('/bin/true', ['true'])
                    os.execve('/bin/true', ['true'], {})
                print(child, os.waitpid(child, 0)[1])
            """, count=2)

    def test_a_descriptor_is_executed(self):
        self.assert_no_file("""\
            program = os.open('/bin/true', os.O_RDONLY)
            child = os.fork()
            if not child:
                os.execve(program, ['true'], {})
            print(child, os.waitpid(child, 0)[1])
            """)

    def test_a_function_that_the_parent_has_not_called_is_kept(self):
        run, [child] = self.run_children("""\
            child = os.fork()
            if not child:
                new()
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        names = self.child_names(child)
        self.assert_once(names, 'new', '<module>')

    def test_handlers_of_the_fork_do_not_count(self):
        # Those of threading, too.
        run = self.assert_no_file("""\
            def handler(): pass

            os.register_at_fork(after_in_child=handler)
            child = os.fork()
            if not child:
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_none(run.names, 'handler')

    def test_functions_after_the_handlers_count(self):
        run, [child] = self.run_children("""\
            def handler(): pass

            os.register_at_fork(after_in_child=handler)
            child = os.fork()
            if not child:
                handler()
                new()
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_once(self.child_names(child), 'handler', 'new')

    def test_a_child_that_does_not_execute_a_program_keeps_its_file(self):
        run, children = self.run_children("""\
            for name in 'exit', 'kill':
                child = os.fork()
                if not child:
                    if name == 'kill':
                        os.kill(os.getpid(), 9)
                    os._exit(0)
                print(child, os.waitpid(child, 0)[1] % 9)
            """)
        for child in children:
            self.assert_once(self.child_names(child), '<module>')

    def test_with_subprocess(self):
        self.assert_no_file("""\
            import subprocess
            child = subprocess.Popen(['/bin/true'], preexec_fn=os.getpid)
            print(child.pid, child.wait())
            # Searches the path.
            child = subprocess.Popen(['true'], preexec_fn=os.getpid,
                                     env={'PATH': '/missing:/bin'})
            print(child.pid, child.wait())
            """, count=2)

    def test_with_subprocess_and_a_new_function(self):
        run, [child] = self.run_children("""\
            import subprocess
            child = subprocess.Popen(['/bin/true'], preexec_fn=new)
            print(child.pid, child.wait())
            """)
        self.assert_once(self.child_names(child), 'new')
        self.assert_none(run.names, 'new')

    def test_with_subprocess_and_a_function_that_raises(self):
        run = self.run_python("""\
            import os, subprocess
            try:
                subprocess.Popen(['/bin/true'], preexec_fn=int.real.__get__)
            except subprocess.SubprocessError as error:
                print(error)
            """)
        self.assertEqual((run.out, run.err),
                         ('Exception occurred in preexec_fn.\n', ''))

    def test_without_a_function_the_child_has_no_file_and_the_parent_its_own(self):
        # By vfork(), where the child shares its memory with the parent, and by
        # fork().
        run = self.assert_no_file("""\
            import subprocess

            def start(program='/bin/true'):
                child = subprocess.Popen([program])
                return child.pid, child.wait()

            def afterwards(): pass

            start()
            for subprocess._USE_VFORK in True, False:
                before = CONTENT
                pid, status = start()
                assert CONTENT == before
                try:
                    start('/missing')
                except FileNotFoundError:
                    pass
                print(pid, status)
            child = os.posix_spawn('/bin/true', ['true'], {})
            print(child, os.waitpid(child, 0)[1])
            afterwards()
            """, count=3)
        self.assert_written(run, 'afterwards')

    @fixtures.requires_root
    def test_the_child_gets_another_user(self):
        self.assert_no_file("""\
            import subprocess
            child = subprocess.Popen(['/bin/true'], user=65534)
            print(child.pid, child.wait())
            """)

    def test_the_parents_file_is_untouched(self):
        run = self.assert_no_file("""\
            before = CONTENT
            for path in '/bin/true', '/bin/true':
                child = os.fork()
                if not child:
                    os.execv(path, ['true'])
                print(child, os.waitpid(child, 0)[1])
            assert CONTENT == before
            new()
            assert CONTENT != before
            """, count=2)
        self.assert_written(run, 'new')

    def test_several_forks_deep(self):
        # The child has a function of its own.  The grandchild has what the
        # child has, and so has its child.
        run, [child] = self.run_children("""\
            child = os.fork()
            if not child:
                new()
                before = CONTENT
                for depth in 1, 2:
                    grandchild = os.fork()
                    if not grandchild:
                        if depth == 2:
                            inner = os.fork()
                            if inner:
                                assert os.waitpid(inner, 0)[1] == 0
                                assert not os.access(
                                    f'@FILE@'.replace(str(os.getpid()),
                                                      str(inner)), os.F_OK)
                        os.execv('/bin/true', ['true'])
                    assert os.waitpid(grandchild, 0)[1] == 0
                    assert not os.access(
                        f'@FILE@'.replace(str(os.getpid()), str(grandchild)),
                        os.F_OK)
                assert CONTENT == before
                os._exit(0)
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_once(self.child_names(child), 'new')

    def test_what_only_the_grandparent_has_called_is_new(self):
        run = self.run_python(PRELUDE + expand("""\
            child = os.fork()
            if not child:
                grandchild = os.fork()
                if not grandchild:
                    known()
                    os.execv('/bin/true', ['true'])
                print(os.getpid(), grandchild, os.waitpid(grandchild, 0)[1],
                      flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            """))
        child, grandchild, status = run.out.split()
        self.assertEqual(status, '0')
        self.assert_none(self.child_names(child), 'known')
        self.assert_once(self.child_names(grandchild), 'known')

    def test_while_threads_call_new_functions(self):
        self.assert_no_file("""\
            import warnings
            # CPython 3.12 and later warn when a process with threads is forked.
            warnings.simplefilter('ignore', DeprecationWarning)
            stop = False

            def busy(name):
                i = 0
                while not stop:
                    exec(f'def {name}{i}(): pass\\n{name}{i}()')
                    i += 1

            sys.setswitchinterval(1e-4)
            threads = [threading.Thread(target=busy, args=(name,))
                       for name in 'abc']
            for thread in threads: thread.start()
            for i in range(5):
                child = os.fork()
                if not child:
                    os.execv('/bin/true', ['true'])
                print(child, os.waitpid(child, 0)[1])
            stop = True
            for thread in threads: thread.join()
            """, count=5)

    def test_a_child_that_nobody_tells_us_of(self):
        # The C library knows nothing of a child of clone().  Its parent is a
        # child with a file that could be removed.
        import_helper.import_module('ctypes')
        run, [child] = self.run_children("""\
            import ctypes, platform, signal
            arguments = [ctypes.c_long(n) for n in (
                56 if platform.machine() == 'x86_64' else 220,
                signal.SIGCHLD, 0, 0, 0, 0)]
            clone = ctypes.PyDLL(None).syscall
            child = os.fork()
            if not child:
                before = CONTENT
                grandchild = clone(*arguments)
                if not grandchild:
                    os.execv('/bin/true', ['true'])
                assert os.waitpid(grandchild, 0)[1] == 0
                assert CONTENT == before
                os._exit(os.access(f'@FILE@'.replace(
                    str(os.getpid()), str(grandchild)), os.F_OK))
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_once(self.child_names(child), '<module>')

    def test_a_child_that_switches_profiling_on_keeps_its_file(self):
        run, [child] = self.run_children("""\
            child = os.fork()
            if not child:
                sys.deactivate_stack_trampoline()
                sys.activate_stack_trampoline('@MODE@')
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_once(self.child_names(child), '<module>')

    def test_another_file_is_left_alone(self):
        run = self.run_python(PRELUDE + expand("""\
            child = os.fork()
            if not child:
                os.unlink(f'@FILE@')
                file = os.open(f'@FILE@', os.O_WRONLY | os.O_CREAT)
                os.write(file, b'precious')
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """))
        child, status = map(int, run.out.split())
        self.assertEqual(status, 0)
        with open(self.file_of(self.track(child))) as file:
            self.assertEqual(file.read(), 'precious')

    def test_descriptors_that_the_program_has_closed(self):
        self.assert_no_file("""\
            child = os.fork()
            if not child:
                os.closerange(3, 70_000)
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)


class FailingExecTests:
    """The program cannot be executed, and the child continues."""

    def run_child(self, source, before_fork=''):
        """Run `source` in a child.  Return the run, and the names in the
        child's file.
        """
        run = self.run_python(
            PRELUDE + dedent(before_fork)
            + 'missing, no_program = sys.argv[1:3]\n'
            + 'child = os.fork()\n'
            + 'if not child:\n' + indent(expand(source), '    ')
            + '    os._exit(0)\n'
            + 'print(child, os.waitpid(child, 0)[1])\n',
            args=[self.path('missing'), no_program(self.directory)])
        self.assertEqual(run.err_without_warnings, '')
        child, status = run.out.split()
        self.assertEqual(status, '0', run)
        return run, self.child_names(child)

    def test_a_missing_program_changes_nothing(self):
        run, names = self.run_child("""\
            before = CONTENT
            status = os.stat(f'@FILE@')
            FAIL(missing, 2)
            assert os.stat(f'@FILE@') == status
            assert CONTENT == before
            new()
            """)
        self.assert_once(names, 'new', '<module>')
        self.assertEqual(run.err, '')

    def test_the_file_is_put_back(self):
        run, names = self.run_child("""\
            before = CONTENT
            inode = os.stat(f'@FILE@').st_ino
            descriptors = os.listdir('/proc/self/fd')
            FAIL(no_program, 8)
            assert len(os.listdir('/proc/self/fd')) == len(descriptors)
            status = os.stat(f'@FILE@')
            assert status.st_ino != inode       # it was removed
            assert status.st_mode & 0o7777 == 0o600
            assert CONTENT == before
            new()
            FAIL(missing, 2)
            """)
        self.assert_once(names, 'new', '<module>')
        self.assertEqual(run.err, '')

    def test_again_and_again(self):
        run, names = self.run_child("""\
            for i in range(50):
                FAIL(no_program, 8)
            new()
            for i in range(50):
                FAIL(no_program, 8)
            """)
        self.assert_once(names, 'new', '<module>')

    def test_another_program_is_executed_then(self):
        run = self.run_python(PRELUDE + expand("""\
            child = os.fork()
            if not child:
                FAIL('/missing', 2)
                FAIL(sys.argv[1], 8)
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """), args=[no_program(self.directory)])
        child, status = run.out.split()
        self.assertEqual(status, '0')
        self.assertFalse(os.path.lexists(self.file_of(self.track(child))))

    def test_the_descriptor_was_closed(self):
        run, names = self.run_child("""\
            before = CONTENT
            os.closerange(3, 70_000)
            FAIL(no_program, 8)
            assert CONTENT == before
            new()
            """)
        self.assert_once(names, 'new', '<module>')
        self.assertEqual(run.err, '')

    def test_the_file_cannot_be_put_back(self):
        # There is no descriptor for it.
        run, names = self.run_child("""\
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit))
            FAIL(no_program, 8)
            assert not sys.is_stack_trampoline_active()
            new()
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            sys.activate_stack_trampoline('@MODE@')
            new()
            known()
            """, """\
            import resource
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            """)
        self.assert_one_warning(run, 'Too many open files')
        self.assert_once(names, 'new', 'known', '<module>')

    def test_a_child_that_keeps_its_parents_functions(self):
        import_helper.import_module('_testinternalcapi')
        run, names = self.run_child("""\
            before = CONTENT
            FAIL(no_program, 8)
            assert CONTENT == before
            new()
            known()
            """, """\
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
            """)
        self.assert_once(names, 'new', 'known', '<module>')

    def test_the_childs_own_child(self):
        run, names = self.run_child("""\
            FAIL(no_program, 8)
            grandchild = os.fork()
            if not grandchild:
                FAIL(no_program, 8)
                os._exit(0)
            assert os.waitpid(grandchild, 0)[1] == 0
            os.unlink(f'@FILE@'.replace(str(os.getpid()), str(grandchild)))
            """)
        self.assert_once(names, '<module>')

    def test_the_parents_file_is_untouched(self):
        run, names = self.run_child("""\
            FAIL(no_program, 8)
            new()
            """)
        self.assert_none(run.names, 'new')
        self.assert_once(run.names, 'known', '<module>')
        self.assert_good_entries(run.entries)


class PersistTests:

    def test_a_child_that_keeps_its_parents_functions_leaves_no_file(self):
        import_helper.import_module('_testinternalcapi')
        self.assert_no_file("""\
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
            child = os.fork()
            if not child:
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)

    def test_but_its_own_functions_are_kept(self):
        import_helper.import_module('_testinternalcapi')
        run, [child] = self.run_children("""\
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
            child = os.fork()
            if not child:
                new()
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_once(self.child_names(child), 'known', 'new')


class MapExecTests(ExecTests, PersistTests, MapMode):

    def test_a_function_that_the_parent_has_called_before(self):
        self.assert_no_file("""\
            child = os.fork()
            if not child:
                known()
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)

    def test_a_child_of_c_code(self):
        import_helper.import_module('ctypes')
        self.assert_no_file("""\
            import ctypes
            for library in ctypes.PyDLL(None), ctypes.CDLL(None):
                c_fork = library.fork
                child = c_fork()
                if not child:
                    os.execv('/bin/true', ['true'])
                print(child, os.waitpid(child, 0)[1])
            """, count=2)

    def test_entries_of_a_compiler_in_the_process_are_kept(self):
        import_helper.import_module('_testinternalcapi')
        run, [child] = self.run_children("""\
            from _testinternalcapi import write_perf_map_entry as write
            write(0x1000, 16, 'of the parent')
            child = os.fork()
            if not child:
                write(0x2000, 16, 'of the child')
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assertIn('of the child', self.child_names(child))

    def test_entries_of_a_compiler_in_the_parent_do_not_count(self):
        import_helper.import_module('_testinternalcapi')
        self.assert_no_file("""\
            from _testinternalcapi import write_perf_map_entry as write
            write(0x1000, 16, 'of the parent')
            child = os.fork()
            if not child:
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)


class JitdumpExecTests(ExecTests, PersistTests, JitdumpMode):
    """perf inject needs each dump of which the recording has the marker.

    A child maps the marker when it first calls a Python function.
    """

    def test_a_function_that_the_parent_has_called_before(self):
        run, [child] = self.run_children("""\
            child = os.fork()
            if not child:
                known()
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_once(self.child_names(child), 'known')

    def test_a_child_of_c_code(self):
        import_helper.import_module('ctypes')
        run, [child] = self.run_children("""\
            import ctypes
            child = ctypes.PyDLL(None).fork()
            if not child:
                os.execv('/bin/true', ['true'])
            print(child, os.waitpid(child, 0)[1])
            """)
        self.assert_once(self.child_names(child), '<module>')

    def test_the_marker_is_there_when_the_program_switches_profiling_on(self):
        for mode in '', 'sys.activate_stack_trampoline("perf")':
            with self.subTest(mode=mode):
                self.run_children(f"""\
                    child = os.fork()
                    if not child:
                        sys.deactivate_stack_trampoline()
                        {mode}
                        sys.activate_stack_trampoline('@MODE@')
                        maps = os.open('/proc/self/maps', os.O_RDONLY)
                        while data := os.read(maps, 100_000):
                            if f'@FILE@'.encode() in data:
                                os._exit(0)
                        os._exit(1)
                    print(child, os.waitpid(child, 0)[1])
                    """)

    def test_the_marker_is_there_after_a_call_of_an_inherited_function(self):
        import_helper.import_module('_testinternalcapi')
        self.run_children("""\
            from _testinternalcapi import (
                perf_trampoline_set_persist_after_fork as set_persist)
            set_persist(1)
            child = os.fork()
            if not child:
                known()
                maps = os.open('/proc/self/maps', os.O_RDONLY)
                while data := os.read(maps, 100_000):
                    if f'@FILE@'.encode() in data:
                        os._exit(0)
                os._exit(1)
            print(child, os.waitpid(child, 0)[1])
            """)

    def test_the_marker_is_there_after_a_call(self):
        run, [child] = self.run_children(MARKER + dedent("""\
            child = os.fork()
            if not child:
                maps = os.open('/proc/self/maps', os.O_RDONLY)
                while data := os.read(maps, 100_000):
                    assert b'/jit-' not in data
                [[*_, path]] = marker()
                assert path == f'@FILE@', path
                os._exit(0)
            print(child, os.waitpid(child, 0)[1])
            """))
        self.assert_once(self.child_names(child), 'marker')


class MapFailingExecTests(FailingExecTests, MapMode):
    pass


class JitdumpFailingExecTests(FailingExecTests, JitdumpMode):
    pass


if __name__ == '__main__':
    unittest.main()
