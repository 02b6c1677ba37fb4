"""The programs that bench.py measures.

    python workloads.py NAME RUNS DIRECTORY

Runs the workload RUNS times and prints the CPU seconds of the fastest run. Every
interpreter that is compared runs this file. DIRECTORY contains the lib2to3 that
all of them use, because newer ones do not have it. A run takes about 10 milliseconds.

With RUNS = 0 it only prepares the workload. A function NAME_prepare makes what only
one workload needs, so that the others start faster.
"""

import gc
import sys
import time


# --- Calls -----------------------------------------------------------------

def fibonacci(n=25):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


class Point:
    def __init__(self, x):
        self.x = x

    def moved(self, by):
        return Point(self.x + by)

    def length(self):
        return self.x if self.x > 0 else -self.x

    def __getitem__(self, i):
        return self.x + i


def methods():
    p = Point(0)
    for i in range(35_000):
        p = p.moved(i)
        p.length() + p.length() + p[i]


def numbers(n):
    for i in range(n):
        yield i


def generators():
    for _ in range(35):
        sum(x + 1 for x in numbers(5_000))


def sorting_prepare():
    global VALUES
    VALUES = [i * 7919 % 20011 for i in range(20_000)]


def sorting():
    for _ in range(6):
        sorted(VALUES, key=lambda value: -value)


def mixed():
    methods()
    generators()
    sorting()


def area(width, height=1, *, scale=1):
    return width * height * scale


def keywords():
    for i in range(70_000):
        area(i, scale=2)
        area(width=i, height=3)


def fail(n):
    if n:
        fail(n - 1)
    raise ValueError


def exceptions():
    for _ in range(10_000):
        try:
            fail(5)
        except ValueError:
            pass


def down(n):
    return 0 if n == 0 else 1 + down(n - 1)


def recursion():
    for _ in range(180):
        down(500)


# --- The standard library --------------------------------------------------

class Item:
    def __init__(self, i):
        self.name = f"item {i}"
        self.tags = ["a", "b\n", "é"]
        self.size = [i, i / 7]


def json_prepare():
    global json, ITEMS
    import json
    ITEMS = [Item(i) for i in range(700)]


def json_round_trip():
    for _ in range(4):
        text = json.dumps(ITEMS, default=lambda item: item.__dict__)
        json.loads(text, object_hook=lambda pairs: pairs)


def expressions_prepare():
    global re, TEXT
    import re
    TEXT = " ".join(f"key{i} = 'value {i * i}'; # {i:x}" for i in range(1_000))


def expressions():
    for _ in range(4):
        re.purge()
        assignment = re.compile(r"(?P<key>\w+)\s*=\s*'(?P<value>[^']*)'")
        assignment.sub(lambda match: match["value"] + match["key"], TEXT)
        re.findall(r"\b[a-f0-9]{2,}\b|#\s*(\d+)", TEXT)
        re.split(r"[;#]\s*", TEXT)


converter = None


def lib2to3():
    for _ in range(4):
        converter.refactor_string(SOURCE, "source")


SOURCE = '''
import ConfigParser, urllib

class Reader(object):
    def __init__(self, path, **options):
        self.items = {}
        for key, value in options.iteritems():
            if not isinstance(key, unicode):
                raise TypeError, "key %r" % key
            self.items[key] = map(lambda x: x + 1, value)

    def next(self):
        try:
            print >>sys.stderr, `self.items`, 0777
        except (IOError, OSError), error:
            print "failed", error
'''


def lib2to3_prepare():
    global converter
    import warnings
    warnings.simplefilter("ignore")
    from lib2to3 import refactor
    converter = refactor.RefactoringTool(
        [f"lib2to3.fixes.fix_{name}" for name in
         ("dict", "except", "print", "raise", "map", "unicode", "imports")])


# --- Functions that are new ------------------------------------------------

created = 0


def many_functions():
    global created
    code = many_functions_template.__code__
    function, namespace = type(code_of), {}
    for number in range(created, created + 2_000):
        name = f"f{number}"
        function(code.replace(co_name=name, co_qualname=name), namespace)()
    created += 2_000


def same_functions():
    code = many_functions_template.__code__
    function, namespace = type(code_of), {}
    for _ in range(2_000):
        function(code.replace(co_name="f"), namespace)()


def many_functions_template():
    pass


def code_of():
    pass


# --- No calls --------------------------------------------------------------

def loop():
    total = 0
    for i in range(300_000):
        total += i & 3


WORKLOADS = {
    "recursive Fibonacci": fibonacci,
    "methods": methods,
    "generators": generators,
    "sorting with a key": sorting,
    "these three mixed": mixed,
    "keyword arguments": keywords,
    "exceptions": exceptions,
    "recursion of 500": recursion,
    "JSON": json_round_trip,
    "regular expressions": expressions,
    "lib2to3": lib2to3,
    "many functions": many_functions,
    "same functions": same_functions,
    "loop without calls": loop,
}


PREPARE = {
    "sorting with a key": sorting_prepare,
    "these three mixed": sorting_prepare,
    "JSON": json_prepare,
    "regular expressions": expressions_prepare,
    "lib2to3": lib2to3_prepare,
}


def main(name, runs, directory):
    if name in PREPARE:
        sys.path.insert(0, directory)
        PREPARE[name]()
    work = WORKLOADS[name]
    # A collection of all modules' objects would count for the run in which it happens.
    gc.collect()
    gc.freeze()
    times = []
    for _ in range(int(runs)):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    print(min(times, default=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
