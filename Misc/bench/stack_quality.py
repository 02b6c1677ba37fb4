"""Measure how many stacks in a profile of Python are complete.

    perf script --no-inline -F pid,ip,sym,dso -i perf.jit.data |
        python3 Misc/bench/stack_quality.py [FILE]

Reads the output of perf script, with -F ...,ip,sym or without -F. Takes the samples
whose stack contains the eval loop or the name of a Python function. Prints

- the share of stacks that reach the start of the program (_start, main,
  __libc_start_main) or of its thread,
- the share in which a Python function follows each eval loop,
- the last frames of the broken stacks, with the median number of frames.

A stack that breaks before it reaches Python code looks like a stack of other code. It
counts as one of the other samples.
"""

import collections
import re
import statistics
import sys

FRAME = re.compile(r'\t\s*([0-9a-f]+) (.*?)(?: \((.*)\))?$')
OUTERMOST = re.compile(
    r'_start|main|__libc_start_\w*|(__)?clone3?|start_thread|thread_start')
EVAL_LOOP = '_PyEval_EvalFrameDefault'
SHOWN = 10              # kinds of broken stacks that are printed
LAST = 3                # frames of each of them


def read_chains(lines):
    """Yield the stack of each sample: a list of symbols, innermost first."""
    chain = []
    for line in lines:
        if not line.strip():
            if chain:
                yield chain
            chain = []
        elif match := FRAME.match(line.rstrip('\n')):
            chain.append(re.sub(r'\+0x[0-9a-f]+$', '', match[2]))
    if chain:
        yield chain


def is_eval_loop(symbol):
    return symbol.startswith(EVAL_LOOP)


def is_python(chain):
    return any(is_eval_loop(symbol) or symbol.startswith('py::')
               for symbol in chain)


def is_whole(chain):
    return ('[unknown]' not in chain
            and OUTERMOST.fullmatch(chain[-1].partition('@')[0]) is not None)


def is_named(chain):
    """Is there a Python function between each eval loop and the next one?"""
    waiting = False
    for symbol in chain:
        if is_eval_loop(symbol):
            if waiting:
                return False
            waiting = True
        elif symbol.startswith('py::'):
            waiting = False
    return not waiting


def short(symbol):
    """Return the name of a Python function without its file."""
    return symbol.rpartition(':')[0] if symbol.startswith('py::') else symbol


def main(arguments):
    with open(arguments[0]) if arguments else sys.stdin as file:
        chains = list(read_chains(file))
    others = [chain for chain in chains if not is_python(chain)]
    chains = list(filter(is_python, chains))
    if not chains:
        sys.exit(f'no Python code in {len(others)} samples')
    whole = sum(map(is_whole, chains))
    named = sum(map(is_named, chains))
    print(f'samples in Python code:   {len(chains)}')
    print(f'others:                   {len(others)}, '
          f'{sum(not is_whole(chain) for chain in others)} of them broken')
    print(f'stack reaches the start:  {whole / len(chains):.2%}')
    print(f'every eval loop named:    {named / len(chains):.2%}')
    lengths = list(map(len, chains))
    print(f'frames of a stack:        '
          f'median {statistics.median(lengths):.0f}, most {max(lengths)}')
    broken = collections.defaultdict(list)
    for chain in chains:
        if not is_whole(chain):
            end = tuple(map(short, reversed(chain[-LAST:])))
            broken[end].append(len(chain))
    if broken:
        print('broken stacks end, outermost first:')
    by_number = sorted(broken.items(), key=lambda item: -len(item[1]))
    for end, lengths in by_number[:SHOWN]:
        print(f'{len(lengths):8}  {" < ".join(end)}'
              f'  ({statistics.median(lengths):.0f} frames)')


if __name__ == '__main__':
    main(sys.argv[1:])
