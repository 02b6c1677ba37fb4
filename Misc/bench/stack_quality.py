"""How good the stacks of a profile of Python are.

    perf script --no-inline -F pid,ip,sym,dso -i perf.jit.data |
        python3 Misc/bench/stack_quality.py [FILE]

Reads what perf script prints, with -F ...,ip,sym or without -F.  Counts the
samples that were taken in Python code: with the eval loop or the name of a
Python function somewhere in the stack.  Prints of them

- the share whose chain runs unbroken to the start of the program (_start,
  main, __libc_start_main) or of its thread,
- the share in which each eval loop has the name of its Python function,

and how the other chains end: by their last frames, with the median number of
frames.  Chains that break before they reach Python code cannot be told from
those of other code; they are counted with the rest of the samples.
"""

import collections
import re
import statistics
import sys

FRAME = re.compile(r'\t\s*([0-9a-f]+) (.*?)(?: \((.*)\))?$')
OUTERMOST = re.compile(
    r'_start|main|__libc_start_\w*|(__)?clone3?|start_thread|thread_start')
EVAL_LOOP = '_PyEval_EvalFrameDefault'
SHOWN = 10              # kinds of broken chains
LAST = 3                # frames of each


def read_chains(lines):
    """Yield the chain of each sample: symbols, leaf first."""
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
    """Does a name follow each eval loop, before the next one?"""
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
    """The name of a Python function without its file."""
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
    print(f'chain runs to the start:  {whole / len(chains):.2%}')
    print(f'every eval loop named:    {named / len(chains):.2%}')
    lengths = list(map(len, chains))
    print(f'frames of a chain:        '
          f'median {statistics.median(lengths):.0f}, most {max(lengths)}')
    broken = collections.defaultdict(list)
    for chain in chains:
        if not is_whole(chain):
            end = tuple(map(short, reversed(chain[-LAST:])))
            broken[end].append(len(chain))
    if broken:
        print('broken chains end, outermost first:')
    by_number = sorted(broken.items(), key=lambda item: -len(item[1]))
    for end, lengths in by_number[:SHOWN]:
        print(f'{len(lengths):8}  {" < ".join(end)}'
              f'  ({statistics.median(lengths):.0f} frames)')


if __name__ == '__main__':
    main(sys.argv[1:])
