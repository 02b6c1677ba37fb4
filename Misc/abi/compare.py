"""Compare two builds of CPython as programs that were compiled for one of them see them.

    compare.py ALLOWED BASE OURS

BASE and OURS are directories with the same files, each of one fact a line:

    layout.txt      types: names, sizes, offsets (layout.py)
    macros.txt      what the headers define for the preprocessor
    headers.txt     declarations and functions of the headers, preprocessed
    symbols.txt     symbols that the shared library exports, with sizes of variables
    program.txt     symbols that the interpreter without shared library exports

ALLOWED has a line `KIND NAME` for each difference that is allowed:

    member      it was added to a struct
    symbol      it was added
    removed     a symbol that was removed
    macro       it was added, or has a different value
    autoconf    a macro that may differ in any way

All other differences are printed, one a line, and so are names in ALLOWED that do not
differ, except for the last kind. The exit status is 1 if anything was printed.
"""

import os
import re
import sys

KINDS = {'layout': 'member', 'macros': 'macro', 'symbols': 'symbol', 'program': 'symbol'}


def read_allowed(path):
    """Return {(kind, name)}."""
    with open(path) as file:
        lines = [line.partition('#')[0].split() for line in file]
    return {tuple(line) for line in lines if line}


def read_facts(path):
    """Return {name: its fact}. A name is one word, or two for a struct."""
    facts = {}
    with open(path) as file:
        for line in file:
            match = re.match(r'((?:(?:struct|union|enum) )?\S+) ?(.*)', line)
            facts[match[1]] = match[2]
    return facts


def compare_facts(base, ours):
    """Yield (what has happened, name, one line) for each difference."""
    for name in sorted(base.keys() | ours.keys()):
        if name not in ours:
            yield 'removed', name, f'{name}: removed; was: {base[name]}'
        elif name not in base:
            yield 'added', name, f'{name}: added: {ours[name]}'
        elif base[name] != ours[name]:
            yield 'changed', name, f'{name}: {base[name]}; now: {ours[name]}'


def compare_headers(base, ours, allowed):
    """The same for statements. A new one must have a word that is allowed."""
    words = {name.rpartition('.')[2] for _, name in allowed}
    for statement in sorted(base - ours):
        yield f'removed: {statement}'
    for statement in sorted(ours - base):
        if words.isdisjoint(re.findall(r'\w+', statement)):
            yield f'added: {statement}'


def main():
    allowed_path, base, ours = sys.argv[1:]
    allowed = read_allowed(allowed_path)
    used = set()
    count = 0
    for kind, entry_kind in KINDS.items():
        pair = [read_facts(os.path.join(directory, f'{kind}.txt'))
                for directory in (base, ours)]
        for event, name, line in compare_facts(*pair):
            is_gone = event == 'removed' and entry_kind == 'symbol'
            entry = 'removed' if is_gone else entry_kind, name.rpartition(' ')[2].partition('(')[0]
            used.add(entry)
            if (event == 'added' or is_gone or event == 'changed' and kind == 'macros'
                    ) and entry in allowed:
                continue
            if kind == 'macros' and ('autoconf', name) in allowed:
                continue
            print(f'{kind}: {line}')
            count += 1
    pair = []
    for directory in base, ours:
        with open(os.path.join(directory, 'headers.txt')) as file:
            pair.append(set(file.read().splitlines()))
    for line in compare_headers(*pair, allowed):
        print(f'headers: {line}')
        count += 1
    for kind, name in sorted(allowed - used):
        if kind != 'autoconf':
            print(f'{allowed_path}: {kind} {name}: does not differ')
            count += 1
    sys.exit(count > 0)


if __name__ == '__main__':
    main()
