#!/usr/bin/env python3
"""Replace addresses by the names of Python functions, for tools that read no perf map.

    resolve.py [--map FILE | --pid PID] [INPUT] [-o OUTPUT]

INPUT is text, for example what callgrind, massif, heaptrack, gperftools or eu-stack has
written.  Each hexadecimal number in it that begins with 0x and lies in an entry of the
map is replaced by the entry's name.  Where a tool writes "0x1234: ???" the address
remains, because tools that read its file want it.  For example:

    valgrind --tool=callgrind --callgrind-out-file=out python -X perf=calls script.py
    resolve.py out -o out.named
    callgrind_annotate out.named

    heaptrack -o heap python -X perf script.py
    resolve.py --pid PID heap.zst -o heap.named.zst
    heaptrack_gui heap.named.zst

INPUT may also be heaptrack's file itself, as here.  Files whose names end in .zst or
.gz are compressed; for the former, the program zstd must be installed.

The map is /tmp/perf-PID.map.  Without --pid, PID is taken from INPUT, if it says so as
callgrind does ("pid: PID") or as eu-stack does ("PID PID - process"); of several
processes each has its own map.

If the map has several names for an address, the last one is used.  A semicolon in a name
is written \\x3b, as in folded stacks.  The exit status is 0 on success and 2 for wrong
arguments.  It is 1, with one line on stderr, if a file cannot be read or written, or if
the input does not name its process.
"""

import argparse
import bisect
import gzip
import re
import subprocess
import sys
import zlib

ADDRESS = re.compile(rb'\b(0x[0-9a-fA-F]+)\b(: \?\?\?)?')
ENTRY = re.compile(rb'([0-9a-fA-F]+) ([0-9a-fA-F]+) (.*)')
# What says which process the text after it is about.
PROCESS = re.compile(rb'^(?:pid: (\d+)|PID (\d+) - process)$', re.M)
# The first line of heaptrack's file: its own version and that of the format.
HEAPTRACK = re.compile(rb'v [0-9a-f]+ (\d+)\n')


class Map:
    """The names of a perf map, by address."""

    def __init__(self, lines):
        entries = {}
        for line in lines:
            match = ENTRY.fullmatch(line.rstrip(b'\n'))
            if match:
                start, size, name = match.groups()
                entries[int(start, 16)] = int(size, 16), name.replace(b';', rb'\x3b')
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
        heaptrack = HEAPTRACK.match(text)
        if heaptrack:
            if heaptrack[1] != b'3':
                sys.exit('resolve.py: the input is a file of heaptrack in format '
                         f'{heaptrack[1].decode()}; only format 3 is known')
            return self.resolve_heaptrack(text)

        def replace(match):
            address, unknown = match.groups()
            name = self.name(int(address, 16))
            if name is None:
                return match[0]
            return address + b': ' + name if unknown else name
        return ADDRESS.sub(replace, text)

    def resolve_heaptrack(self, text):
        """Return the contents of heaptrack's file with names.

        Two kinds of lines matter here.  All numbers are hexadecimal:

            s LENGTH TEXT                              string 1, 2, ...
            i ADDRESS MODULE [FUNCTION FILE LINE]...   a place; with those that are inlined

        MODULE, FUNCTION and FILE are numbers of strings, or 0.  A name is one more string,
        so later ones get other numbers.  heaptrack takes what is between < and > for the
        arguments of a template and hides it: <module> becomes [module].
        Source: accumulatedtracedata.cpp of heaptrack.
        """
        numbers = [b'0']            # the new number of each string
        names = {}                  # the number of each name
        lines = []

        def next_number():
            return b'%x' % (len(numbers) + len(names))

        def name_number(name):
            if name not in names:
                names[name] = next_number()
                shown = name.translate(bytes.maketrans(b'<>', b'[]'))
                lines.append(b's %x %s' % (len(shown), shown))
            return names[name]

        def resolve_place(address, module, *places):
            name = None if places else self.name(int(address, 16))
            if name is not None:
                places = name_number(name), b'0', b'0'
            else:
                places = [place if index % 3 == 2 else numbers[int(place, 16)]
                          for index, place in enumerate(places)]
            return b' '.join((b'i', address, numbers[int(module, 16)], *places))

        for number, line in enumerate(text.split(b'\n'), 1):
            if line.startswith(b's '):
                numbers.append(next_number())
            elif line.startswith(b'i '):
                try:
                    line = resolve_place(*line.split()[1:])
                except (IndexError, TypeError, ValueError):
                    sys.exit(f'resolve.py: line {number} of the file of heaptrack is damaged')
            lines.append(line)
        return b'\n'.join(lines)


def zstd(*options, data):
    """Return what the program zstd makes of the data."""
    try:
        run = subprocess.run(['zstd', '-q', '-c', *options], input=data, capture_output=True)
    except FileNotFoundError:
        sys.exit('resolve.py: files that end in .zst need the program zstd: install zstd')
    if run.returncode != 0:
        sys.exit(f'resolve.py: {run.stderr.decode(errors="replace").strip()}')
    return run.stdout


def read_input(path):
    if path in (None, '-'):
        return sys.stdin.buffer.read()
    with open(path, 'rb') as file:
        data = file.read()
    if path.endswith('.zst'):
        return zstd('-d', data=data)
    try:
        return gzip.decompress(data) if path.endswith('.gz') else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        sys.exit(f'resolve.py: {path}: {error}')


def write_output(path, data):
    if not path:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if path.endswith('.zst'):
        data = zstd(data=data)
    elif path.endswith('.gz'):
        data = gzip.compress(data)
    with open(path, 'wb') as file:
        file.write(data)


def read_map(path):
    with open(path, 'rb') as file:
        return Map(file)


def map_of(pid):
    return read_map(f'/tmp/perf-{pid}.map')


def resolve_by_process(text):
    """Return the text with names, those of the processes that it is about."""
    places = list(PROCESS.finditer(text))
    if not places:
        sys.exit('resolve.py: the input does not name its process; '
                 'say with --pid or --map which map to read')
    maps = {}
    parts = []
    begin = 0
    for place, following in zip(places, [*places[1:], None]):
        pid = int(place[1] or place[2])
        if pid not in maps:
            maps[pid] = map_of(pid)
        end = following.start() if following else len(text)
        parts.append(maps[pid].resolve(text[begin:end]))
        begin = end
    return b''.join(parts)


def parse_arguments():
    first, _, rest = __doc__.partition('\n')
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage='resolve.py [--map FILE | --pid PID] [INPUT] [-o OUTPUT]')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--map', metavar='FILE', help='the perf map')
    group.add_argument('--pid', type=int, help='the process, whose map is /tmp/perf-PID.map')
    parser.add_argument('input', nargs='?', metavar='INPUT', help='default: standard input')
    parser.add_argument('-o', '--output', metavar='OUTPUT', help='default: standard output')
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        text = read_input(arguments.input)
        if arguments.map is not None:
            text = read_map(arguments.map).resolve(text)
        elif arguments.pid is not None:
            text = map_of(arguments.pid).resolve(text)
        else:
            text = resolve_by_process(text)
        write_output(arguments.output, text)
    except BrokenPipeError:
        sys.stderr.close()          # the reader has seen enough
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f'resolve.py: {error.filename or "output"}: {error.strerror}')


if __name__ == '__main__':
    main()
