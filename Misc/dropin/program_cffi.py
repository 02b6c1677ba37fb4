"""cffi: calls in both directions, from threads of C code too."""

import gc
import sys
import threading
import traceback

import cffi
import _cffi_backend

from dropin_cffi import ffi, lib


def calls_by_description():
    """Functions of the C library, described at run time."""
    own = cffi.FFI()
    own.cdef("""
        double pow(double, double);
        size_t strlen(const char *);
        void qsort(void *, size_t, size_t, int (*)(const void *, const void *));
        int snprintf(char *, size_t, const char *, ...);
    """)
    libc = own.dlopen(None)
    buffer = own.new("char[100]")
    libc.snprintf(buffer, 100, b"%d %s %.2f", own.cast("int", 5),
                  own.new("char[]", b"text"), own.cast("double", 2.5))
    print(libc.strlen(b"12345"), own.string(buffer))
    numbers = own.new("int[]", [(n * 7919) % 1000 for n in range(200)])

    @own.callback("int(const void *, const void *)")
    def compare(a, b):
        return own.cast("int *", a)[0] - own.cast("int *", b)[0]

    libc.qsort(numbers, len(numbers), own.sizeof("int"), compare)
    print(list(numbers) == sorted(numbers))


def calls_of_compiled_code():
    point = ffi.new("struct point *", {"x": 3, "y": 4})
    print(lib.length(point), lib.sum_of(5, ffi.new("int[]", [1, 2, 3, 4, 5])))
    print([lib.apply(lib.python_square, n) for n in range(10)])


@ffi.def_extern()
def python_square(n):
    return inner(n)


def inner(n):
    return n * n


@ffi.def_extern(error=-1, onerror=lambda kind, value, tb: seen.append(
    (kind.__name__, [entry.name for entry in traceback.extract_tb(tb)])))
def python_failing(n):
    if n == 0:
        raise ValueError("in a callback")
    return lib.apply(lib.python_failing, n - 1)


@ffi.def_extern()
def python_handle(handle, n):
    ffi.from_handle(handle).append(n)


seen = []


def failures_and_handles():
    print(lib.apply(lib.python_failing, 3), seen)
    collected = []
    handle = ffi.new_handle(collected)
    lib.count_up(handle, 10)
    print(collected)


def recursion():
    def down(n):
        return n if n == 0 else 1 + lib.apply(callback, n - 1)

    callback = ffi.callback("int(int)", down)
    print(down(100))


def threads_of_c():
    """Each is a thread that Python has not made."""
    collected = []
    handle = ffi.new_handle(collected)
    for _ in range(5):
        lib.count_in_threads(handle, 4, 25)
    print(len(collected), sorted(set(collected)))


def threads_of_python():
    results = []

    def work(n):
        results.append(sum(lib.apply(lib.python_square, i) for i in range(n)))

    threads = [threading.Thread(target=work, args=(n * 10,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sorted(results))


def generators():
    def numbers():
        for n in range(5):
            yield lib.apply(lib.python_square, n)

    callback = ffi.callback("int(int)", lambda n: sum(numbers()) + n)
    print([lib.apply(callback, n) for n in range(3)])


def memory():
    freed = []
    for n in range(5):
        pointer = ffi.gc(ffi.new("int *", n), lambda p: freed.append(p[0]))
        del pointer
    gc.collect()
    print(freed, bytes(ffi.buffer(ffi.new("int[3]", [1, 2, 3]))))


print(cffi.__version__, _cffi_backend.__version__, sys.version_info[:2])
for test in (calls_by_description, calls_of_compiled_code, failures_and_handles, recursion,
             threads_of_c, threads_of_python, generators, memory):
    test()
