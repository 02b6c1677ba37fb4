"""What is in a perf map, /tmp/perf-PID.map."""

import subprocess
import sys
import unittest

from test.test_perf import fixtures, parsers


def setUpModule():
    fixtures.require_trampoline()


class MapTests(fixtures.PerfTestCase):
    """The content of the file."""

    def test_each_function_has_one_good_line(self):
        run = self.run_python("""\
            def foo(): bar()
            def bar(): baz()
            def baz(): pass

            for i in range(100):
                foo()
            """)
        self.assert_written(run, '<module>', 'foo', 'bar', 'baz')
        self.assert_good_map(run.entries)

    def test_every_line_is_of_a_python_function(self):
        run = self.run_python('import json, decimal, collections.abc')
        self.assertGreater(len(run.names), 20)
        for name in run.names:
            self.assertRegex(name, r'\Apy::[^:]+:(/|<)')

    def test_a_qualified_name_is_used(self):
        run = self.run_python("""\
            class Outer:
                class Inner:
                    def method(self):
                        def local(): pass
                        local()
                        list(i for i in ())
                        (lambda: None)()

            Outer.Inner().method()
            """)
        for name in ('Outer', 'Outer.Inner', 'Outer.Inner.method',
                     'Outer.Inner.method.<locals>.local',
                     'Outer.Inner.method.<locals>.<genexpr>',
                     'Outer.Inner.method.<locals>.<lambda>'):
            self.assert_written(run, name)

    def test_code_without_a_file_has_the_name_it_was_compiled_with(self):
        run = self.run_python("""\
            exec('def function(): pass\\nfunction()')
            exec(compile('1', '<made up>', 'exec'))
            """)
        self.assertIn('py::function:<string>', run.names)
        self.assertIn('py::<module>:<made up>', run.names)

    def test_generators_and_coroutines_appear(self):
        run = self.run_on_and_off("""\
            import asyncio

            def generator():
                got = yield 1
                print(got)
                yield 2

            def delegating():
                yield from generator()

            async def asynchronous_generator():
                yield 1
                await asyncio.sleep(0)
                yield 2

            async def coroutine():
                await asyncio.sleep(0)
                return [i async for i in asynchronous_generator()]

            g = delegating()
            print(next(g), g.send('sent'), list(g))
            print(asyncio.run(coroutine()))
            """)
        self.assert_written(run, 'generator', 'delegating',
                            'asynchronous_generator', 'coroutine')

    def test_twenty_thousand_functions_lose_nothing(self):
        run = self.run_on_and_off("""\
            total = 0
            for start in range(0, 20_000, 1000):
                source = ''.join(f'def f{i}(): return {i}\\n'
                                 for i in range(start, start + 1000))
                namespace = {}
                exec(compile(source, '<many>', 'exec'), namespace)
                for i in range(start, start + 1000):
                    total += namespace[f'f{i}']()
            print(total)
            """)
        many = [name for name in run.names
                if name.startswith('py::f') and name.endswith(':<many>')]
        self.assertEqual(len(many), 20_000)
        self.assertEqual(set(many),
                         {f'py::f{i}:<many>' for i in range(20_000)})
        self.assert_good_map(run.entries)

    def test_an_address_is_never_used_twice(self):
        # The functions are destroyed and others follow.
        run = self.run_python("""\
            for i in range(5000):
                exec(f'def f{i}(): pass\\nf{i}()')
            """)
        self.assertEqual(len({entry.start for entry in run.entries}),
                         len(run.entries))
        self.assert_good_map(run.entries)
        self.assertEqual(
            len([n for n in run.names if n.startswith('py::f')
                 and n.endswith(':<string>')]), 5000)

    def test_the_trampolines_lie_in_anonymous_executable_memory(self):
        # perf uses the map only for such mappings.
        run = self.run_python("""\
            def function(): pass
            function()
            with open('/proc/self/maps') as file:
                print(file.read())
            """)
        [entry] = [entry for entry in run.entries
                   if entry.name == self.script_name('function')]
        for line in run.out.splitlines():
            if not line:
                continue
            span, mode, *_, inode = line.split()[:5]
            start, end = (int(x, 16) for x in span.split('-'))
            if start <= entry.start < end:
                self.assertLessEqual(entry.start + entry.size, end)
                self.assertEqual(mode, 'r-xp')
                self.assertEqual(inode, '0')
                self.assertEqual(len(line.split()), 5, line)
                break
        else:
            self.fail('the trampoline is in no mapping')

    def test_no_memory_is_writable_and_executable(self):
        run = self.run_python("""\
            for i in range(3000):
                exec(f'def f{i}(): pass\\nf{i}()')
            for line in open('/proc/self/maps'):
                print(line.split()[1])
            """)
        self.assertGreater(len(run.entries), 3000)
        self.assertIn('r-xp', run.out.split())
        self.assertNotIn('rwxp', run.out.split())
        self.assertNotIn('-wxp', run.out.split())

    def test_a_function_that_raises_appears(self):
        run = self.run_on_and_off("""\
            def raises():
                raise ValueError('on purpose')
            try:
                raises()
            except ValueError as error:
                print(error, error.__traceback__.tb_lineno)
            """)
        self.assert_written(run, 'raises')

    def test_a_function_called_at_the_end_appears(self):
        run = self.run_python("""\
            import atexit

            @atexit.register
            def at_exit(): pass

            class Collected:
                def __del__(self): pass

            collected = Collected()
            """)
        self.assert_written(run, 'at_exit')


class StdinTests(fixtures.PerfTestCase):

    def test_stdin_is_a_program_too(self):
        with subprocess.Popen(
                [sys.executable, '-X', 'perf', '-'],
                env=fixtures.clean_environment(),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            self.track(child.pid)
            out, _ = child.communicate(b'def f(): print(1)\nf()\n')
        self.assertEqual(out, b'1\n')
        names = [entry.name for entry in parsers.read_map(child.pid)]
        self.assertIn('py::f:<stdin>', names)


class MappingTests(fixtures.PerfTestCase):
    """Where the trampolines are."""

    SOURCE = """\
        import os, types

        def template(): pass

        def call_new(prefix):
            for i in range(3000):
                types.FunctionType(template.__code__.replace(
                    co_qualname=f'{prefix}{i}'), {})()

        def mappings(pid):
            with open(f'/tmp/perf-{pid}.map') as file:
                addresses = {line.split()[2].split(':')[2]: int(line.split()[0], 16)
                             for line in file}
            found = {}
            with open('/proc/self/maps') as file:
                for line in file:
                    place, permissions = line.split()[:2]
                    start, end = (int(part, 16) for part in place.split('-'))
                    for name, address in addresses.items():
                        if start <= address < end:
                            found[name] = place, permissions
            return found

        call_new('parent')
        found = mappings(os.getpid())
        assert len(found) > 3000, len(found)
        print(*sorted(set(found.values())), flush=True)
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            call_new('child')
            found = mappings(os.getpid())
            print(*{found[f'child{i}'] for i in range(3000)})
            print(*set(mappings(parent).values()), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        """

    def test_trampolines_are_in_one_mapping(self):
        run = self.run_python(self.SOURCE)
        lines = [line.split(') (') for line in run.out.splitlines()]
        self.assertEqual([len(line) for line in lines], [1, 1, 1], run.out)
        for [line] in lines:
            self.assertIn("'r-xp'", line)
        # In a child, inherited trampolines and its own are in different mappings.
        self.assertEqual(lines[2], lines[0])
        self.assertNotEqual(lines[1], lines[0])

    def test_limited_address_space(self):
        """Trampolines then take no more of it than they need."""
        run = self.run_python("""\
            import resource
            with open('/proc/self/statm') as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + 2**25, ) * 2)
            import sys, types
            sys.activate_stack_trampoline('perf')
            def template(): pass
            for i in range(3000):
                types.FunctionType(template.__code__.replace(
                    co_qualname=f'f{i}'), {})()
            """, mode=None)
        self.assertLessEqual({f'f{i}' for i in range(3000)},
                             {name.split(':')[2] for name in run.names})


if __name__ == '__main__':
    unittest.main()
