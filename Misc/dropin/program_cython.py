"""Cython: its own compiler, which is compiled in parts, and modules made with it.

The compiler must write the same C file under each interpreter.  The module
dropin_cython was compiled for the stock interpreter.  dropin_cython_traced is the
same module, but profile and trace functions see its calls and lines.
"""

import asyncio
import gc
import hashlib
import os
import sys
import tempfile
import traceback

import Cython
import Cython.Compiler.Main
import Cython.Compiler.Scanning
import Cython.Runtime.refnanny

import dropin_cython
import dropin_cython_traced


def compiler():
    print(Cython.__version__, Cython.Compiler.Scanning.__file__.rpartition("/")[2])
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dropin_cython.pyx")
    with tempfile.TemporaryDirectory() as directory:
        output = os.path.join(directory, "output.c")
        Cython.Compiler.Main.compile(source, output_file=output)
        with open(output, "rb") as file:
            print(hashlib.sha256(file.read()).hexdigest())


def names(error):
    return [entry.name for entry in traceback.extract_tb(error.__traceback__)]


def extension_types(module):
    tree = module.tree(7)
    print(list(tree), tree == module.tree(7), tree[5], tree.total(lambda value: value * 2))
    tree.cycle = tree
    del tree
    gc.collect()


def generators(module):
    generator = module.generator(iter("abc"))
    print(next(generator), generator.send(1), generator.throw(KeyError("k")))
    try:
        next(generator)
    except StopIteration as stop:
        print(stop.value)

    def python_generator():
        got = yield "python"
        return got

    print(list(module.delegating(module.delegating(python_generator()))))
    print([list(module.generator(module.generator(range(n)))) for n in range(4)])
    unfinished = module.generator([1, 2])
    next(unfinished)
    unfinished.close()


def coroutines(module):
    async def mixed(n):
        collected = [i async for i in module.asynchronous_generator(n, asyncio.sleep)]
        return collected, await asyncio.gather(
            *[module.coroutine(i, asyncio.sleep) for i in range(n)])

    print(asyncio.run(mixed(6)))


def exceptions(module):
    def failing():
        return 1 / 0

    try:
        module.raising(5, failing)
    except ZeroDivisionError as error:
        print(names(error))
    error = module.catching(failing)
    print(repr(error), repr(error.__cause__), names(error.__cause__), module.catching.count)

    def endless():
        return module.catching(endless)

    try:
        endless()
    except RecursionError as error:
        print(len(names(error)) > 300)


def functions(module):
    add = module.closure(1)
    print(add(), add(5), add(n=2, times=3))
    print(module.arguments(1, c=3), module.arguments(1, 2, 3, c=4, e=5))
    print(module.add(1, 2), module.add(1.5, 2.5), module.add("a", "b"))
    try:
        module.arguments()
    except TypeError as error:
        print(error)


def callbacks(module):
    print(module.sort([(n * 37) % 100 for n in range(100)], lambda a, b: a - b)
          == list(range(100)))
    seen = []

    def collect(n):
        seen.append(sum(i for i in range(n)))
        if n == 9:
            raise LookupError("the last")

    module.in_threads(collect)
    print(sorted(seen))


def tracing(module):
    """A profile function, then a trace function, sees what the module calls."""
    for install in (sys.setprofile, sys.settrace):
        seen = []

        def see(frame, event, argument):
            name = frame.f_code.co_name
            if frame.f_code.co_filename.endswith(("dropin_cython.pyx", "program_cython.py")):
                seen.append((event, name))
            return see

        install(see)
        list(module.tree(3))
        module.catching(lambda: 1 / 0)
        list(module.generator([1]))
        install(None)
        print(install.__name__, seen)


compiler()
for module in (dropin_cython, dropin_cython_traced):
    for test in (extension_types, generators, coroutines, exceptions, functions, callbacks,
                 tracing):
        test(module)
print("end")
