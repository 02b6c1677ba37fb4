"""Read recordings of perf with Python functions in them.

A module for the commands of this directory, which run with any Python since 3.9:

    owntime.py      which Python functions the time was spent in
    annotate.py     the source, with the time of each line
    fold.py         stacks for flame graphs and other viewers

All of them read what `perf script` prints.  perf finds the names of Python functions in
the file /tmp/perf-PID.map that the interpreter has written, or in the jitdump.  A sample
of a program that runs with -X perf=lines:

    python  4711/4712  1234.567890: cpu-clock:u:
            7f0c1a2b3c4d deflate_fast (/usr/lib/x86_64-linux-gnu/libz.so.1.2.13)
            7f0c1a2b0000 zlib_compress (/usr/lib/python3.11/lib-dynload/zlib.so)
            55d4f2010000 _PyEval_EvalFrameDefault (/usr/bin/python3.11)
            55d4f2020000 _PyPerf_EnterEvalLoop (/usr/bin/python3.11)
            7f0c1b000040 py::pack:/src/script.py:17 (/tmp/perf-4711.map)
            7f0c1b000080 py::<module>:/src/script.py:40 (/tmp/perf-4711.map)

A Recording has these samples as Stack objects, the innermost frame first, each with the
number of samples that had it.  Everything that does not look like a sample is skipped:
names come from the program and can have any bytes.
"""

import argparse
import bisect
import collections
import contextlib
import os
import re
import shutil
import struct
import subprocess
import sys

FIELDS = 'comm,pid,tid,time,event,ip,sym,dso'
MAGIC = (b'PERFILE2', b'2ELIFREP', b'PERFFILE')

# Where a sample was taken: the kinds of time that a Python function has of its own.
LOOP = 'eval loop'              # executing bytecode
INTERPRETER = 'interpreter'     # C functions of the interpreter, with builtins
LIBRARY = 'library'             # C functions of extension modules and of libraries
KERNEL = 'kernel'
KINDS = (LOOP, INTERPRETER, LIBRARY, KERNEL)

EVAL_LOOP = '_PyEval_EvalFrameDefault'
# Functions that are on the stack only because a Python function is called, resumed or
# handed over.
CALLS = re.compile(r"""
    _PyEval_EvalFrameDefault | _PyPerf\w*
    | _PyEval_Vector | _PyFunction_Vectorcall | PyEval_EvalCode(Ex)?
    | _?PyObject_(Fast|Vector)?[Cc]all\w* | _PyObject_MakeTpCall
    | _?PyVectorcall_(Call|NARGS|Function) | object_vacall | vectorcall_\w+
    | method_vectorcall\w* | cfunction_(vectorcall\w*|call) | wrapper?_vectorcall
    | method_call | do_call_core | call_function | trampoline_call
    | slot_tp_(call|init|new|iternext|getattr_hook|richcompare|hash|repr|str)
    | slot_(sq|mp|nb|am)_\w+ | lookup_maybe_method
    | gen_iternext | gen_send_ex2? | PyGen_am_send | PyIter_Send | _PyGen_\w+
    | builtin_exec | builtin___build_class__ | type_call
    """, re.X)

HEADER = re.compile(r"""
    \s*(?P<comm>.*)\s+
    (?:(?P<pid>-?\d+)/)?(?P<tid>-?\d+)\s+
    (?:\[\d+\]\s+)?
    (?P<time>\d+\.\d+):\s+
    (?:\d+\s+)?
    (?P<event>\S+):\s*
    (?P<rest>.*)""", re.X)
FRAME = re.compile(r'\s+([0-9a-f]+) (.*)')
# The object file is the last thing in parentheses.  Names of functions and of files can
# have parentheses too.
SYMBOL = re.compile(r'(.*) \(((?:/|\[|inlined\)).*)\)')
SOURCE = re.compile(r'\s+(?P<file>.*):(?P<line>\d+)(?: \(discriminator \d+\))?\s*')
# What perf inject makes of each function of the jitdump PATH/jit-PID.dump.
JITTED = re.compile(r'(.*/)jitted-(\d+)-(\d+)\.so')
INLINED = 'inlined'             # what perf writes for an object file
NOT_THE_KERNEL = ('[vdso]', '[vsyscall]', '[unknown]', '[heap]', '[stack]', '[anon]',
                  '[uprobes]', '[vectors]')


class Error(Exception):
    """The recording cannot be read, or it does not have what was asked for."""


class Frame:
    """A function on the stack, or a line of a Python function.

    name       of a native function
    dso        its object file, '' if it is not known
    function   the qualified name of a Python function, None for native functions
    file       the file that the Python function was compiled from
    line       the line that it has reached, None if it is not known
    """

    __slots__ = ('name', 'dso', 'kernel', 'function', 'file', 'line')

    def __init__(self, name, dso, kernel=False):
        self.name = name
        self.dso = dso
        self.kernel = kernel
        self.function = self.file = self.line = None
        if name.startswith('py::'):
            self.function, self.file, self.line = split_name(name[4:])

    def __repr__(self):
        return f'<{self.name} {self.dso}>'

    @property
    def base_name(self):
        """The name without what compilers append to the parts of a function."""
        return self.name.partition('.')[0]


def split_name(name):
    """Return the qualified name, the file and the line or None of QUALNAME:FILE[:LINE].

    >>> split_name('Class.method:/src/a:b.py:17')
    ('Class.method', '/src/a:b.py', 17)
    >>> split_name('<module>:<string>')
    ('<module>', '<string>', None)
    """
    match = re.match(r'(.*?):(?=[/<])', name) or re.match(r'(.*?):', name)
    if match is None:
        return name, '', None
    function, rest = match[1], name[match.end():]
    match = re.fullmatch(r'(.*):(\d+)', rest)
    if match:
        return function, match[1], int(match[2])
    return function, rest, None


class Stack:
    """Frames, the innermost first.  Equal stacks are one object.

    frames   all frames
    python   those of Python functions
    native   the native frames inside the innermost Python function
    """

    __slots__ = ('frames', 'python', 'native')

    def __init__(self, frames):
        self.frames = frames
        self.python = [frame for frame in frames if frame.function is not None]
        self.native = []
        if self.python:
            for frame in frames:
                if frame.function is not None:
                    break
                self.native.append(frame)


class Thread(collections.namedtuple('Thread', 'pid tid')):
    __slots__ = ()

    def is_in(self, pid, tid):
        """Return whether this is the thread `tid` in the process `pid`; None is any."""
        return pid in (None, self.pid) and tid in (None, self.tid)


Sample = collections.namedtuple('Sample', 'thread time event stack')


def choose_event(events, reader, event=None):
    """Return the event to show: `event`, or that with most samples.

    events   {event: number of samples}
    """
    if not events:
        raise Error(f'{reader.name}: has no samples')
    if event is None:
        return max(events, key=events.get)
    if event not in events:
        raise Error(f'{reader.name}: has no samples of the event {event}; '
                    f'it has {", ".join(events)}')
    return event


def no_samples_of(reader, pid, tid):
    """Return the Error for a process or a thread that has no samples."""
    what = f'process {pid}' if tid is None else f'thread {tid}'
    return Error(f'{reader.name}: has no samples of {what}')


class Recording:
    """The samples of a recording.

    counts     {(thread, stack): number of samples}, of the event that has most samples
    comms      {thread: its last name}
    events     {event: number of samples}
    event      the event of `counts`
    total      the number of samples
    skipped    lines that were not understood
    """

    def __init__(self, samples, reader, event=None):
        by_event = {}
        for sample in samples:
            counts = by_event.get(sample.event)
            if counts is None:
                counts = by_event[sample.event] = collections.Counter()
            counts[sample.thread, sample.stack] += 1
        self.reader = reader
        self.comms = reader.comms
        self.events = {name: sum(counts.values()) for name, counts in by_event.items()}
        self.event = choose_event(self.events, reader, event)
        self.counts = by_event[self.event]
        self.total = sum(self.counts.values())

    def only(self, pid=None, tid=None):
        """Keep the samples of a process or of a thread."""
        if pid is None and tid is None:
            return
        self.counts = collections.Counter({
            (thread, stack): count for (thread, stack), count in self.counts.items()
            if thread.is_in(pid, tid)})
        self.total = sum(self.counts.values())
        if not self.total:
            raise no_samples_of(self.reader, pid, tid)

    def require_python(self):
        """Return the number of samples with Python functions; raise Error if it is 0."""
        count = sum(count for (_, stack), count in self.counts.items() if stack.python)
        if not count:
            raise Error(f'{self.reader.name}: no sample shows a Python function; '
                        + self.reader.why_no_names())
        return count

    def notes(self):
        """Return what the reader of the times should know, a list of sentences."""
        notes = []
        if not self.reader.interpreters:
            notes.append('perf has no symbols of the interpreter, which may have been '
                         'built again or removed; its time counts as library')
        missing = sorted(self.reader.missing)
        if missing:
            more = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
            notes.append(f'{missing[0]}{more} is missing; the lines of its functions are '
                         'not known')
        return notes

    def kind(self, stack):
        """Return which of KINDS a sample with this stack counts for."""
        leaf = stack.frames[0]
        if leaf.kernel:
            return KERNEL
        return self.reader.kind(leaf)


class Reader:
    """Reads samples from `perf script`.

    name      what messages call the recording
    comms     {thread: its last name}
    skipped   the number of lines that were not understood
    missing   jitdumps that could not be read
    offsets   the text has offsets in Python functions too: py::name:/file+0x1f
    """

    def __init__(self, name):
        self.name = name
        self.comms = {}
        self.skipped = 0
        self.missing = set()
        self.offsets = True
        self.deep = False               # some stack has more than one frame
        self.without_names = False      # code that a perf map should name
        self.interpreters = set()       # object files with an eval loop
        self.has_inlined = False        # some frame is an inlined function
        self._dumps = {}                # {path: jitdump_lines(path)}
        self._frames = {}               # by what perf has printed
        self._same = {}                 # by name and object file
        self._stacks = {}
        self._threads = {}
        self._headers = {}

    def kind(self, frame):
        """Return which of KINDS a frame inside a Python function is."""
        if frame.kernel:
            return KERNEL
        if frame.function is not None:
            return LOOP
        base = frame.base_name
        if base == EVAL_LOOP or base.startswith('_PyPerf_EnterEvalLoop'):
            return LOOP
        if frame.dso in self.interpreters:
            return INTERPRETER
        return LIBRARY

    def why_no_names(self):
        """Return what may be the reason that no sample has Python functions."""
        if not self.deep:
            return 'it has no stacks: record with perf record -g'
        if self.without_names:
            return ('it has code without names: /tmp/perf-PID.map is missing, or perf '
                    'inject --jit was not run')
        return 'was the program run with -X perf?'

    def frame(self, line):
        """Return the Frame of a line of perf, None if it is not one."""
        match = FRAME.fullmatch(line)
        if match is None:
            return None
        address, rest = match.groups()
        match = SYMBOL.fullmatch(rest)
        if match:
            name, dso = match.groups()
        else:
            name, _, dso = rest.rpartition(' (')
            dso = dso[:-1] if name else ''
            name = name or rest
        if self.offsets or not name.startswith('py::'):
            name = re.sub(r'\+0x[0-9a-f]+$', '', name)
        dso = re.sub(r' \(deleted\)$', '', dso)
        kernel = ((len(address) == 16 and address[0] in '89abcdef')
                  or (dso.startswith('[') and dso.endswith(']')
                      and not dso.startswith(NOT_THE_KERNEL)))
        if dso == '[unknown]':
            dso = ''
        self.has_inlined |= dso == INLINED
        frame = self.native_frame(name, dso, kernel)
        if frame.function is not None and frame.line is None:
            match = JITTED.fullmatch(dso)
            if match:
                number = self.jit_line(*match.groups(), int(address, 16))
                if number is not None:
                    return self.with_line(frame, number)
        return frame

    def native_frame(self, name, dso, kernel):
        key = name, dso, kernel
        frame = self._same.get(key)
        if frame is None:
            frame = self._same[key] = Frame(*key)
            if frame.base_name == EVAL_LOOP and dso != INLINED:
                self.interpreters.add(dso)
            elif name == '[unknown]' and re.fullmatch(
                    r'//anon|/tmp/perf-\d+\.map|.*/jit-\d+\.dump', dso):
                self.without_names = True
        return frame

    def place_inlined(self, frames):
        """Replace the frames of inlined functions: each is in the object file of the
        function that it is inlined in."""
        outer = Frame('', '')
        for place in reversed(range(len(frames))):
            if frames[place].dso == INLINED:
                frames[place] = self.native_frame(frames[place].name, outer.dso,
                                                  outer.kernel)
            outer = frames[place]

    def jit_line(self, directory, pid, index, address):
        """Return the line of an address in a function of a jitdump, or None."""
        path = f'{directory}jit-{pid}.dump'
        lines = self._dumps.get(path)
        if lines is None:
            try:
                lines = jitdump_lines(path)
            except OSError:
                lines = {}
                self.missing.add(path)
            self._dumps[path] = lines
        addresses, numbers = lines.get(int(index), ((), ()))
        place = bisect.bisect_right(addresses, address) - 1
        return numbers[place] if place >= 0 else None

    def with_line(self, frame, number):
        """Return the frame of the same function that has reached this line."""
        key = frame, number
        same = self._same.get(key)
        if same is None:
            same = self._same[key] = Frame(frame.name, frame.dso)
            same.line = number
        return same

    def samples(self, lines):
        """Yield the samples in lines of bytes."""
        header = None
        frames = []
        known = self._frames
        for line in lines:
            frame = known.get(line)
            if frame is not None:
                frames.append(frame)
                continue
            if line in (b'\n', b'\r\n'):
                if header:
                    yield self._sample(header, frames)
                header = None
                frames = []
                continue
            text = line.rstrip(b'\r\n').decode('utf-8', 'backslashreplace')
            frame = self.frame(text) if header else None
            if frame is not None:
                known[line] = frame
                frames.append(frame)
                continue
            match = SOURCE.fullmatch(text)
            if match and header and frames:
                if frames[-1].function is not None and frames[-1].line is None:
                    frames[-1] = self.with_line(frames[-1], int(match['line']))
                continue
            match = HEADER.fullmatch(text)
            if match is None:
                self.skipped += 1
                continue
            if header:
                yield self._sample(header, frames)
            header = match
            frame = self.frame(' ' + match['rest'])
            frames = [] if frame is None else [frame]
        if header:
            yield self._sample(header, frames)

    def _sample(self, header, frames):
        tid = int(header['tid'])
        thread = Thread(int(header['pid'] or tid), tid)
        thread = self._threads.setdefault(thread, thread)
        self.comms[thread] = header['comm'].strip()
        if self.has_inlined:
            self.place_inlined(frames)
        if len(frames) > 1:
            self.deep = True
        key = tuple(frames)
        stack = self._stacks.get(key)
        if stack is None:
            stack = self._stacks[key] = Stack(key or (Frame('[no stack]', ''),))
        return Sample(thread, header['time'], header['event'], stack)


def jitdump_lines(path):
    """Return {code_index: (addresses, lines)} of a jitdump, both lists in order.

    The format is that of tools/perf/Documentation/jitdump-specification.txt in the
    kernel's source.  perf can look up lines too (-F srcline), but it runs addr2line for
    each function, and for all C functions.
    """
    with open(path, 'rb') as file:
        data = file.read()
    found = {}
    if len(data) < 12 or data[:4] not in (b'DTiJ', b'JiTD'):
        return found
    order = '<' if data[:4] == b'DTiJ' else '>'
    record, load, debug, entry = (
        struct.Struct(order + fields) for fields in ('IIQ', 'IIQQQQ', 'QQ', 'QII'))
    place, = struct.unpack_from(order + 'I', data, 8)
    pending = [], []
    try:
        while place + record.size <= len(data):
            kind, size, _ = record.unpack_from(data, place)
            begin = place + record.size
            if kind == 0:               # JIT_CODE_LOAD
                index = load.unpack_from(data, begin)[-1]
                if pending[0]:
                    found[index] = pending
                pending = [], []
            elif kind == 2:             # JIT_CODE_DEBUG_INFO, of the next load
                _, count = debug.unpack_from(data, begin)
                begin += debug.size
                entries = []
                for _ in range(count):
                    address, number, _ = entry.unpack_from(data, begin)
                    entries.append((address, number))
                    begin = data.index(b'\0', begin + entry.size) + 1
                entries.sort()
                pending = [e[0] for e in entries], [e[1] for e in entries]
            if size < record.size:
                break
            place += size
    except (struct.error, ValueError):
        pass                            # the last record is incomplete
    return found


# ---------------------------------------------------------------------------
# Running perf

def perf_command(perf, path):
    """Return the command that prints the recording in the file `path`."""
    return [perf, 'script', '--no-inline', '--max-stack', '1024', '-F', FIELDS,
            '-i', path]


def is_recording(path):
    """Return whether the file is one that perf record has written."""
    with open(path, 'rb') as file:
        return file.read(8) in MAGIC


def read_samples(path, perf='perf'):
    """Return a Reader, and an iterator over the samples of a file.

    path   the file: of perf record, or what perf script has printed; '-' is standard
           input, as text
    perf   the perf to run
    """
    if path == '-':
        reader = Reader('standard input')
        return reader, reader.samples(sys.stdin.buffer)
    reader = Reader(path)
    try:
        file = open(path, 'rb')
        recording = file.peek(8)[:8] in MAGIC
    except OSError as error:
        raise Error(f'{path}: {error.strerror}') from None
    if not recording:
        return reader, _samples_of_text(reader, file)
    file.close()
    reader.offsets = False
    return reader, _samples_of_perf(reader, perf_command(perf, path))


def _samples_of_text(reader, file):
    with file:
        found = False
        for sample in reader.samples(file):
            found = True
            yield sample
    if not found:
        raise Error(f'{reader.name}: is neither a recording of perf nor what perf script '
                    f'prints with -F {FIELDS}')


def _samples_of_perf(reader, command):
    environment = {**os.environ, 'LC_ALL': 'C', 'PERF_CONFIG': os.devnull}
    environment.pop('DEBUGINFOD_URLS', None)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment, bufsize=1 << 20)
    except OSError as error:
        raise Error(f'cannot run {command[0]}: {error.strerror}') from None
    with process:
        errors = _Drain(process.stderr)
        finished = False
        try:
            yield from reader.samples(process.stdout)
            finished = True
        finally:
            if not finished:
                process.kill()
        status = process.wait()
        lines = errors.lines()
    if status:
        reason = lines[-1] if lines else f'exit status {status}'
        raise Error(f'{reader.name}: perf script: {reason}')


class _Drain:
    """Reads a pipe in a thread, so that the process at its other end never waits."""

    def __init__(self, pipe):
        import threading
        self.last = collections.deque(maxlen=20)
        self.thread = threading.Thread(target=self.run, args=(pipe,), daemon=True)
        self.thread.start()

    def run(self, pipe):
        for line in pipe:
            text = line.decode('utf-8', 'backslashreplace').strip()
            if text:
                self.last.append(text)

    def lines(self):
        self.thread.join()
        return list(self.last)


def read_recording(path, perf='perf', event=None):
    """Return the Recording in a file; see read_samples()."""
    reader, samples = read_samples(path, perf)
    return Recording(samples, reader, event)


# ---------------------------------------------------------------------------
# Command lines

def add_arguments(parser):
    """Add the arguments that all commands have."""
    parser.add_argument('input', nargs='?', default='perf.data', metavar='FILE',
                        help='a recording, or what `perf script` has printed; '
                             '- is standard input (default: perf.data)')
    parser.add_argument('--perf', default=os.environ.get('PERF', 'perf'), metavar='PROGRAM',
                        help='the perf to run (default: $PERF, or perf)')
    parser.add_argument('--event', metavar='NAME',
                        help='the event whose samples count '
                             '(default: that with most samples)')
    parser.add_argument('--pid', type=int, help='only this process')
    parser.add_argument('--tid', type=int, help='only this thread')


def require_perf(arguments):
    """Raise Error if the input is a recording and there is no perf to read it."""
    if os.path.sep not in arguments.perf and not shutil.which(arguments.perf):
        # From a pipe the first bytes would be lost.
        if os.path.isfile(arguments.input) and is_recording(arguments.input):
            raise Error(f'{arguments.perf}: not found in PATH; name it with --perf')


def recording_of(arguments):
    """Return the Recording that the arguments name."""
    require_perf(arguments)
    recording = read_recording(arguments.input, arguments.perf, arguments.event)
    recording.only(arguments.pid, arguments.tid)
    return recording


def tell(name, notes):
    """Print notes on standard error."""
    for note in notes:
        print(f'{name}: note: {printable(note)}', file=sys.stderr)


@contextlib.contextmanager
def output_file(path, inputs):
    """Open a file for text.  It takes the place of an older one when it is complete.

    inputs   the paths of files that it must not replace
    """
    for each in inputs:
        if os.path.exists(path) and os.path.exists(each) and os.path.samefile(path, each):
            raise Error(f'{path}: is the input')
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):       # a device or a pipe
        with open(path, 'w', encoding='utf-8', errors='backslashreplace') as file:
            yield file
        return
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        with open(temporary, 'w', encoding='utf-8', errors='backslashreplace') as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise Error(f'{path}: {error.strerror}') from None
        raise


def run(main, name):
    """Run a command; a problem is one line on standard error and exit status 1."""
    try:
        main()
        sys.stdout.flush()
    except Error as error:
        sys.exit(f'{name}: {printable(str(error))}')
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f'{name}: {error.filename or "output"}: {error.strerror}')
    except KeyboardInterrupt:
        sys.exit(130)


def parser_of(doc, usage):
    """Return an argument parser that shows a module's documentation."""
    first, _, rest = doc.partition('\n')
    return argparse.ArgumentParser(
        usage=usage, description=first, epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter)


def printable(text):
    """Return the text with control characters, and all that no terminal should get,
    written as in a string literal."""
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def utf8_output():
    """Let standard output take all characters, whatever the locale."""
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(encoding='utf-8', errors='backslashreplace')
