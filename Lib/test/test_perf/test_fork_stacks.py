"""Stacks of parent and child after a fork at any awkward moment.

Parent and child walk their own stacks.  They write down the addresses and what
Python knows.  The test names the addresses by the file of each process.
"""

import json
import os
import signal
import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures, walker
from test.test_perf.modes import FILES, MODES, VARIABLES, names_of


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    import_helper.import_module('_testinternalcapi')


# Each program begins with this.
BEFORE = """\
import atexit, gc, json, os, signal, sys, threading, time, warnings
from _testinternalcapi import (
    perf_trampoline_set_persist_after_fork as set_persist,
    perf_walk_stack as walk)

# CPython 3.12 and later warn of a fork while there are other threads.
warnings.filterwarnings('ignore', '.* is multi-threaded', DeprecationWarning)

script, directory = __file__, sys.argv[1]
set_persist('persist' in sys.argv)
pairs = []
alive = []

def see():
    chain = walk()
    frame = sys._getframe()
    names = []
    while frame is not None:
        code = frame.f_code
        alive.append(code)      # so that its place is not used again
        names.append(code.co_qualname if code.co_filename == script else
                     f'{os.path.basename(code.co_filename)}:{code.co_qualname}')
        frame = frame.f_back
    pairs.append((chain, names))

def split():
    child = os.fork()
    if not child:
        pairs.clear()           # the parent's
    see()
    return child

def tell():
    with open('/proc/self/maps') as maps, \\
         open(f'{directory}/{os.getpid()}', 'w') as file:
        json.dump([os.getpid(), time.monotonic_ns(), maps.read(), pairs],
                  file)

def late():
    see()

def finish(child):
    late()
    tell()
    if not child:
        os._exit(0)
    pid, status = os.waitpid(child, 0)
    assert status == 0, status

def after_fork_by_others():
    pairs.clear()
    late()
    tell()

"""


class ForkTestCase(fixtures.PerfTestCase):

    def reports(self, mode):
        """Return the reports of the processes and remove them."""
        reports = []
        for name in os.listdir(self.path('told')):
            with open(self.path('told', name)) as file:
                reports.append(json.load(file))
            os.unlink(self.path('told', name))
        for pid, *_ in reports:
            self.track(pid)
        return reports

    def check_report(self, pid, time, maps, pairs):
        names = walker.Names(self.path('script.py'), pid, time, maps)
        self.assertGreater(len(pairs), 0)
        for chain, wanted in pairs:
            self.assertEqual(names.python(chain), wanted)

    def check_fork(self, source, processes=2, least=2, returncode=0,
                   persist=(0, 1), only=None, by_variable=False, **options):
        """Run a program in both modes, with and without keeping trampolines.

        `processes` processes write reports, and each report is true.

        by_variable: switch the mode on by its environment variable
        """
        if not os.path.exists(self.path('told')):
            os.mkdir(self.path('told'))
        for mode in [only] if only else MODES:
            for keep in persist:
                with self.subTest(mode=mode, persist=keep):
                    if by_variable:
                        options['env'] = {VARIABLES[mode]: '1'}
                    run = self.run_python(
                        BEFORE + textwrap.dedent(source),
                        None if by_variable else mode,
                        args=[self.path('told')] + ['persist'] * keep,
                        returncode=returncode, **options)
                    self.assertEqual(run.err, '')
                    reports = self.reports(mode)
                    self.assertEqual(len(reports), processes)
                    for report in reports:
                        self.assertGreaterEqual(len(report[3]), least)
                        self.check_report(*report)


class ForkMomentTests(ForkTestCase):
    """A fork in the middle of everything that a program can do."""

    def test_in_nested_calls(self):
        self.check_fork("""\
            def nested(n):
                child = nested(n - 1) if n else split()
                see()
                return child
            finish(nested(70))
            """, least=72)

    def test_in_a_generator(self):
        self.check_fork("""\
            def outer():
                yield from inner()
                see()
            def inner():
                yield split()
                see()
            generator = outer()
            child = next(generator)
            see()
            list(generator)
            finish(child)
            """, least=5)

    def test_in_a_coroutine(self):
        self.check_fork("""\
            import asyncio
            async def inner():
                await asyncio.sleep(0)
                child = split()
                see()
                return child
            async def main():
                child = await inner()
                see()
                return child
            coroutine = main()
            try:
                while True:
                    coroutine.send(None)
            except StopIteration as end:
                finish(end.value)
            """, least=4)

    def test_in_a_callback_of_c_code(self):
        self.check_fork("""\
            def key(number):
                if number == 2:
                    children.append(split())
                see()
                return number
            children = []
            sorted([1, 2, 3], key=key)
            finish(children[0])
            """, least=4)

    def test_in_a_finalizer(self):
        self.check_fork("""\
            class Mortal:
                def __del__(self):
                    children.append(split())
                    see()
            def drops():
                mortal = Mortal()
                del mortal
                see()
            children = []
            drops()
            finish(children[0])
            """, least=4)

    def test_in_the_collector(self):
        self.check_fork("""\
            class Cycle:
                def __init__(self): self.me = self
                def __del__(self):
                    children.append(split())
                    see()
            children = []
            Cycle()
            gc.collect()
            finish(children[0])
            """, least=3)

    def test_in_a_signal_handler(self):
        self.check_fork("""\
            def handler(number, frame):
                children.append(split())
                see()
            def raises():
                signal.raise_signal(signal.SIGUSR1)
                see()
            children = []
            signal.signal(signal.SIGUSR1, handler)
            raises()
            finish(children[0])
            """, least=4)

    def test_while_an_exception_is_handled(self):
        self.check_fork("""\
            def fails(n):
                try:
                    if not n:
                        raise KeyError(1)
                    fails(n - 1)
                finally:
                    if n == 5:
                        children.append(split())
                    see()
            children = []
            try:
                fails(10)
            except KeyError:
                see()
            finish(children[0])
            """, least=8)

    def test_in_a_trace_function(self):
        self.check_fork("""\
            def trace(frame, event, argument):
                if frame.f_code is traced.__code__ and not children:
                    sys.settrace(None)
                    children.append(split())
                    see()
            def traced():
                see()
            children = []
            sys.settrace(trace)
            traced()
            finish(children[0])
            """, least=4)

    def test_while_a_module_is_imported(self):
        self.write_script("""\
            from __main__ import see, split
            class Class:
                child = split()
                see()
            """, 'imported.py')
        self.check_fork("""\
            import imported
            finish(imported.Class.child)
            """, least=3)

    def test_in_a_handler_of_fork_itself(self):
        # Three generations: the handlers of the first fork also fork.
        self.check_fork("""\
            def before():
                if not inner:
                    inner.append(1)
                    inner.append(split())
                    see()
            inner = []
            os.register_at_fork(before=before)
            child = split()
            see()
            grandchild = inner[1]
            if not grandchild:
                finish(child)
                os._exit(0)
            late()
            tell()
            if not child:
                os._exit(0)
            for pid in child, grandchild:
                assert os.waitpid(pid, 0)[1] == 0
            """, processes=4, least=3)

    def test_in_an_exit_handler(self):
        self.check_fork("""\
            def at_exit():
                finish(split())
            atexit.register(at_exit)
            """)

    def check_switching(self, source):
        for mode in MODES:
            other, = set(MODES) - {mode}
            self.check_fork(
                f'mode, other = {mode!r}, {other!r}\n'
                + textwrap.dedent(source)
                + textwrap.dedent("""\
                    def nested(n):
                        child = nested(n - 1) if n else switching()
                        see()
                        return child
                    finish(nested(40))
                    """), least=40, only=mode)

    def test_while_it_is_off(self):
        self.check_switching("""\
            def switching():
                sys.deactivate_stack_trampoline()
                child = split()
                sys.activate_stack_trampoline(mode)
                pairs.clear()
                see()
                return child
            """)

    def test_and_the_file_changes(self):
        self.check_switching("""\
            def switching():
                child = split()
                sys.activate_stack_trampoline(other)
                see()
                return child
            """)


class ForkFileTests(ForkTestCase):
    """Functions on the stack are in the file even if the file is new."""

    def test_the_file_is_gone(self):
        self.check_fork("""\
            def nested(n):
                if n:
                    nested(n - 1)
                else:
                    for path in (f'/tmp/perf-{os.getpid()}.map',
                                 f'/tmp/jit-{os.getpid()}.dump'):
                        if os.path.exists(path):
                            os.unlink(path)
                    os.closerange(3, 70_000)
                    late()
                see()
            nested(40)
            tell()
            """, processes=1, least=40, persist=(0,))

    def test_the_mode_changes(self):
        # Another thread is in the middle of something.
        for mode, other in zip(MODES, MODES[::-1]):
            self.check_fork(f"""\
                def thread(n):
                    if n:
                        thread(n - 1)
                    else:
                        ready.set()
                        changed.wait()
                    see()
                def change(n):
                    if n:
                        change(n - 1)
                    else:
                        sys.activate_stack_trampoline('{other}')
                        os.unlink(path)
                    see()
                path = '/tmp/{FILES[mode]}' % os.getpid()
                ready, changed = threading.Event(), threading.Event()
                other = threading.Thread(target=thread, args=(40,))
                other.start()
                ready.wait()
                change(40)
                changed.set()
                other.join()
                tell()
                """, processes=1, least=80, persist=(0,), only=mode)


class ThreadForkTests(ForkTestCase):

    def test_in_a_thread(self):
        self.check_fork("""\
            def thread():
                child = nested(40)
                finish(child)
            def nested(n):
                child = nested(n - 1) if n else split()
                see()
                return child
            def waiting():
                event.wait()
            event = threading.Event()
            others = [threading.Thread(target=waiting) for _ in range(3)]
            for other in others: other.start()
            forking = threading.Thread(target=thread)
            forking.start()
            forking.join()
            event.set()
            for other in others: other.join()
            """, least=42)

    def test_again_and_again_while_threads_call_new_functions(self):
        self.check_fork("""\
            def busy(name):
                for i in range(2000):
                    exec(f'def {name}{i}(): pass\\n{name}{i}()', {})
            threads = [threading.Thread(target=busy, args=(name,))
                       for name in 'abc']
            for thread in threads: thread.start()
            for i in range(20):
                finish(split())
            for thread in threads: thread.join()
            """, processes=21)

    def test_all_threads_at_once(self):
        self.check_fork("""\
            def thread(number):
                barrier.wait()
                exec(f'def new{number}(): finish(split())',
                     {'finish': quiet_finish, 'split': split}, spaces[number])
                spaces[number][f'new{number}']()
            def quiet_finish(child):
                late_too()
                if not child:
                    tell()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            def late_too():
                pass
            spaces = [{} for _ in range(8)]
            barrier = threading.Barrier(8)
            threads = [threading.Thread(target=thread, args=(i,))
                       for i in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            pairs.clear()
            see()
            late()
            tell()
            """, processes=9, least=1)


class FamilyTests(ForkTestCase):

    def test_twice_in_a_row(self):
        self.check_fork("""\
            def first(): return split()
            def second(): return split()
            children = [first(), second()]
            late()
            tell()
            # Each waits for its own.
            mine = children if all(children) else \\
                children[1:] if children[1] and not children[0] else \\
                []
            for child in mine:
                assert os.waitpid(child, 0)[1] == 0
            if not all(children):
                os._exit(0)
            """, processes=4)

    def test_ten_generations(self):
        self.check_fork("""\
            def generation(n):
                child = split()
                if not child and n:
                    generation(n - 1)
                finish(child)
            generation(8)
            """, processes=10)

    def test_the_parent_is_killed_at_once(self):
        # Only the reader of its output waits for the child.
        self.check_fork("""\
            def forking():
                read, write = os.pipe()
                child = split()
                if child:
                    tell()
                    os.kill(os.getpid(), signal.SIGKILL)
                os.close(write)
                os.read(read, 1)        # until the parent is dead
                see()
                late()
                tell()
                os._exit(0)
            forking()
            """, returncode=-signal.SIGKILL, least=1)

    def test_the_child_is_killed_at_once(self):
        self.check_fork("""\
            child = split()
            if not child:
                tell()
                os.kill(os.getpid(), signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            late()
            tell()
            """, least=1)

    def test_a_hundred_children_at_once(self):
        self.check_fork("""\
            def child(number):
                late()
                tell()
                os.read(read, 1)
                os._exit(0)
            read, write = os.pipe()
            children = []
            for number in range(100):
                children.append(split())
                if not children[-1]:
                    os.close(write)
                    child(number)
            late()
            tell()
            os.close(write)
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
            """, processes=101, persist=(0,))


class OtherWaysTests(ForkTestCase):
    """Other ways to make processes."""

    def check_multiprocessing(self, method, **options):
        import_helper.import_module('_multiprocessing')
        self.check_fork(f"""\
            import multiprocessing
            def work():
                after_fork_by_others()
            if __name__ == '__main__':
                context = multiprocessing.get_context('{method}')
                children = [context.Process(target=work) for _ in range(2)]
                for child in children: child.start()
                for child in children: child.join()
                for child in children: assert child.exitcode == 0
                late()
                tell()
            """, processes=3, least=1, **options)

    def test_multiprocessing_with_fork(self):
        self.check_multiprocessing('fork')

    def test_multiprocessing_with_spawn(self):
        # A child does not inherit the option.
        self.check_multiprocessing('spawn', persist=(0,), by_variable=True)

    def test_multiprocessing_with_a_fork_server(self):
        self.check_multiprocessing('forkserver', persist=(0,),
                                   by_variable=True)

    def test_a_pool_of_processes(self):
        import_helper.import_module('_multiprocessing')
        self.check_fork("""\
            import concurrent.futures
            def work(number):
                pairs.clear()
                late()
                return number + 1
            def end():
                tell()
            with concurrent.futures.ProcessPoolExecutor(1) as pool:
                assert list(pool.map(work, range(50))) == [*range(1, 51)]
                pool.submit(end).result()
            late()
            tell()
            """, least=1)

    def test_subprocess_with_a_function_before_the_program(self):
        self.check_fork("""\
            import subprocess
            def before():
                after_fork_by_others()
            done = subprocess.run(['/bin/echo', 'told'], preexec_fn=before,
                                  capture_output=True, close_fds=True)
            assert done.stdout == b'told\\n'
            late()
            tell()
            """, least=1)

    def test_a_child_with_a_terminal(self):
        self.check_fork("""\
            child, terminal = os.forkpty()
            if not child:
                pairs.clear()
            see()
            finish(child)
            """)

    SPAWN = """\
        command = [sys.executable, '-X', {mode!r}, '-c',
                   'def function(): pass\\nfunction()\\n'
                   'import os\\nprint(os.getpid(), flush=True)']
        """

    def check_program(self, source):
        """A program that is started has its own file."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.run_python(
                    'import os, subprocess, sys\n'
                    + textwrap.dedent(self.SPAWN.format(mode=mode))
                    + textwrap.dedent(source), mode)
                self.assertEqual(run.err, '')
                child = self.track(run.out)
                for pid, name in ((child, 'py::function:<string>'),
                                  (run.pid, self.script_name('late'))):
                    self.assertIn(name, names_of(mode, pid))
                self.assert_none(names_of(mode, child), 'late')

    def test_a_subprocess(self):
        self.check_program("""\
            def late(): pass
            subprocess.run(command, check=True)
            late()
            """)

    def test_posix_spawn(self):
        self.check_program("""\
            def late(): pass
            child = os.posix_spawn(command[0], command, os.environ)
            assert os.waitpid(child, 0)[1] == 0
            late()
            """)

    def test_a_program_in_the_place_of_a_child(self):
        self.check_program("""\
            def late(): pass
            child = os.fork()
            if not child:
                os.execv(command[0], command)
            assert os.waitpid(child, 0)[1] == 0
            late()
            """)


if __name__ == '__main__':
    unittest.main()
