#!/usr/bin/env python3
"""Show which Python functions the time was spent in.

FILE is a recording of a program that ran with -X perf or -X perf_jit:

    perf record -F 999 -g python -X perf script.py
    owntime.py perf.data

Each line of the table is a Python function:

    total        samples with the function on the stack
    own          samples in which it is the innermost Python function.  That is the sum
                 of the next four columns:
    eval loop      executing its bytecode
    interpreter    in C functions of the interpreter, builtins among them, that the
                   function called or that bytecode called: arithmetic, memory, dict
    library        in C functions of extension modules and libraries
    kernel         in the kernel

All are shares of the samples that have a Python function, so the column "own" of all
functions adds up to 100 %.  With --lines each line of a function is on its own, if the
recording has lines (-X perf=lines, -X perf_jit=lines).

The exit status is 0 on success and 2 for wrong arguments.  It is 1, with one line on
stderr, if the recording cannot be read or has no Python functions.
"""

import collections
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import perfscript
from perfscript import KINDS, printable

HEADINGS = ['total', 'own', *KINDS]


class Times:
    """Numbers of samples of a function.

    total   with the function on the stack
    own     of each of KINDS, those in which it is the innermost Python function
    """

    __slots__ = ('total', 'own')

    def __init__(self):
        self.total = 0
        self.own = dict.fromkeys(KINDS, 0)

    @property
    def all_own(self):
        return sum(self.own.values())


def function_name(frame):
    return f'{frame.function}:{frame.file}'


def line_name(frame):
    name = function_name(frame)
    return name if frame.line is None else f'{name}:{frame.line}'


def times(recording, name=function_name):
    """Return {name: Times} of all Python functions of a recording.

    name   what is counted: from a frame to its name
    """
    table = collections.defaultdict(Times)
    for (thread, stack), count in recording.counts.items():
        if not stack.python:
            continue
        for what in {name(frame) for frame in stack.python}:
            table[what].total += count
        table[name(stack.python[0])].own[recording.kind(stack)] += count
    return table


def percent(part, whole):
    return f'{100 * part / whole:.2f}%'


def rows(table, count, limit):
    """Yield the rows for the functions of `limit` percent and more, most own time first."""
    order = sorted(table, key=lambda name: (-table[name].all_own, -table[name].total, name))
    for name in order:
        row = table[name]
        if 100 * row.total >= limit * count:
            yield [*(percent(part, count)
                     for part in (row.total, row.all_own, *row.own.values())), name]


def print_table(recording, limit, by_line):
    count = recording.require_python()
    table = times(recording, line_name if by_line else function_name)
    print(f'Samples: {recording.total} of {recording.event}, {count} of them '
          f'({percent(count, recording.total)}) with Python functions = 100%')
    print('own = eval loop + interpreter + library + kernel')
    print()
    widths = [max(8, len(heading)) for heading in HEADINGS]
    print('  '.join(heading.rjust(width) for heading, width in zip(HEADINGS, widths))
          + '  function')
    for *cells, name in rows(table, count, limit):
        print('  '.join(cell.rjust(width) for cell, width in zip(cells, widths))
              + '  py::' + printable(name))


def main():
    parser = perfscript.parser_of(__doc__, 'owntime.py [options] [FILE]')
    perfscript.add_arguments(parser)
    parser.add_argument('--lines', action='store_true',
                        help='one row for each line instead of each function')
    parser.add_argument('--percent-limit', type=float, default=0.5, metavar='N',
                        help='leave out functions whose total is less (default: 0.5)')
    arguments = parser.parse_args()
    perfscript.utf8_output()
    recording = perfscript.recording_of(arguments)
    recording.require_python()
    perfscript.tell('owntime.py', recording.notes())
    print_table(recording, arguments.percent_limit, arguments.lines)


if __name__ == '__main__':
    perfscript.run(main, 'owntime.py')
