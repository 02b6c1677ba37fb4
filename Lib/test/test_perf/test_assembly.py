"""The assembly files, Python/asm_trampoline_*.S, for all platforms.

clang assembles them for each platform and llvm-objdump shows the result.
Mach-O objects must have the same code, symbols and unwind information as ELF
objects.
"""

import os
import re
import sysconfig
import unittest

from test.test_perf import fixtures

# Architecture as in the file's name, its ELF target, its Mach-O target.
TARGETS = [
    ('x86_64', 'x86_64-linux-gnu', 'x86_64-apple-macos11'),
    ('aarch64', 'aarch64-linux-gnu', 'arm64-apple-macos11'),
    ('riscv64', 'riscv64-linux-gnu', None),
]

FUNCTIONS = {'_PyPerfTrampoline_Code', '_PyPerfTrampoline_BodyCFI',
             '_PyPerf_EnterEvalLoop', '_PyPerf_EnterBareEvalLoop',
             '_PyPerf_EnterEvalLoopWithLines',
             '_PyPerf_EnterEvalLoopWithCallers',
             '_PyPerf_EnterEvalLoopWithLinesAndCallers', '_PyPerf_ReturnTo'}
CONSTANTS = {'_PyPerfTrampoline_CodeSize', '_PyPerfTrampoline_ReturnOffset'}
ADDRESSES = {'_PyPerf_EnterEvalLoopReturn'}
CALLED = {'__PyPerf_EvalLoop', '__PyPerf_EvalLoopWithLines'}

SYMBOL = re.compile(r'([0-9a-f]{16}) (.{7}) (\S+)\s+(.*)')
# "0x8: CFA=RBP+16: RBP=[CFA-16], RIP=[CFA-8]"
ROW = re.compile(r' +0x([0-9a-f]+): CFA=(.*)')
# " 0010 fd7bc1a8 c0035fd6 00000000 00000000  .{...._........."
WORDS = re.compile(r'^ [0-9a-f]{4} ((?:[0-9a-f]{2,8} ){1,4})', re.MULTILINE)
RANGE = re.compile(r' pc=([0-9a-f]+)\.\.\.([0-9a-f]+)$')


def setUpModule():
    fixtures.require_trampoline()


class ObjectFile:
    """What llvm-objdump prints of an object file."""

    def __init__(self, case, path):
        self.case = case
        self.path = path
        self.objdump = fixtures.find_tool('LLVM_OBJDUMP', 'llvm-objdump')

    def dump(self, *options):
        return self.case.run_command([self.objdump, *options, self.path]).out

    def symbols(self):
        """Return name: (value, section, flags and the rest)."""
        symbols = {}
        for line in self.dump('--syms').splitlines():
            match = SYMBOL.fullmatch(line)
            if match:
                value, flags, section, rest = match.groups()
                name = rest.split()[-1]
                symbols[name] = (int(value, 16), section, flags + rest)
        return symbols

    def code(self):
        """Return the bytes of the code section, in hexadecimal."""
        text = self.dump('-s', '--section=.text', '--section=__text')
        return ''.join(WORDS.findall(text)).replace(' ', '')

    def rows(self):
        """Return for each FDE its length and its rows: offset, rule.

        Addresses are not relocated, so only distances are compared.
        """
        fdes = []
        for line in self.dump('--dwarf=frames').splitlines():
            match = RANGE.search(line)
            if match:
                start, end = (int(x, 16) for x in match.groups())
                fdes.append((end - start, rows := []))
                continue
            match = ROW.match(line)
            if match and fdes:
                rows.append((int(match[1], 16) - start, match[2]))
        return fdes


class AssemblyTests(fixtures.PerfTestCase):

    def setUp(self):
        super().setUp()
        self.clang = fixtures.find_tool('CLANG', 'clang')
        self.sources = os.path.join(
            os.path.abspath(sysconfig.get_config_var('srcdir')), 'Python')
        if not os.path.exists(os.path.join(self.sources, 'asm_trampoline.h')):
            self.skipTest('the interpreter has been installed without them')

    def assemble(self, architecture, target, source=None):
        if source is None:
            source = os.path.join(self.sources,
                                  f'asm_trampoline_{architecture}.S')
        path = self.path(f'{architecture}-{target}.o')
        run = self.run_command([self.clang, f'--target={target}', '-Werror',
                                '-c', source, '-o', path])
        self.assertEqual(run.err, '')
        return ObjectFile(self, path)

    def test_elf_symbols_are_hidden(self):
        for architecture, target, _ in TARGETS:
            with self.subTest(target):
                symbols = self.assemble(architecture, target).symbols()
                for name in FUNCTIONS | CONSTANTS | ADDRESSES:
                    value, section, rest = symbols[name]
                    self.assertNotEqual(section, '*UND*')
                    self.assertIn('.hidden', rest)
                for name in CALLED:
                    self.assertEqual(symbols[name][1], '*UND*')

    def test_elf_keeps_the_image_fit_for_protections(self):
        notes = {'x86_64': '020000c0 04000000 03000000',
                 'aarch64': '000000c0 04000000 03000000'}
        for architecture, target, _ in TARGETS:
            with self.subTest(target):
                file = self.assemble(architecture, target)
                headers = file.dump('--section-headers')
                self.assertIn('.note.GNU-stack', headers)
                if architecture in notes:
                    self.assertIn(notes[architecture], file.dump(
                        '-s', '--section=.note.gnu.property'))

    def test_mach_o_symbols(self):
        for architecture, _, target in TARGETS:
            if target is None:
                continue
            with self.subTest(target):
                symbols = self.assemble(architecture, target).symbols()
                for names, section in ((FUNCTIONS, '__TEXT,__text'),
                                       (CONSTANTS, '__TEXT,__const'),
                                       (ADDRESSES, '__DATA,__const')):
                    for name in names:
                        self.assertEqual(symbols['_' + name][1], section)
                for name in CALLED:
                    self.assertEqual(symbols['_' + name][1], '*UND*')
                # There are no other symbols: local labels stay local.
                self.assertEqual(
                    {name for name in symbols if not name.startswith('ltmp')},
                    {'_' + name for name in
                     FUNCTIONS | CONSTANTS | ADDRESSES | CALLED})

    def test_mach_o_has_the_code_and_the_unwind_information_of_elf(self):
        for architecture, elf, mach_o in TARGETS:
            if mach_o is None:
                continue
            with self.subTest(architecture):
                elf = self.assemble(architecture, elf)
                mach_o = self.assemble(architecture, mach_o)
                self.assertGreater(len(elf.code()), 100)
                # The linker fills in the target of the call.
                self.assertEqual(mach_o.code(), elf.code())
                rows = elf.rows()
                self.assertEqual([length > 0 for length, _ in rows],
                                 [True] * len(FUNCTIONS))
                self.assertGreater(sum(len(r) for _, r in rows), 8)
                rows = [self.plain(r) for r in rows]
                found = [self.plain(r) for r in mach_o.rows()]
                # Newer versions of clang describe functions that change nothing by
                # compact unwind information.
                self.assertEqual(found, [r for r in rows
                                         if len(r[1]) > 1 or r in found])

    @staticmethod
    def plain(fde):
        """Leave out what is above the table: offsets count from its start."""
        length, rows = fde
        return length, [(offset - rows[0][0], rule) for offset, rule in rows]

    def test_a_file_of_another_architecture_is_empty(self):
        # For universal binaries of macOS both files are compiled for both
        # architectures.
        for architecture, target in (('x86_64', 'arm64-apple-macos11'),
                                     ('aarch64', 'x86_64-apple-macos11')):
            with self.subTest(architecture):
                symbols = self.assemble(architecture, target).symbols()
                self.assertEqual(
                    {n for n in symbols if not n.startswith('ltmp')}, set())


if __name__ == '__main__':
    unittest.main()
