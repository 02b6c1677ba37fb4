"""The application that uwsgi and mod_wsgi run, and what it answers.

The body of each answer must be the stock interpreter's.  The header X-Process
reports what may differ: the process, whether profiling is on in it, and how many
Python functions it has written to its perf map or its jitdump.
"""

import ctypes
import decimal
import hashlib
import json
import os
import sqlite3
import sys
import threading
import traceback
import zlib


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def numbers(n):
    for i in range(n):
        yield i * i


def echo(environ):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return [hashlib.sha256(body).hexdigest().encode()]


def stream(environ):
    """An iterator with close(), which the server calls."""
    class Stream:
        def __init__(self):
            self.left = numbers(50)
            opened.append(True)

        def __iter__(self):
            return self

        def __next__(self):
            return b"%d\n" % next(self.left)

        def close(self):
            closed.append(True)

    return Stream()


opened = []
closed = []


def were_closed(environ):
    # The server may close the last one later.
    return [b"True" if len(closed) >= len(opened) - 1 else b"False"]


def failing(environ):
    def deep(n):
        if n == 0:
            raise KeyError("at the bottom")
        deep(n - 1)

    try:
        deep(20)
    except KeyError as error:
        return [repr([entry.name for entry in traceback.extract_tb(
            error.__traceback__)][1:]).encode()]


def threads(environ):
    results = []
    workers = [threading.Thread(target=lambda n=n: results.append(fibonacci(n)))
               for n in range(10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [repr(sorted(results)).encode()]


def libraries(environ):
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int),
                               ctypes.POINTER(ctypes.c_int))(lambda a, b: a[0] - b[0])
    values = (ctypes.c_int * 50)(*[(n * 31) % 50 for n in range(50)])
    ctypes.CDLL(None).qsort(values, 50, ctypes.sizeof(ctypes.c_int), compare)
    database = sqlite3.connect(":memory:")
    database.create_function("square", 1, lambda x: x * x)
    return [json.dumps([
        list(values), str(decimal.Decimal(1) / 7), zlib.crc32(b"text"),
        database.execute("select square(7)").fetchone(),
        sorted([3, 1, 2], key=lambda x: -x)]).encode()]


def main(environ):
    return [repr([fibonacci(n) for n in range(15)]).encode(), b"\n",
            repr(sum(numbers(100))).encode(), b"\n",
            sys.version.split()[0].encode()]


ROUTES = {
    "/": main, "/echo": echo, "/stream": stream, "/closed": were_closed,
    "/failing": failing, "/threads": threads, "/libraries": libraries,
}


def announced():
    count = 0
    for path in (f"/tmp/perf-{os.getpid()}.map", f"/tmp/jit-{os.getpid()}.dump"):
        if os.path.exists(path):
            with open(path, "rb") as file:
                count += file.read().count(b"py::")
    return count


def application(environ, start_response):
    answer = ROUTES.get(environ["PATH_INFO"])
    if answer is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such page"]
    body = answer(environ)
    is_active = getattr(sys, "is_stack_trampoline_active", lambda: False)
    start_response("200 OK", [
        ("Content-Type", "text/plain"),
        ("X-Process", json.dumps([os.getpid(), is_active(), announced()]))])
    return body
