"""Generates hostile names, the same ones each time.

    for qualname, filename in namegen.generate(10_000): ...

This file has no tests.
"""

import collections
import functools
import random
import sys
import unicodedata

SEED = 20111

# (share of the names, shortest, longest): most are as people write them, some
# as programs make them.
LENGTHS = [(0.10, 0, 3), (0.75, 1, 60), (0.12, 60, 600), (0.028, 600, 5000),
           (0.0017, 5000, 100_000), (0.0003, 1_000_000, 1_000_001)]

# Text with a meaning for the readers of maps, jitdumps and profiles.
PIECES = ['\n', '\r', '\t', '\0', '\\', '\\n', '\\x41', ' ', '  ', ':', '::',
          'py::', '\x1b[31m', '\x1b]0;title\x07', '\x7f', '\x85', '\u2028',
          '\u2029', '\ufeff', '\ud800', '\udfff', '\ud83d\ude00', '\U0001f600',
          '%s', '%n', '7f0000000000 10 forged', '\n1000 10 forged\n', '[jit]',
          '/', '../', '//', '<module>', '"', "'", '\u202e', 'e\u0301',
          '\uffff', '\U0010ffff', '\x80\xff', '\xc3\xa9', 'é', '日本語', '@plt',
          '_ZN3foo3barEv', '_R', '_D', 'Ljava/lang/String;', ';', '+0x10']


@functools.cache
def categories():
    """Return the characters of each Unicode category."""
    result = collections.defaultdict(list)
    for point in range(sys.maxunicode + 1):
        result[unicodedata.category(chr(point))].append(chr(point))
    return [''.join(characters)
            for _, characters in sorted(result.items())]


def text(choice):
    share = choice.random()
    for part, least, most in LENGTHS:
        share -= part
        if share < 0:
            break
    length = choice.randrange(least, most)
    kind = choice.randrange(4)
    if kind == 0:                       # as in programs
        return ''.join(choice.choices('abcdefXYZ_019.<>', k=length))
    if kind == 1:                       # one category
        return ''.join(choice.choices(choice.choice(categories()), k=length))
    if kind == 2:                       # all categories
        return ''.join(choice.choice(characters) for characters
                       in choice.choices(categories(), k=length))
    return ''.join(choice.choices(PIECES, k=length // 4 + 1))


def generate(count, seed=SEED, longest=sys.maxsize):
    choice = random.Random(seed)
    for _ in range(count):
        filename = text(choice) if choice.randrange(4) == 0 else '/file.py'
        yield text(choice)[:longest], filename[:longest]
