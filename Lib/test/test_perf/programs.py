"""Programs that several test modules run.

Programs that are recorded by a profiler are in scenarios.py.  This file has no
tests.
"""

import textwrap
from textwrap import dedent

# Prints whether profiling is on, from a function tell().
TELL = """\
    import sys

    def tell():
        print(sys.is_stack_trampoline_active())

    tell()
    """


# Has output and the exit status 3.
PROGRAM = """\
    import sys

    def recursive(n):
        return n and recursive(n - 1) + 1

    def main():
        print(recursive(20))
        for i in range(100):
            exec(f'def f{i}(): pass\\nf{i}()')
        print(sys.is_stack_trampoline_active())
        sys.exit(3)

    main()
    """


# PROGRAM, for -c.
FLAT_PROGRAM = textwrap.dedent(PROGRAM)


# A module with forbid_executable_memory(): a seccomp filter that answers
# mprotect(..., PROT_EXEC) with EPERM.
FORBID_EXECUTABLE_MEMORY = """\
    import ctypes, os, platform

    class Instruction(ctypes.Structure):
        _fields_ = [('code', ctypes.c_uint16), ('jt', ctypes.c_uint8),
                    ('jf', ctypes.c_uint8), ('k', ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [('len', ctypes.c_uint16),
                    ('filter', ctypes.POINTER(Instruction))]

    def forbid_executable_memory():
        mprotect = 10 if platform.machine() == 'x86_64' else 226
        instructions = (Instruction * 6)(
            (0x20, 0, 0, 0),            # load the number of the call
            (0x15, 0, 3, mprotect),     # unless it is mprotect, allow it
            (0x20, 0, 0, 32),           # load the third argument
            (0x45, 0, 1, 4),            # unless PROT_EXEC is in it, allow it
            (0x06, 0, 0, 0x50001),      # fail with EPERM
            (0x06, 0, 0, 0x7fff0000))   # allow
        libc = ctypes.CDLL(None, use_errno=True)
        zero = ctypes.c_ulong(0)
        if (libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero)
                or libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(Program(
                    len(instructions), instructions)))):
            raise OSError(ctypes.get_errno(), 'no filter')
    """


# Defines marker(), which returns the lines of /proc/self/maps that have a
# jitdump.
MARKER = dedent("""\
    import os

    def marker():
        with open('/proc/self/maps') as maps:
            return [line.split() for line in maps if '/jit-' in line]
    """)


FORK = dedent("""\
    import os, sys

    def only_child(): pass
    def only_parent(): pass
    def before(): pass
    exec('def dropped(): pass\\ndropped()\\ndel dropped')

    def forking():
        child = os.fork()
        if not child:
            only_child()
            os._exit(0)
        only_parent()
        assert os.waitpid(child, 0)[1] == 0
        print(child)

    before()
    """)
