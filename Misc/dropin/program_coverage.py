"""coverage: its tracer in C sees lines, branches, generators, exceptions and threads."""

import os
import sys
import tempfile

import coverage
import coverage.tracer

SOURCE = '''\
import asyncio
import threading

def branches(n):
    if n % 2:
        return "odd"
    elif n > 5:
        return "big"
    while n:
        n -= 1
    return "small"

def generator(n):
    for i in range(n):
        try:
            yield i
        finally:
            branches(i)

def raising(n):
    if n == 0:
        raise ValueError
    try:
        raising(n - 1)
    except KeyError:
        never = 1
    finally:
        branches(n)

async def coroutine(n):
    if n == 0:
        return 0
    await asyncio.sleep(0)
    return 1 + await coroutine(n - 1)

class Class:
    def __init__(self):
        self.values = [branches(i) for i in range(10)]

    def __getitem__(self, index):
        return self.values[index]

    def __lt__(self, other):
        return True

def test_work():
    list(generator(8))
    next(generator(3))
    try:
        raising(5)
    except ValueError:
        pass
    Class()[3]
    sorted([Class(), Class()])
    {k: v for k, v in zip("abc", generator(3))}

def unused():
    return "unused"

threads = [threading.Thread(target=test_work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
test_work()
print(asyncio.run(coroutine(6)))
'''


def run(threads, contexts=False, **settings):
    measured = coverage.Coverage(data_file=None, config_file=False, **settings)
    if contexts:
        # The tracer asks a function in Python, at each call, whether a context begins.
        # All threads share the context, so what they get depends on the scheduler.
        measured.set_option("run:dynamic_context", "test_function")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "measured.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(SOURCE.replace("THREADS", str(threads)))
        sys.path.insert(0, directory)
        measured.start()
        import measured as module
        measured.stop()
        del sys.modules["measured"], module
        sys.path.remove(directory)
        data = measured.get_data()
        print(sorted(settings.items()))
        print(sorted(data.lines(path)))
        print(sorted(data.arcs(path) or ()))
        print(sorted((line, sorted(contexts)) for line, contexts
                     in data.contexts_by_lineno(path).items()))
        print(measured.analysis2(path)[1:4])
        (collector,) = {type(tracer) for tracer in measured._collector.tracers}
        print(collector is coverage.tracer.CTracer)


print(coverage.__version__)
run(3, branch=False)
run(3, branch=True)
run(3, branch=True, concurrency=["thread", "greenlet"])
run(0, contexts=True, branch=True)
