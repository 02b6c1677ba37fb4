"""Parsers of perf maps and of what perf and samply print and save.

The parser of jitdumps is in jitdump.py.  This file has no tests.
"""

import collections
import json
import re

MAP_LINE = re.compile(r'([0-9a-f]+) ([0-9a-f]+) (.+)')

MapEntry = collections.namedtuple('MapEntry', 'start size name')

# chain: the frames, leaf first.
Sample = collections.namedtuple('Sample', 'pid chain')
Frame = collections.namedtuple('Frame', 'ip symbol dso')

EVAL_LOOP = '_PyEval_EvalFrameDefault'
# Calls the eval loop and has the record area for the functions that it
# inlines.
RECORD_BASE = '_PyPerf_EnterEvalLoop'


# ---------------------------------------------------------------------------
# Map files

def map_path(pid):
    return f'/tmp/perf-{pid}.map'


def parse_map(text):
    """Return the entries of a map. A malformed line is a ValueError."""
    if isinstance(text, bytes):
        text = text.decode('utf-8')
    if text and not text.endswith('\n'):
        raise ValueError(f'the last line is incomplete: {text[-200:]!r}')
    entries = []
    for line in text.split('\n')[:-1]:
        match = MAP_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f'not a line of a perf map: {line[:200]!r}')
        start, size, name = match.groups()
        entries.append(MapEntry(int(start, 16), int(size, 16), name))
    return entries


def read_map(pid):
    with open(map_path(pid), 'rb') as file:
        return parse_map(file.read())


def names_in_map(pid):
    return [entry.name for entry in read_map(pid)]


def overlapping(entries):
    """Return the pairs of neighbouring entries that overlap."""
    entries = sorted(entries)
    return [(a, b) for a, b in zip(entries, entries[1:])
            if a.start + a.size > b.start]


# ---------------------------------------------------------------------------
# perf script

def parse_perf_script(text):
    """Parse what `perf script -F pid,ip,sym,dso` prints.

    A sample is a line with the pid, then one line a frame, leaf first, then
    an empty line.
    """
    samples = []
    for line in text.split('\n'):
        if not line.strip():
            continue
        if not line.startswith('\t'):
            samples.append(Sample(int(line), []))
            continue
        ip, _, rest = line.strip().partition(' ')
        symbol, _, dso = rest.rpartition(' (')
        samples[-1].chain.append(
            Frame(int(ip, 16), symbol, dso.removesuffix(')')))
    return samples


def python_names(sample):
    """Return the names of the Python functions of a sample, leaf first."""
    return [frame.symbol for frame in sample.chain
            if frame.symbol.startswith('py::')]


def samples_of(samples, name):
    """Return the samples with this name in them."""
    return [sample for sample in samples
            if any(frame.symbol == name for frame in sample.chain)]


def has_nested(names, wanted):
    """Return whether the names, leaf first, include these in this order."""
    names = iter(names)
    return all(name in names for name in wanted)


def called_by(chain, symbol):
    """Return the caller of each frame that has this symbol.

    At the end of the chain the caller is None.  _PyPerf_EnterEvalLoop() does
    not count as a caller.
    """
    symbols = [frame.symbol for frame in chain
               if not frame.symbol.startswith(RECORD_BASE)]
    return [caller for callee, caller in zip(symbols, [*symbols[1:], None])
            if callee == symbol]


# ---------------------------------------------------------------------------
# samply's profiles

def read_profile(path):
    """Return a profile that samply has saved."""
    import gzip     # cross-built interpreters may lack it
    with gzip.open(path) as file:
        return json.load(file)


def samply_samples(profile):
    """Return the samples of a profile in the Firefox Profiler's format.

    A stack is an index into stackTable, which has the frame and the stack
    below.  A frame refers to a function, and a function to its name among the
    strings.  Each thread has its strings; in newer versions all threads share
    them.  ip and dso of the frames are None.
    """
    samples = []
    shared = profile.get('shared', {})
    for thread in profile['threads']:
        def table(name):
            return thread[name] if name in thread else shared[name]

        strings = table('stringArray')
        func_name = table('funcTable')['name']
        frame_func = table('frameTable')['func']
        prefix = table('stackTable')['prefix']
        frame = table('stackTable')['frame']
        pid = int(str(thread['pid']).partition('.')[0])
        for stack in thread['samples']['stack']:
            chain = []
            while stack is not None:
                chain.append(Frame(
                    None, strings[func_name[frame_func[frame[stack]]]], None))
                stack = prefix[stack]
            samples.append(Sample(pid, chain))
    return samples
