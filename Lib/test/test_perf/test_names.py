"""Names of functions and files: tabs, line breaks, surrogates, a million
characters.

Each name must become one line of UTF-8 from which the name can be restored, in
the map and in the jitdump.  Profilers must show it.  Ten thousand generated
names are read back by our readers, perf and samply.
"""

import re
import sys
import unittest

from test.support import import_helper
from test.test_perf import fixtures, jitdump, namegen, parsers, scenarios
from test.test_perf.modes import JitdumpMode, MapMode
from test.test_perf.parsers import names_in_map


def setUpModule():
    fixtures.require_trampoline()


ESCAPE = re.compile(r'\\(\\|n|t|r|x[0-9a-f]{2}|u[0-9a-f]{4})')


def unescape(name):
    """Undo the escapes of the writer."""
    def character(match):
        text = match[1]
        if text[0] in 'xu':
            return chr(int(text[1:], 16))
        return {'\\': '\\', 'n': '\n', 't': '\t', 'r': '\r'}[text]
    return ESCAPE.sub(character, name)


class NameTests:

    def run_named(self, qualname="'function'", filename="'/file.py'"):
        """Run a function with this name and file name, given as source code.
        """
        return self.run_on_and_off(f"""\
            def function():
                return 'result'

            function.__code__ = function.__code__.replace(
                co_qualname={qualname}, co_filename={filename})
            print(function())
            """)

    def assert_name(self, expected, **names):
        run = self.run_named(**names)
        self.assertIn(expected, run.names)
        self.assertEqual(run.out, 'result\n')
        self.assertEqual(run.err, '')
        self.assert_good_entries(run.entries)

    def assert_both(self, literal, expected):
        """The name and the file name are escaped in the same way."""
        self.assert_name(f'py::{expected}:/file.py', qualname=literal)
        self.assert_name(f'py::function:{expected}', filename=literal)

    def test_a_newline_in_a_name_stays_on_one_line(self):
        self.assert_both(r"'a\nb'", r'a\nb')

    def test_a_name_cannot_forge_an_entry(self):
        self.assert_both(r"'a\n1000 10 py::forged:/x'",
                         r'a\n1000 10 py::forged:/x')

    def test_a_name_that_ends_in_a_newline_does_not_end_the_line(self):
        self.assert_both(r"'a\n'", r'a\n')

    def test_a_carriage_return_and_a_tab_are_escaped(self):
        self.assert_both(r"'a\rb\tc'", r'a\rb\tc')

    def test_controls_are_escaped(self):
        self.assert_both(r"'\x01\x08\x0b\x0c\x1f\x7f'",
                         r'\x01\x08\x0b\x0c\x1f\x7f')

    def test_a_terminal_sequence_is_escaped(self):
        self.assert_both(r"'\x1b[31mred\x1b]0;title\x07'",
                         r'\x1b[31mred\x1b]0;title\x07')

    def test_c1_controls_are_escaped(self):
        self.assert_both(r"'\x80\x85\x9b\x9f\xa0'",
                         '\\x80\\x85\\x9b\\x9f\xa0')

    def test_line_and_paragraph_separators_are_escaped(self):
        self.assert_both(r"'a\u2028b\u2029c'", r'a\u2028b\u2029c')

    def test_lone_surrogates_are_escaped(self):
        self.assert_both(r"'a\udc80b\ud800\udfff\ud83d'",
                         r'a\udc80b\ud800\udfff\ud83d')

    def test_a_backslash_is_doubled(self):
        self.assert_both(r"'a\\nb\\'", r'a\\nb\\')

    def test_a_nul_does_not_end_a_name(self):
        self.assert_both(r"'a\0b'", r'a\x00b')

    def test_non_ascii_names_stand_as_they_are(self):
        self.assert_both(
            r"'Gr\xfc\xdfe \u65e5\u672c\u8a9e \U0001f40d e\u0301'",
            'Grüße 日本語 🐍 e\u0301')

    def test_spaces_stand_as_they_are(self):
        self.assert_both("' a  b '", ' a  b ')

    def test_a_name_may_be_one_character(self):
        self.assert_both("'f'", 'f')

    def test_a_name_may_be_empty(self):
        self.assert_both("''", '')

    def test_a_name_may_look_like_a_number(self):
        self.assert_both("'7f0000000000 100'", '7f0000000000 100')

    def test_a_name_of_100_000_characters_is_whole(self):
        self.assert_both("'n' * 99_999 + 'm'", 'n' * 99_999 + 'm')

    def test_a_name_of_100_000_escapes_is_whole(self):
        self.assert_both(r"'\n' * 100_000", r'\n' * 100_000)

    def test_names_about_the_size_of_a_buffer_are_whole(self):
        sizes = [n + d for n in (64, 128, 256, 512, 1024, 2048, 4096, 8192,
                                 65536)
                 for d in range(-40, 8)]
        run = self.run_on_and_off(f"""\
            def function():
                return 'result'

            code = function.__code__
            for size in {sizes}:
                function.__code__ = code.replace(
                    co_qualname='é' + 'n' * (size - 2), co_filename='/f')
                function()
                function.__code__ = code.replace(
                    co_qualname='x', co_filename='/' + 'f' * size)
                function()
            """)
        self.assertEqual(
            [name for name in run.names if name.endswith(':/f')],
            ['py::é' + 'n' * (size - 2) + ':/f' for size in sizes])
        self.assertEqual(
            [name for name in run.names if name.startswith('py::x:')],
            ['py::x:/' + 'f' * size for size in sizes])

    def test_every_character_can_be_told_from_the_file(self):
        every = "''.join(map(chr, [*range(0x10000), *range(0x10000, " \
                "0x110000, 97)]))"
        run = self.run_named(qualname=every)
        [name] = [name for name in run.names if name.endswith(':/file.py')]
        self.assertTrue(
            unescape(name.removeprefix('py::').removesuffix(':/file.py'))
            == eval(every))
        for name in run.names:
            self.assertIsNone(FORBIDDEN.search(name))

    def test_a_name_from_source_code_may_be_hostile(self):
        run = self.run_on_and_off(r"""
            exec(compile('def function(): return 1\nprint(function())',
                         'a\n\udcff\x1b file', 'exec'))
            """)
        self.assertIn(r'py::function:a\n\udcff\x1b file', run.names)

    def test_a_hostile_name_is_told_to_the_child_of_a_fork(self):
        import_helper.import_module('_testinternalcapi')
        for persist in (0, 1):
            with self.subTest(persist=persist):
                run = self.run_python(f"""\
                    import os
                    from _testinternalcapi import (
                        perf_trampoline_set_persist_after_fork as set_persist)

                    def function():
                        child = os.fork()
                        if not child:
                            os._exit(0)
                        assert os.waitpid(child, 0)[1] == 0
                        print(child)

                    function.__code__ = function.__code__.replace(
                        co_qualname='a\\n\\udc80' + 'n' * 100_000)
                    set_persist({persist})
                    function()
                    """)
                name = self.script_name(r'a\n\udc80' + 'n' * 100_000)
                self.assertIn(name, self.child_names(run.out))


class MapNameTests(NameTests, MapMode):

    def test_no_line_has_a_control(self):
        every = "''.join(map(chr, [*range(0x10000), *range(0x10000, " \
                "0x110000, 97)]))"
        run = self.run_named(qualname=every)
        with open(run.file, 'rb') as file:
            data = file.read()
        self.assertEqual(
            [byte for byte in set(data) if byte < 32 or byte == 127], [10])
        self.assertFalse(re.search('[\x80-\x9f\u2028\u2029]', data.decode()))


class JitdumpNameTests(NameTests, JitdumpMode):

    NAMES = {
        r"'a\nb'": r'a\nb',
        r"'a\0b'": r'a\x00b',
        r"'\x01\x1b[31m\x7f\x85'": r'\x01\x1b[31m\x7f\x85',
        r"'a\rb\tc'": r'a\rb\tc',
        r"'\u2028\udc80\ud800'": r'\u2028\udc80\ud800',
        r"'back\\slash'": r'back\\slash',
        r"'Gr\xfc\xdfe \u65e5\u672c \U0001f40d'": 'Grüße 日本 🐍',
        "'f'": 'f',
        "'n' * 99_999 + 'm'": 'n' * 99_999 + 'm',
        r"'\n' * 100_000": r'\n' * 100_000,
        # In a jitdump this byte would mean the file name before.
        r"'\xff'": '\xff',
    }

    def test_hostile_names_are_as_in_a_map(self):
        source = f"""\
            def function(): pass

            code = function.__code__
            for name in [{', '.join(self.NAMES)}, '']:
                function.__code__ = code.replace(
                    co_qualname=name, co_filename='/file.py')
                function()
                function.__code__ = code.replace(
                    co_qualname='function', co_filename=name)
                function()
            """
        dump = self.read(self.run_on_and_off(source))
        names = dump.names
        for name in [*self.NAMES.values(), '']:
            with self.subTest(name=name[:100]):
                self.assertIn(f'py::{name}:/file.py', names)
                self.assertIn(f'py::function:{name}', names)
        in_map = names_in_map(self.run_python(source, 'perf').pid)
        for name in in_map:
            self.assertTrue(name in names, name[:100])

    def test_an_empty_file_name_is_no_fault(self):
        run = self.run_python("""\
            def function(): pass
            function.__code__ = function.__code__.replace(co_filename='')
            function()
            """)
        [function] = [f for f in self.read(run).functions()
                      if f.load.name == 'py::function:']
        self.assertEqual(function.lines()[0][:2], ('', 1))


# ---------------------------------------------------------------------------
# Generated names

COUNT = 10_000

# Calls a function of each name.  The test says what the function does.  All functions
# stay alive, so that none takes the place of another one with the same name.
NAMED_PROGRAM = """\
import sys, types
from test.test_perf import namegen

{prepare}

def function():
    {body}

def main():
    functions = []
    for qualname, filename in namegen.generate({count}, {seed}, {longest}):
        functions.append(types.FunctionType(function.__code__.replace(
            co_qualname=qualname, co_filename=filename), globals()))
        functions[-1]()

main()
"""


def program(count=COUNT, seed=namegen.SEED, longest=sys.maxsize,
            prepare='', body='pass'):
    return NAMED_PROGRAM.format(count=count, seed=seed, longest=longest,
                          prepare=prepare, body=body)


def expected(*args, **options):
    return [f'py::{qualname}:{filename}'
            for qualname, filename in namegen.generate(*args, **options)]


ESCAPED = re.compile('[\\\\\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


def escape(name):
    """Escape a name as Doc/howto/perf_internals.rst says."""
    def escaped(match):
        character = match[0]
        short = {'\\': '\\\\', '\n': r'\n', '\t': r'\t', '\r': r'\r'}
        point = ord(character)
        return short.get(character) or (
            f'\\x{point:02x}' if point < 256 else f'\\u{point:04x}')
    return ESCAPED.sub(escaped, name)


def strangers(seen, names):
    """Return the names that were seen and that are not expected.

    Functions of the program itself, in a file or frozen, are left out.
    """
    # samply shows each function a second time without its prefix.
    names = names | {name.removeprefix('py::') for name in names}
    return {name for name in seen - names if not name.endswith(('.py', '>'))}


FORBIDDEN = re.compile('[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


class GeneratedNameTests(fixtures.PerfTestCase):

    def check(self, names, **options):
        """The file has these names in this order.

        Before and after them it has the names of other functions of the
        program.
        """
        wanted = expected(COUNT, **options)
        start = names.index(self.script_name('main')) + 1
        found = [name for name in names[start:]
                 if not name.endswith(('namegen.py', 'random.py'))]
        self.assertGreaterEqual(len(found), len(wanted))
        for name, original in zip(found, wanted):
            self.assertTrue(unescape(name) == original, ascii(name[:200]))
            self.assertIsNone(FORBIDDEN.search(name))

    def test_the_generator_makes_all_kinds(self):
        together = set()
        longest = 0
        for qualname, filename in namegen.generate(COUNT):
            together.update(qualname)
            together.update(filename)
            longest = max(longest, len(qualname))
        self.assertEqual(longest, 1_000_000)
        for characters in namegen.categories():
            self.assertTrue(together & set(characters))

    def test_in_a_map(self):
        run = self.run_python(program())
        self.assertEqual(run.err, '')
        self.assert_good_map(run.entries)
        self.check(run.names)

    def test_in_a_jitdump(self):
        run = self.run_python(program(), 'perf_jit')
        self.assertEqual(run.err, '')
        dump = jitdump.read(f'/tmp/jit-{run.pid}.dump')
        self.assertEqual(dump.incomplete, 0)
        functions = dump.functions()
        self.check([function.load.name for function in functions])
        for function in functions:
            self.assertTrue(function.load.name.endswith(
                ':' + function.debug.entries[0].filename))


class RecordedNameTests(scenarios.PerfToolTestCase):
    """perf samples each function, by a page that it is the first to touch.

    perf and samply both read the recording.
    """

    PREPARE = f"""\
import itertools, mmap
pages = mmap.mmap(-1, {COUNT} * mmap.PAGESIZE)
pages.madvise(mmap.MADV_NOHUGEPAGE)
places = itertools.count(0, mmap.PAGESIZE)
"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.samply = fixtures.find_tool('SAMPLY', 'samply')

    def record_faults(self, mode):
        command = self.python_command(
            program(prepare=self.PREPARE, body='pages[next(places)] = 1'),
            mode)
        run = self.run_command(
            self.perf_command(
                'record', '-q', '-B', '-N', '-e', 'page-faults:u', '-c', '1',
                '-m', '16M', '-g', '-k', '1', '-o', self.path('perf.data'),
                '--', *self.telling_pid(command)),
            env=fixtures.clean_environment(JITDUMPDIR=self.directory))
        self.told(run)

    def check(self, samples):
        """All names were seen, and no others."""
        seen = {name for sample in samples
                for name in parsers.python_names(sample)}
        names = {escape(name) for name in expected(COUNT)}
        for wrong in (names - seen, strangers(seen, names)):
            self.assertEqual(len(wrong), 0, ascii([
                name[:60] for name in sorted(wrong, key=len)[:20]]))

    def check_samply(self):
        self.run_command([self.samply, 'import', '--save-only', '-o',
                          self.path('profile.json.gz'),
                          self.path('perf.data')])
        self.check(parsers.samply_samples(
            parsers.read_profile(self.path('profile.json.gz'))))

    def test_with_a_map(self):
        self.record_faults('perf')
        self.check(self.samples())
        self.check_samply()

    def test_with_a_jitdump(self):
        self.record_faults('perf_jit')
        self.run_command(self.perf_command(
            'inject', '--jit', '-i', self.path('perf.data'),
            '-o', self.path('perf.jit.data')), cwd=self.directory)
        self.check(parsers.parse_perf_script(
            self.script('pid,ip,sym,dso', data='perf.jit.data')))
        self.check_samply()


class SamplyNameTests(scenarios.SamplyTestCase):
    """samply samples by time: it sees most names, and no others."""

    def check(self, mode):
        count = 400
        run, samples = self.record(
            program(count=count, body='until(0.004, spin, 2000)'), mode)
        self.assertEqual(run.err_without_warnings, run.err)
        seen = {name for sample in samples
                for name in parsers.python_names(sample)}
        names = {escape(name) for name in expected(count)}
        self.assertGreater(len(seen & names), 0.9 * len(names))
        self.assertEqual(strangers(seen, names), set())

    def test_with_a_map(self):
        self.check('perf')

    def test_with_a_jitdump(self):
        self.check('perf_jit')


if __name__ == '__main__':
    unittest.main()
