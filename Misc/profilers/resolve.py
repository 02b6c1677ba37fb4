#!/usr/bin/env python3
"""Replace addresses by the names of Python functions, for tools that read no perf map.

    resolve.py [--map FILE] [INPUT] [-o OUTPUT]

INPUT is text, for example what callgrind or heaptrack has written.  Each hexadecimal
number in it that begins with 0x and lies in an entry of the map is replaced by the
entry's name.  Without --map the map is /tmp/perf-PID.map, where PID is the number in a
line "pid: PID" of INPUT, as callgrind writes it.  For example:

    valgrind --tool=callgrind --callgrind-out-file=out python -X perf=calls script.py
    resolve.py out -o out.named
    callgrind_annotate out.named

If the map has several names for an address, the last one is used.  The exit status is 0
on success and 2 for wrong arguments.  It is 1, with one line on stderr, if a file cannot
be read or written, or if the input does not name its process.
"""

import argparse
import bisect
import re
import sys

ADDRESS = re.compile(rb'\b0x[0-9a-fA-F]+\b')
ENTRY = re.compile(rb'([0-9a-fA-F]+) ([0-9a-fA-F]+) (.*)')


class Map:
    """The names of a perf map, by address."""

    def __init__(self, lines):
        entries = {}
        for line in lines:
            match = ENTRY.fullmatch(line.rstrip(b'\n'))
            if match:
                start, size, name = match.groups()
                entries[int(start, 16)] = int(size, 16), name
        self.starts = sorted(entries)
        self.entries = entries

    def name(self, address):
        """Return the name of the entry that the address lies in, or None."""
        index = bisect.bisect_right(self.starts, address) - 1
        if index < 0:
            return None
        start = self.starts[index]
        size, name = self.entries[start]
        return name if address < start + size else None

    def resolve(self, text):
        """Return the text with names in place of addresses."""
        def replace(match):
            return self.name(int(match[0], 16)) or match[0]
        return ADDRESS.sub(replace, text)


def path_from_pid(text):
    """Return the path of the map of the process that the text is about."""
    match = re.search(rb'^pid: (\d+)$', text, re.M)
    if match is None:
        sys.exit('resolve.py: the input has no line "pid: PID"; '
                 'say with --map which map to read')
    return f'/tmp/perf-{match[1].decode()}.map'


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0], usage='resolve.py [--map FILE] [INPUT] [-o OUTPUT]')
    parser.add_argument('--map', metavar='FILE', help='the perf map')
    parser.add_argument('input', nargs='?', metavar='INPUT', help='default: standard input')
    parser.add_argument('-o', '--output', metavar='OUTPUT', help='default: standard output')
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        if arguments.input:
            with open(arguments.input, 'rb') as file:
                text = file.read()
        else:
            text = sys.stdin.buffer.read()
        with open(arguments.map or path_from_pid(text), 'rb') as file:
            names = Map(file)
        text = names.resolve(text)
        if arguments.output:
            with open(arguments.output, 'wb') as file:
                file.write(text)
        else:
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        sys.stderr.close()          # the reader has seen enough
    except OSError as error:
        sys.exit(f'resolve.py: {error.filename or "output"}: {error.strerror}')


if __name__ == '__main__':
    main()
