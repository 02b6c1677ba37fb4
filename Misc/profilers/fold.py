#!/usr/bin/env python3
"""Write the stacks of a recording for flame graphs and other viewers.

    perf record -F 999 -g python -X perf script.py
    fold.py perf.data | flamegraph.pl --colors java >flamegraph.svg
    fold.py --format speedscope perf.data -o profile.speedscope.json
    fold.py --format firefox perf.data -o profile.json

The formats are:

    folded       one line for each stack: functions, the outermost first, separated by
                 semicolons, and the number of samples.  flamegraph.pl and speedscope
                 read it.
    speedscope   for https://www.speedscope.app, with threads and the order in time
    firefox      for the Firefox Profiler, https://profiler.firefox.com, with a time line

A Python function is `NAME py::FILE`, with the line if the recording has lines and --lines
is given: its name comes first, because viewers cut what does not fit.  A semicolon in a
name is written \\x3b.

--python leaves out the frames of the interpreter that only call Python functions, and
what started the interpreter.  C functions that a Python function called remain.

With --baseline OLD the folded stacks have two numbers, of OLD and of the recording;
flamegraph.pl shows in red what takes a larger share now, in blue what takes a smaller
one.  The numbers of OLD are scaled so that both recordings have equally many samples.

The exit status is 0 on success and 2 for wrong arguments.  It is 1, with one line on
stderr, if a recording cannot be read.
"""

import collections
import contextlib
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import perfscript

INTERPRETER_START = re.compile(r"""
    _start | __?libc_start\w* | main | Py_(Bytes)?Main | pymain_\w+ | Py_RunMain
    | _?PyRun_\w+ | run_mod | run_eval_code_obj | PyEval_EvalCode(Ex)?
    | clone3? | __clone3? | start_thread | pythread_wrapper | thread_run | \[unknown\]
    """, re.X)


# ---------------------------------------------------------------------------
# Frames and their names

def shown(stack, python_only=False):
    """Return the frames that are shown, the outermost first.

    python_only   leave out native frames that only start the interpreter or call Python
                  functions
    """
    frames = stack.frames[::-1]
    if not python_only or not stack.python:
        return frames
    kept = []
    inside = False
    for frame in frames:
        if frame.function is not None:
            inside = True
        elif perfscript.CALLS.fullmatch(frame.base_name):
            continue
        elif not inside and INTERPRETER_START.fullmatch(frame.base_name.partition('@')[0]):
            continue
        kept.append(frame)
    return kept


def label(frame, lines=False):
    """Return the name of a frame: of a Python function NAME py::FILE[:LINE]."""
    if frame.function is None:
        return frame.name
    name = f'{frame.function} py::{frame.file}'
    return f'{name}:{frame.line}' if lines and frame.line is not None else name


def folded_label(frame, lines=False):
    """Return a name that does no harm in folded stacks.

    A semicolon would end it.  A number at its end would be taken for the number of samples.
    """
    name = perfscript.printable(label(frame, lines)).replace(';', r'\x3b')
    return re.sub(r'\s(?=[\d.]+$)', '_', name)


# ---------------------------------------------------------------------------
# Folded stacks

def fold(recording, python_only=False, lines=False):
    """Return {folded stack: number of samples}."""
    names = {}
    folded = collections.Counter()
    for (_, stack), count in recording.counts.items():
        text = names.get(stack)
        if text is None:
            text = names[stack] = ';'.join(
                folded_label(frame, lines) for frame in shown(stack, python_only))
        folded[text] += count
    return folded


def write_folded(folded, file, baseline=None):
    """Write folded stacks.  baseline: those of another recording, to compare with."""
    if baseline is None:
        for text in sorted(folded):
            file.write(f'{text} {folded[text]}\n')
        return
    factor = sum(folded.values()) / sum(baseline.values())
    for text in sorted({*folded, *baseline}):
        old = format(factor * baseline.get(text, 0), '.6g')
        file.write(f'{text} {old} {folded.get(text, 0)}\n')


# ---------------------------------------------------------------------------
# Formats with an order in time

class Timeline:
    """The samples of an event by thread, in the order in which they were taken.

    threads   {thread: [(time in ms, stack), ...]}
    """

    def __init__(self, arguments):
        reader, samples = perfscript.read_samples(arguments.input, arguments.perf)
        self.reader = reader
        events = collections.defaultdict(lambda: collections.defaultdict(list))
        for sample in samples:
            events[sample.event][sample.thread].append(
                (1000 * float(sample.time), sample.stack))
        self.event = perfscript.choose_event(
            {event: sum(map(len, threads.values())) for event, threads in events.items()},
            reader, arguments.event)
        self.threads = {thread: stacks
                        for thread, stacks in sorted(events[self.event].items())
                        if thread.is_in(arguments.pid, arguments.tid)}
        if not self.threads:
            raise perfscript.no_samples_of(reader, arguments.pid, arguments.tid)
        self.start = min(samples[0][0] for samples in self.threads.values())
        self.end = max(samples[-1][0] for samples in self.threads.values())
        # Samples come at a fixed rate, but only while a thread runs.
        gaps = sorted(b[0] - a[0] for samples in self.threads.values()
                      for a, b in zip(samples, samples[1:]))
        self.interval = max(0.001, gaps[len(gaps) // 2] if gaps else 1)

    def name(self, thread):
        return self.reader.comms.get(thread) or str(thread.tid)


def speedscope(timeline, title, python_only, lines):
    """Return a profile in speedscope's format, as a dictionary for JSON.

    Source: file-format-spec.ts in speedscope's repository.
    """
    numbers = {}
    frames = []

    def number(frame):
        name = label(frame, lines)
        if name not in numbers:
            numbers[name] = len(frames)
            entry = {'name': name if frame.function is None else frame.function}
            if frame.function is not None:
                entry['file'] = frame.file
                if lines and frame.line is not None:
                    entry['line'] = frame.line
            elif frame.dso:
                entry['file'] = frame.dso
            frames.append(entry)
        return numbers[name]

    profiles = []
    for thread, samples in timeline.threads.items():
        stacks = {}
        for _, stack in samples:
            if stack not in stacks:
                stacks[stack] = [number(frame) for frame in shown(stack, python_only)]
        profiles.append({
            'type': 'sampled', 'unit': 'none', 'startValue': 0, 'endValue': len(samples),
            'name': f'{timeline.name(thread)} {thread.pid}/{thread.tid}',
            'samples': [stacks[stack] for _, stack in samples],
            'weights': [1] * len(samples)})
    busiest = max(range(len(profiles)), key=lambda i: len(profiles[i]['samples']))
    return {'$schema': 'https://www.speedscope.app/file-format-schema.json',
            'name': title, 'exporter': 'fold.py', 'activeProfileIndex': busiest,
            'shared': {'frames': frames}, 'profiles': profiles}


CATEGORIES = (('Python', 'yellow'), ('Interpreter', 'blue'), ('Library', 'green'),
              ('Kernel', 'orange'))


def firefox(timeline, title, python_only, lines):
    """Return a profile for the Firefox Profiler, as a dictionary for JSON.

    It is a processed profile of version 55, as described by docs-developer in the
    profiler's repository; newer versions of the profiler read it.
    """
    return {
        'meta': {
            'product': title, 'interval': timeline.interval, 'startTime': 0,
            'processType': 0, 'stackwalk': 1, 'debug': False, 'version': 24,
            'preprocessedProfileVersion': 55, 'symbolicated': True,
            'usesOnlyOneStackType': True, 'sourceCodeIsNotOnSearchfox': True,
            'categories': [{'name': name, 'color': color, 'subcategories': ['Other']}
                           for name, color in CATEGORIES],
            'sampleUnits': {'time': 'ms', 'eventDelay': 'ms', 'threadCPUDelta': 'ns'},
            'markerSchema': [],
            'extensions': {'length': 0, 'id': [], 'name': [], 'baseURL': []}},
        'libs': [], 'pages': [], 'profilerOverhead': [], 'counters': [],
        'threads': [firefox_thread(timeline, thread, python_only, lines)
                    for thread in timeline.threads]}


def cpu_deltas(timeline, deltas):
    """Return the CPU time before each sample, or nothing if the event does not count it.

    Without it the time line shows a thread that sleeps as one that works.
    """
    if not re.match(r'(cpu-clock|task-clock|(cpu-)?cycles|\w+/(cpu-)?cycles/)', timeline.event):
        return {}
    return {'threadCPUDelta': [round(1e6 * min(timeline.interval, delta or timeline.interval))
                               for delta in deltas]}


def firefox_thread(timeline, thread, python_only, lines):
    strings, functions, frames, stacks = {}, {}, {}, {}

    def string(text):
        return strings.setdefault(text, len(strings))

    def category(frame):
        if frame.function is not None:
            return 0
        kind = timeline.reader.kind(frame)
        return {perfscript.LIBRARY: 2, perfscript.KERNEL: 3}.get(kind, 1)

    def frame_number(frame):
        line = frame.line if lines else None
        name, file = (frame.name, frame.dso) if frame.function is None \
            else (frame.function, frame.file)
        function = functions.setdefault(
            (string(name), string(file)), len(functions))
        return frames.setdefault((function, line, category(frame)), len(frames))

    def stack_number(stack):
        number = None
        for frame in shown(stack, python_only):
            number = stacks.setdefault((number, frame_number(frame)), len(stacks))
        return number

    samples = timeline.threads[thread]
    known = {}
    for _, stack in samples:
        if stack not in known:
            known[stack] = stack_number(stack)
    times = [time - timeline.start for time, _ in samples]
    deltas = [b - a for a, b in zip([0, *times], times)]
    count = len(samples)

    def same(value, table):
        return [value] * len(table)

    return {
        'name': timeline.name(thread), 'processName': timeline.name(thread),
        'processType': 'default', 'isMainThread': thread.pid == thread.tid,
        'pid': str(thread.pid), 'tid': str(thread.tid),
        'processStartupTime': 0, 'processShutdownTime': None,
        'registerTime': 0, 'unregisterTime': None, 'pausedRanges': [],
        'showMarkersInTimeline': False,
        'samples': {
            'length': count, 'weightType': 'samples', 'weight': [1] * count,
            'stack': [known[stack] for _, stack in samples],
            'timeDeltas': [round(delta, 6) for delta in deltas],
            **cpu_deltas(timeline, deltas)},
        'stackTable': {
            'length': len(stacks), 'prefix': [prefix for prefix, _ in stacks],
            'frame': [frame for _, frame in stacks]},
        'frameTable': {
            'length': len(frames), 'address': same(-1, frames),
            'inlineDepth': same(0, frames), 'category': [key[2] for key in frames],
            'subcategory': same(0, frames), 'func': [key[0] for key in frames],
            'nativeSymbol': same(None, frames), 'innerWindowID': same(0, frames),
            'line': [key[1] for key in frames], 'column': same(None, frames)},
        'funcTable': {
            'length': len(functions), 'name': [key[0] for key in functions],
            'isJS': same(False, functions), 'relevantForJS': same(False, functions),
            'resource': same(-1, functions), 'fileName': [key[1] for key in functions],
            'lineNumber': same(None, functions), 'columnNumber': same(None, functions)},
        'resourceTable': {'length': 0, 'lib': [], 'name': [], 'host': [], 'type': []},
        'nativeSymbols': {'length': 0, 'address': [], 'functionSize': [], 'libIndex': [],
                          'name': []},
        'markers': {'length': 0, 'category': [], 'data': [], 'endTime': [], 'name': [],
                    'phase': [], 'startTime': []},
        'stringArray': list(strings)}


# ---------------------------------------------------------------------------

def main():
    parser = perfscript.parser_of(__doc__, 'fold.py [options] [FILE] [-o OUTPUT]')
    perfscript.add_arguments(parser)
    parser.add_argument('-o', '--output', metavar='OUTPUT',
                        help='where to write (default: standard output)')
    parser.add_argument('--format', choices=('folded', 'speedscope', 'firefox'),
                        default='folded')
    parser.add_argument('--python', action='store_true',
                        help='without frames of the interpreter between Python functions')
    parser.add_argument('--lines', action='store_true',
                        help='tell apart the lines of a function')
    parser.add_argument('--baseline', metavar='OLD',
                        help='folded: another recording, to compare with; --pid and '
                             '--tid are not for it')
    parser.add_argument('--title', help='the name of the profile')
    arguments = parser.parse_args()
    if arguments.baseline and arguments.format != 'folded':
        parser.error('--baseline is for --format folded')
    perfscript.utf8_output()
    title = arguments.title or arguments.input
    options = arguments.python, arguments.lines
    baseline = None
    if arguments.format == 'folded':
        recording = perfscript.recording_of(arguments)
        folded = fold(recording, *options)
        if arguments.baseline:
            old = perfscript.read_recording(arguments.baseline, arguments.perf,
                                            arguments.event)
            # The part behind the colon says whether the kernel was recorded.
            if old.event.partition(':')[0] != recording.event.partition(':')[0]:
                raise perfscript.Error(
                    f'{arguments.baseline}: has samples of {old.event}, and '
                    f'{arguments.input} of {recording.event}')
            baseline = fold(old, *options)
    else:
        perfscript.require_perf(arguments)
        make = speedscope if arguments.format == 'speedscope' else firefox
        profile = make(Timeline(arguments), title, *options)
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if arguments.output:
            inputs = [arguments.input] + [arguments.baseline] * bool(arguments.baseline)
            file = stack.enter_context(perfscript.output_file(arguments.output, inputs))
        if arguments.format == 'folded':
            write_folded(folded, file, baseline)
        else:
            json.dump(profile, file, separators=(',', ':'))


if __name__ == '__main__':
    perfscript.run(main, 'fold.py')
