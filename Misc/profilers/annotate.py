#!/usr/bin/env python3
"""Show the source of a program with the time that each line took.

FILE is a recording of a program that ran with lines:

    perf record -F 999 -g python -X perf=lines script.py
    annotate.py                         on the terminal
    annotate.py -o annotate.html        a page for a browser; it needs no network

Each line has its own time (nothing that it called in Python was running) and its total
time, as shares of the samples with a Python function.  Below a line are the native
functions that its own time went to: C functions of the interpreter, of extension modules
and libraries, and the kernel.

The source is read from the paths in the recording.  If it has moved, say where to:
--source /old/directory=/new/directory.

The exit status is 0 on success and 2 for wrong arguments.  It is 1, with one line on
stderr, if the recording cannot be read or has no lines of Python functions.
"""

import collections
import json
import os
import re
import sys
import time
import tokenize

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import perfscript
from perfscript import KINDS, printable

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'annotate_page.html')

OWN, SITE, STDLIB, NOWHERE = range(4)
GROUPS = ('Program', 'Site packages', 'Standard library', 'Without a file')

SOURCE_BUDGET = 3_500_000       # characters of source in a page
NEIGHBOURS = 15                 # lines around a line with samples, if that is too much
MANY_OTHERS = 0.15              # share of samples without Python functions
# How a map writes some characters of names; others have numbers.
ESCAPES = {'n': '\n', 'r': '\r', 't': '\t', '\\': '\\'}
MOST_EDGES = 24                 # callers of a line in a page, and what it calls


# ---------------------------------------------------------------------------
# What the samples say

class Line:
    """What is known of a line of a file.

    functions   names of the functions that it is part of
    counts      {thread: [total, own]}
    native      {(thread, entry, leaf): number of samples}, frames: the C function that the
                line called, and the innermost one
    callers     {(thread, file, line, function): number of samples}
    callees     {(thread, file, function): number of samples}
    """

    __slots__ = ('functions', 'counts', 'native', 'callers', 'callees')

    def __init__(self):
        self.functions = set()
        self.counts = {}
        self.native = collections.Counter()
        self.callers = collections.Counter()
        self.callees = collections.Counter()

    def add(self, thread, place, count):
        numbers = self.counts.get(thread)
        if numbers is None:
            numbers = self.counts[thread] = [0, 0]
        numbers[place] += count

    @property
    def total(self):
        return sum(numbers[0] for numbers in self.counts.values())

    @property
    def own(self):
        return sum(numbers[1] for numbers in self.counts.values())


class Annotation:
    """The times of all lines, functions and files of a recording.

    samples     the number of samples with Python functions
    lines       {file: {line: Line}}; the line is 0 where it is not known
    files       {file: {thread: [total, own]}}
    functions   {(file, function): {thread: [total, one for each of KINDS]}}
    threads     {thread: number of samples with Python functions}
    others      {name of an object file: samples without Python functions in it}
    """

    def __init__(self, recording):
        self.samples = recording.require_python()
        self.recording = recording
        self.lines = {}
        self.files = {}
        self.functions = {}
        self.threads = collections.Counter()
        self.others = collections.Counter()
        for (thread, stack), count in recording.counts.items():
            if stack.python:
                self.threads[thread] += count
                self._add(thread, stack, count)
            else:
                self.others[object_name(stack.frames[0])] += count
        if not any(number for lines in self.lines.values() for number in lines):
            missing = recording.reader.missing
            raise perfscript.Error(
                f'{recording.reader.name}: has no lines; '
                + (f'{min(missing)} is missing' if missing else
                   'was the program run with -X perf=lines or -X perf_jit=lines?'))

    def share_of_others(self):
        """Return the share of all samples that have no Python function, from 0 to 1."""
        return 1 - self.samples / self.recording.total

    def has_many_others(self):
        """Are there so many that the libraries may have no frame pointers?"""
        return self.share_of_others() >= MANY_OTHERS

    def line(self, frame):
        lines = self.lines.get(frame.file)
        if lines is None:
            lines = self.lines[frame.file] = {}
        line = lines.get(frame.line or 0)
        if line is None:
            line = lines[frame.line or 0] = Line()
        line.functions.add(frame.function)
        return line

    def _add(self, thread, stack, count):
        places = set()
        files = set()
        functions = set()
        edges = set()
        callee = None
        for frame in stack.python:
            place = frame.file, frame.line or 0
            line = self.line(frame)
            if place not in places:
                places.add(place)
                line.add(thread, 0, count)
            if callee is not None:
                edge = callee.file, callee.line, callee.function, *place, frame.function
                if edge not in edges:
                    edges.add(edge)
                    self.line(callee).callers[(thread, *place, frame.function)] += count
                    line.callees[thread, callee.file, callee.function] += count
            files.add(frame.file)
            functions.add((frame.file, frame.function))
            callee = frame
        inner = stack.python[0]
        line = self.line(inner)
        line.add(thread, 1, count)
        line.native[(thread, *native_functions(stack))] += count
        for file in files:
            self._numbers(self.files, file, thread, 2)[0] += count
        self.files[inner.file][thread][1] += count
        for function in functions:
            self._numbers(self.functions, function, thread, 1 + len(KINDS))[0] += count
        kind = KINDS.index(self.recording.kind(stack))
        self.functions[inner.file, inner.function][thread][1 + kind] += count

    @staticmethod
    def _numbers(table, key, thread, size):
        numbers = table.setdefault(key, {})
        if thread not in numbers:
            numbers[thread] = [0] * size
        return numbers[thread]

    def sums(self, file):
        """Return total and own samples of a file."""
        return [sum(column) for column in zip(*self.files[file].values())]


def native_functions(stack):
    """Return the C function that the innermost Python function called, and the innermost
    native function.  Both are the same if bytecode was executed."""
    if not stack.native:
        return stack.frames[0], stack.frames[0]
    leaf = stack.native[0]
    if leaf.name == '[unknown]':
        leaf = nearest(stack.native)
    for frame in reversed(stack.native):
        if not perfscript.CALLS.fullmatch(frame.base_name):
            return (leaf if frame is stack.native[0] else frame), leaf
    return leaf, leaf


def nearest(frames, known={}):
    """Return a Frame for an innermost function whose name the library does not have: it
    says which function with a name it is in, or was called by."""
    leaf = frames[0]
    for frame in frames[1:]:
        if frame.dso != leaf.dso:
            break
        if frame.name != '[unknown]':
            key = frame.name, frame.dso
            if key not in known:
                known[key] = perfscript.Frame(f'[in {frame.name}]', frame.dso)
            return known[key]
    return leaf


def object_name(frame):
    """Return a short name of the object file that a frame is in."""
    if frame.kernel:
        return 'kernel'
    if frame.function is not None:
        return 'Python'
    name = os.path.basename(frame.dso) or '?'
    # zlib.cpython-311-x86_64-linux-gnu.so is zlib, libz.so.1.2.13 is libz.so.1
    name = re.sub(r'\.(cpython-[^.]*|abi3)\.so$', '', name)
    return re.sub(r'(\.so\.\d+)\.[\d.]+$', r'\1', name)


# ---------------------------------------------------------------------------
# Source files

class Source:
    """The text of a file.

    path    where it was read, None if there is none
    lines   its lines, None if it cannot be read
    note    what the reader should know of it, or ''
    """

    def __init__(self, path, lines=None, note=''):
        self.path = path
        self.lines = lines
        self.note = note


class Sources:
    """Finds the source of files.

    annotation   whose files they are
    recorded     the time of the recording, None if it is not known
    moved        pairs of directories: where the files were, where they are
    """

    def __init__(self, annotation, recorded=None, moved=()):
        self.recorded = recorded
        self.moved = moved
        self.stdlib = self.find_stdlib(annotation)

    def find_stdlib(self, annotation):
        """Return the directory of the standard library that the program used, or None."""
        candidates = []
        for file in annotation.files:
            match = re.match(r'(.*/lib(?:64)?/python3\.\d+t?)/', file)
            if match:
                candidates.append(match[1])
            directory = os.path.dirname(file)
            while os.path.isabs(directory) and directory != os.path.dirname(directory):
                candidates.append(directory)
                directory = os.path.dirname(directory)
        for program in annotation.recording.reader.interpreters:
            directory = os.path.dirname(os.path.realpath(self.place(program)))
            candidates += [os.path.join(directory, 'Lib'), os.path.join(directory, 'src/Lib')]
            match = re.search(r'python3\.\d+', os.path.basename(program))
            if match:
                candidates += [os.path.join(directory, '../lib', match[0]),
                               os.path.join(directory, match[0])]
        for directory in dict.fromkeys(candidates):
            if is_file(os.path.join(self.place(directory), 'importlib/_bootstrap.py')):
                return os.path.normpath(directory)
        return None

    def place(self, path):
        """Return the path where a file is now."""
        for old, new in self.moved:
            if path == old or path.startswith(old.rstrip('/') + '/'):
                return new.rstrip('/') + path[len(old.rstrip('/')):]
        return path

    def path(self, file):
        """Return the path of the source of a file, or None."""
        match = re.fullmatch(r'<frozen ([\w.]+)>', file)
        if match and self.stdlib:
            base = os.path.join(self.stdlib, *match[1].split('.'))
            for path in (base + '.py', os.path.join(base, '__init__.py')):
                if is_file(self.place(path)):
                    return self.place(path)
        if file.startswith('<'):
            return None
        path = self.place(file)
        if '\\' in file and not is_file(path):
            return self.place(without_escapes(file))
        return path

    def group(self, file):
        if re.match(r'<frozen ', file):
            return STDLIB
        if not file or file.startswith('<'):
            return NOWHERE
        if '/site-packages/' in file or '/dist-packages/' in file:
            return SITE
        if self.stdlib and file.startswith(self.stdlib + '/') \
                or re.match(r'.*/lib(64)?/python3\.\d+t?/', file):
            return STDLIB
        return OWN

    def read(self, file, last):
        """Return the Source of a file.  `last`: the last line that has samples."""
        path = self.path(file)
        if path is None:
            return Source(None, None, 'has no source file')
        try:
            status = os.stat(os_path(path))
            lines = read_lines(path)
        except OSError as error:
            return Source(path, None, f'cannot be read: {error.strerror}')
        if last > len(lines):
            return Source(path, lines, f'has changed: samples are in line {last}, it has '
                                       f'{len(lines)} lines')
        if self.recorded is not None and status.st_mtime > self.recorded + 1:
            return Source(path, lines, 'has changed since the recording; lines may be wrong')
        return Source(path, lines)


def os_path(path):
    """Return the path as the system has it: the interpreter writes UTF-8."""
    return path.encode('utf-8', 'surrogateescape')


def is_file(path):
    return os.path.isfile(os_path(path))


def without_escapes(file):
    """Return a file's name as it was before the interpreter wrote it into a map."""
    def character(match):
        number, letter = match.groups()
        return chr(int(number[1:], 16)) if number else ESCAPES[letter]

    return re.sub(r'\\(?:(x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5})|([nrt\\]))', character,
                  file)


def read_lines(path):
    """Return the lines of a source file, without their ends."""
    if not is_file(path):
        raise OSError(0, 'it is not a regular file')
    with open(os_path(path), 'rb') as file:
        try:
            encoding, _ = tokenize.detect_encoding(file.readline)
        except (SyntaxError, UnicodeError):
            encoding = 'utf-8'
        file.seek(0)
        data = file.read()
    try:
        text = data.decode(encoding, 'backslashreplace')
    except (LookupError, UnicodeError):     # rot13 is no encoding of text
        text = data.decode('utf-8', 'backslashreplace')
    lines = text.replace('\r\n', '\n').replace('\r', '\n').split('\n')
    if lines[-1] == '':
        lines.pop()
    return lines


# ---------------------------------------------------------------------------
# On the terminal

class Colors:
    """Escape sequences of a terminal, or none."""

    def __init__(self, on):
        self.on = on

    def __call__(self, code, text):
        return f'\x1b[{code}m{text}\x1b[0m' if self.on and text.strip() else text

    def heat(self, share, text):
        """`share` is of the hottest line."""
        for limit, code in ((0.5, '1;31'), (0.1, '31'), (0.02, '33')):
            if share >= limit:
                return self(code, text)
        return text


def wants_color(choice):
    if choice != 'auto':
        return choice == 'always'
    return (sys.stdout.isatty() and not os.environ.get('NO_COLOR')
            and os.environ.get('TERM') != 'dumb')


def print_others(annotation):
    """If many samples have no Python function, say where they were, and what to do."""
    if not annotation.has_many_others():
        return
    names = ', '.join(f'{printable(name)} ({count})'
                      for name, count in annotation.others.most_common(5))
    print(f'{annotation.share_of_others():.2%} of all samples have no Python function: {names}.\n'
          'If these are libraries that the program uses, they have no frame pointers. '
          'Record with\n-X perf_jit=lines and perf record --call-graph dwarf, or with '
          '"make annotate MODE=jit".')


def print_text(annotation, sources, options):
    """Print all files with lines of `options.percent_limit` and more."""
    color = Colors(wants_color(options.color))
    count = annotation.samples
    limit = max(1, options.percent_limit * count / 100)
    recording = annotation.recording
    hottest = max(line.own for lines in annotation.lines.values() for line in lines.values())
    found = False
    print(f'Samples: {recording.total} of {recording.event}, {count} with Python functions '
          '= 100%')
    print_others(annotation)

    def percent(number):
        return f'{100 * number / count:6.2f}%' if number else ' ' * 7

    for file in sorted(annotation.files, key=lambda file: annotation.sums(file)[::-1],
                       reverse=True):
        lines = annotation.lines[file]
        hot = sorted(number for number, line in lines.items()
                     if max(line.own, line.total if options.total else 0) >= limit)
        if not hot:
            continue
        found = True
        total, own = annotation.sums(file)
        source = sources.read(file, max(lines))
        print()
        print(color('1', printable(file)) + f'   own {percent(own).strip()}, '
              f'total {percent(total).strip()}'
              + (f'   ({source.note})' if source.note else ''))
        print(color('2', '    own   total   line'))
        for number, gap in with_context(hot, options.context, source.lines):
            if gap:
                print(color('2', '  ...'))
            line = lines.get(number)
            text = printable((source.lines or [])[number - 1].expandtabs(8)) \
                if source.lines and 0 < number <= len(source.lines) else ''
            if line is None:
                print(' ' * 15 + color('2', f'{number:7}  ') + text)
                continue
            if not number:
                text = '(line not known)'
            numbers = f'{percent(line.own)} {percent(line.total)}'
            print(color.heat(line.own / hottest, numbers) + color('2', f'{number:7}  ')
                  + text)
            if line.own >= limit:
                print_native(line, percent, limit, color)
    if not found:
        print(f'No line has {options.percent_limit:g}% or more; --percent-limit shows others.')


def print_native(line, percent, limit, color):
    """Print the native functions that a line's own time went to."""
    functions = collections.Counter()
    for (_, entry, leaf), number in line.native.items():
        functions[entry, leaf] += number
    for (entry, leaf), number in functions.most_common(5):
        if number < limit and number * 10 < line.own:
            break
        if leaf.function is not None:
            continue
        via = '' if entry is leaf else f', called by {printable(entry.name)}'
        print(color('36', f'{percent(number)} {"":17}  {printable(leaf.name)} '
                          f'({printable(object_name(leaf))}){via}'))


def with_context(numbers, context, lines):
    """Yield the numbers and those around them, each with whether lines before it are
    left out."""
    last = len(lines) if lines else 0
    wanted = set(numbers)
    if lines:
        for number in numbers:
            wanted.update(range(max(1, number - context), min(last, number + context) + 1))
    previous = None
    for number in sorted(wanted):
        yield number, previous is not None and number != previous + 1
        previous = number


# ---------------------------------------------------------------------------
# The page

class Table:
    """Gives each different value a number."""

    def __init__(self):
        self.numbers = {}
        self.values = []

    def __call__(self, key, value=None):
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.values)
            self.values.append(key if value is None else value)
        return number


def page_data(annotation, sources, title):
    """Return what the page shows, as a dictionary for JSON.

    Lists of numbers begin with the index of a thread, so that the page can add up those of
    the threads that were chosen.
    """
    recording = annotation.recording
    comms = recording.comms
    threads = sorted(annotation.threads, key=lambda t: (t.pid, t.tid != t.pid, t.tid))
    thread_number = {thread: number for number, thread in enumerate(threads)}
    order = sorted(annotation.files, key=lambda file: annotation.sums(file)[::-1],
                   reverse=True)
    file_number = {file: number for number, file in enumerate(order)}
    natives, functions = Table(), Table()

    def flat(counter, key, most=MOST_EDGES * max(1, len(threads))):
        """Return the numbers of the largest entries of a counter, in one list."""
        numbers = []
        for name, number in counter.most_common(most):
            numbers += [thread_number[name[0]], *key(*name[1:]), number]
        return numbers

    def native(frame):
        if frame.function is not None:
            return natives('', ['', '', KINDS.index(perfscript.LOOP)])
        kind = KINDS.index(recording.reader.kind(frame))
        return natives((frame.name, frame.dso, frame.kernel),
                       [frame.name, object_name(frame), kind])

    for (file, function), table in sorted(annotation.functions.items(),
                                          key=lambda item: (item[0][0], item[0][1])):
        first = min((number for number, line in annotation.lines[file].items()
                     if number and function in line.functions), default=0)
        numbers = []
        for thread, counts in table.items():
            numbers += [thread_number[thread], *counts]
        functions((file, function), [function, file_number[file], first, numbers])

    budget = SOURCE_BUDGET
    files = []
    notes = []
    for file in order:
        lines = annotation.lines[file]
        source = sources.read(file, max(lines))
        segments = []
        if source.lines is not None:
            size = sum(map(len, source.lines)) + len(source.lines)
            whole = size <= budget
            segments = segments_of(source.lines, lines, whole)
            budget -= size if whole else sum(len(text) for _, text in segments)
        if source.note:
            notes.append((file, source.note))
        counts = []
        for thread, numbers in annotation.files[file].items():
            counts += [thread_number[thread], *numbers]
        rows = []
        for number in sorted(lines):
            line = lines[number]
            numbers = []
            for thread, (total, own) in line.counts.items():
                numbers += [thread_number[thread], total, own]
            rows.append([
                number,
                [functions((file, function)) for function in sorted(line.functions)],
                numbers,
                flat(line.native, lambda entry, leaf: (native(entry), native(leaf)), None),
                flat(line.callers, lambda f, n, function: (
                    file_number[f], n, functions((f, function)))),
                flat(line.callees, lambda f, function: (functions((f, function)),))])
        files.append({'path': file, 'group': sources.group(file), 'note': source.note,
                      'count': len(source.lines or ()), 'segments': segments,
                      'totals': counts, 'lines': rows})
    return notes, {
        'title': title,
        'event': recording.event,
        'all': recording.total,
        'samples': annotation.samples,
        'date': None if sources.recorded is None else
        time.strftime('%Y-%m-%d %H:%M', time.localtime(sources.recorded)),
        'kinds': KINDS,
        'groups': GROUPS,
        'threads': [[t.pid, t.tid, comms.get(t, ''), annotation.threads[t]]
                    for t in threads],
        'natives': natives.values,
        'functions': functions.values,
        'files': files,
        'others': annotation.others.most_common(8),
        'has_many_others': annotation.has_many_others(),
    }


def segments_of(text, lines, whole):
    """Return [[first line, text], ...]: the whole text, or what is near to its samples."""
    if whole:
        return [[1, '\n'.join(text)]]
    segments = []
    begin = end = 0
    for number in sorted(lines):
        if not 0 < number <= len(text):
            continue
        if not end or number - NEIGHBOURS > end + 1:
            if end:
                segments.append([begin, '\n'.join(text[begin - 1:end])])
            begin = max(1, number - NEIGHBOURS)
        end = min(len(text), number + NEIGHBOURS)
    if end:
        segments.append([begin, '\n'.join(text[begin - 1:end])])
    return segments


def write_page(data, path, inputs):
    with open(PAGE, encoding='utf-8') as file:
        before, mark, after = file.read().partition('@DATA@')
    text = json.dumps(data, ensure_ascii=False, separators=(',', ':'))
    # Nothing in the data ends the element that has it.
    text = text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')
    text = text.encode('utf-8', 'backslashreplace').decode()
    with perfscript.output_file(path, inputs) as file:
        file.write(before + text + after)


# ---------------------------------------------------------------------------

def moved_directories(values):
    pairs = []
    for value in values:
        old, equals, new = value.partition('=')
        if not old or not equals or not new:
            raise perfscript.Error(f'--source {value}: expected OLD=NEW')
        pairs.append((old, new))
    return pairs


def tell_notes(notes):
    """Print on standard error what the source lacks, in one line for each kind."""
    kinds = collections.defaultdict(list)
    for file, note in notes:
        if not file.startswith('<'):
            kinds[note].append(file)
    for note, files in kinds.items():
        more = f' (and {len(files) - 1} more)' if len(files) > 1 else ''
        perfscript.tell('annotate.py', [f'{files[0]}{more}: {note}'])


def main():
    parser = perfscript.parser_of(__doc__, 'annotate.py [options] [FILE] [-o PAGE]')
    perfscript.add_arguments(parser)
    parser.add_argument('-o', '--output', metavar='PAGE', help='write a page')
    parser.add_argument('--text', action='store_true',
                        help='with -o: print on the terminal too')
    parser.add_argument('--title', help='the title of the page')
    parser.add_argument('--source', action='append', default=[], metavar='OLD=NEW',
                        help='where a directory of sources is now')
    parser.add_argument('--percent-limit', type=float, default=0.5, metavar='N',
                        help='terminal: leave out lines with less (default: 0.5)')
    parser.add_argument('--total', action='store_true',
                        help='terminal: also lines with little own time')
    parser.add_argument('--context', type=int, default=2, metavar='N',
                        help='terminal: lines around each line (default: 2)')
    parser.add_argument('--color', choices=('auto', 'always', 'never'), default='auto')
    arguments = parser.parse_args()
    perfscript.utf8_output()
    moved = moved_directories(arguments.source)
    recording = perfscript.recording_of(arguments)
    annotation = Annotation(recording)
    perfscript.tell('annotate.py', recording.notes())
    recorded = None
    if arguments.input != '-':
        recorded = os.stat(arguments.input).st_mtime
    sources = Sources(annotation, recorded, moved)
    if arguments.output:
        notes, data = page_data(annotation, sources, arguments.title or arguments.input)
        write_page(data, arguments.output, [arguments.input])
        tell_notes(notes)
    if arguments.text or not arguments.output:
        print_text(annotation, sources, arguments)


if __name__ == '__main__':
    perfscript.run(main, 'annotate.py')
