"""Forks by C code, without the hooks of os.fork(), at any instruction of what
writes the perf map.

src/perf_raw_fork.c does it, linked with the objects of the interpreter.
"""

import platform
import re
import sys
import unittest

from test.test_perf import fixtures, relink

OBJECTS = [f'Python/perf_{name}.o'
           for name in ('text', 'fd', 'file', 'buffer', 'map')]


class RawForkTests(fixtures.PerfTestCase):

    @unittest.skipUnless(
        sys.platform == 'linux' and platform.machine() == 'x86_64',
        'other processors cannot trap after each instruction')
    def test_a_child_forked_at_any_instruction_writes_a_map_of_its_own(self):
        fixtures.require_no_emulation('qemu-user ignores the trap flag')
        build = relink.Build()
        objects = [relink.compile_here(build, 'perf_raw_fork.c',
                                       self.directory)]
        for path in OBJECTS:
            self.assertIn(path, build.our_objects)
            objects.append(build.machine_code(path, self.directory))
        program = self.path('raw_fork')
        position = build.link.index('Programs/python.o')
        relink.run([*build.link[:position], '-o', program, *objects])
        run = self.run_command([program], returncode=None)
        self.assertEqual((run.returncode, run.err), (0, ''))
        # Twice: in the first process that uses the map, and in a child.
        [children] = re.findall(r'^(\d+) children$', run.out, re.M)
        self.assertGreater(int(children), 100)


if __name__ == '__main__':
    unittest.main()
