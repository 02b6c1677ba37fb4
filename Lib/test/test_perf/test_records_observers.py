"""Frame records and code that traces, profiles, collects or replaces
functions.
"""

import json
import re
import textwrap
import unittest

from test.support import import_helper
from test.test_perf import fixtures
from test.test_perf.modes import MODES
from test.test_perf.walker import CALLERS, RecordTestCase


def setUpModule():
    fixtures.require_trampoline()
    fixtures.require_frame_pointers()
    import_helper.import_module('_testinternalcapi')


class ObserverTests(RecordTestCase):
    """Code that runs between others, and code that looks at frames."""

    def test_tracing_and_profiling_functions(self):
        for set_function in ('settrace', 'setprofile'):
            with self.subTest(function=set_function):
                pairs = self.assert_pairs(CALLERS + textwrap.dedent(f"""\
                    def hook(frame, event, arg):
                        sys.{set_function}(None)
                        chains.append((walk(), callers(sys._getframe())))
                        sys.{set_function}(hook)
                        return hook
                    def outer(n):
                        if n:
                            outer(n - 1)
                        else:
                            list(inner())
                    def inner():
                        try:
                            leaf()
                        except ValueError:
                            yield leaf
                    def leaf():
                        raise ValueError
                    for n in (1, 2, 40):
                        sys.{set_function}(hook)
                        outer(n)
                        sys.{set_function}(None)
                        chains.append((walk(), callers(sys._getframe())))
                    """), least=80)
                self.assertIn(['hook', 'leaf', 'inner', *['outer'] * 41,
                               '<module>'], [wanted for _, wanted in pairs])

    def test_threads(self):
        self.assert_chains("""\
            import threading
            def deep(n):
                if n:
                    deep(n - 1)
                else:
                    results.append(walk())
            def work():
                for _ in range(200):
                    deep(40)
                results.append(walk())
            results = []
            sys.setswitchinterval(1e-5)
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            chains = sorted(results, key=len, reverse=True)
            assert len(chains) == 804
            chains = chains[:800] * 1
            """, 'deep ' * 41 + 'work', stdlib=True, module=False)

    def test_a_thread_is_whole_from_its_start(self):
        names, chains = self.run_child("""\
            import threading
            def work(): inner()
            def inner(): chains.append(walk())
            for _ in rounds:
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
            """)
        for addresses in chains[:-1]:
            self.assertEqual(
                names.python(addresses),
                ['inner', 'work', 'threading.py:Thread.run',
                 'threading.py:Thread._bootstrap_inner',
                 'threading.py:Thread._bootstrap'])

    def test_a_signal_handler(self):
        self.assert_chains("""\
            import signal
            def handler(number, frame):
                inner()
                assert frame.f_code.co_name == 'interrupted'
            def inner(): chains.append(walk())
            def interrupted():
                signal.raise_signal(signal.SIGUSR1)
                chains.append(walk())
            def outer(n):
                if n:
                    outer(n - 1)
                else:
                    interrupted()
            signal.signal(signal.SIGUSR1, handler)
            for _ in rounds:
                outer(33)
            """, 'inner handler interrupted ' + 'outer ' * 34,
            'interrupted ' + 'outer ' * 34)

    def test_finalizers_and_the_collector(self):
        self.assert_chains("""\
            import gc, weakref
            gc.disable()
            class Class:
                def __del__(self): inner()
            def inner(): chains.append(walk())
            def callback(reference): inner()
            def drop():
                c = Class()
                c.cycle = c
                del c
                gc.collect()
                c = {1}
                reference = weakref.ref(c, callback)
                del c
            for _ in rounds:
                drop()
            """, 'inner Class.__del__ drop', 'inner callback drop')

    def test_frames_look_the_same(self):
        # What Python code sees of frames does not depend on records.
        source = """\
            import faulthandler, inspect, io, sys, traceback
            def generator(): yield from inner(3)
            def inner(n):
                if n:
                    yield from inner(n - 1)
                look()
                yield
            def look():
                frame = sys._getframe()
                while frame:
                    where = list(frame.f_code.co_positions())
                    print(frame.f_code.co_qualname, frame.f_lineno,
                          where[frame.f_lasti // 2],
                          sorted(frame.f_locals)[:3])
                    frame = frame.f_back
                print([(f.function, f.lineno) for f in inspect.stack(0)])
                traceback.print_stack(file=sys.stdout)
                sys.stdout.flush()
                faulthandler.dump_traceback(sys.stdout)
            def outer(n):
                if n:
                    return outer(n - 1)
                for _ in generator():
                    pass
                sorted([1], key=lambda x: look())
            def fails(n):
                if n:
                    fails(n - 1)
                1 / 0
            for _ in range(5):
                outer(40)
                try:
                    fails(40)
                except ZeroDivisionError as error:
                    traceback.print_exc(file=sys.stdout)
                    traceback.print_stack(error.__traceback__.tb_frame,
                                          file=sys.stdout)
            """
        off = self.run_python(source, mode=None)
        self.assertIn('File', off.out)
        # faulthandler prints threads as addresses.
        off.out = re.sub(r'0x[0-9a-f]+', 'ADDRESS', off.out)
        for mode in MODES:
            with self.subTest(mode=mode):
                on = self.run_python(source, mode=mode)
                on.out = re.sub(r'0x[0-9a-f]+', 'ADDRESS', on.out)
                self.assertEqual(on.out, off.out)
                self.assertEqual(on.err, off.err)

    def test_fork_in_nested_calls(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                names, chains = self.run_child("""\
                    def outer(n):
                        if n:
                            outer(n - 1)
                        else:
                            forks()
                        if os.getpid() != parent:
                            in_child(n)
                    def forks():
                        inner()
                        if os.fork() == 0:
                            chains.append(walk())
                        in_both()
                        inner()
                    def inner(): chains.append(walk())
                    def in_both(): chains.append(walk())
                    def in_child(n): chains.append(walk())
                    parent = os.getpid()
                    outer(40)
                    if os.getpid() == parent:
                        _, status = os.wait()
                        assert status == 0
                        with open(sys.argv[1]) as file:
                            chains.append(file.read())
                    else:
                        chains.append(walk())
                        with (open(sys.argv[1], 'w') as file,
                              open('/proc/self/maps') as maps):
                            json.dump([os.getpid(), time.monotonic_ns(),
                                       maps.read(), chains], file)
                        os._exit(0)
                    """, mode, args=[self.path('child')])
                *process, of_child = json.loads(chains[-2])
                in_child = self.names(*process)
                below = ['forks', *['outer'] * 41, '<module>']
                self.assertEqual(
                    [names.python(chain) for chain in chains[:-2]],
                    [[name, *below] for name in ('inner', 'in_both', 'inner')])
                self.assertEqual(
                    [in_child.python(chain) for chain in of_child],
                    [['inner', *below], below, ['in_both', *below],
                     ['inner', *below],
                     *[['in_child', *['outer'] * (41 - n), '<module>']
                       for n in range(41)],
                     ['<module>']])


if __name__ == '__main__':
    unittest.main()
