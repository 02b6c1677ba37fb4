# cython: language_level=3, binding=True
"""An extension module made with Cython, for program_cython.py."""

from libc.stdlib cimport qsort

cdef extern from "pthread.h":
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t *, const void *, void *(*)(void *), void *) nogil
    int pthread_join(pthread_t, void **) nogil


cdef class Node:
    """An extension type that the collector of cycles sees."""
    cdef public object left, right, value
    cdef dict __dict__

    def __init__(self, value, left=None, right=None):
        self.value, self.left, self.right = value, left, right

    def __iter__(self):
        if self.left is not None:
            yield from self.left
        yield self.value
        if self.right is not None:
            yield from self.right

    def __eq__(self, other):
        return isinstance(other, Node) and list(self) == list(other)

    def __getitem__(self, index):
        return list(self)[index]

    cpdef total(self, function):
        result = function(self.value)
        for child in (self.left, self.right):
            if child is not None:
                result += child.total(function)
        return result


def tree(n):
    return Node(n) if n < 2 else Node(n, tree(n - 1), tree(n - 2))


def generator(values):
    received = []
    for value in values:
        try:
            received.append((yield value))
        except KeyError as error:
            received.append(repr(error))
        finally:
            received.append("finally")
    return received


def delegating(inner):
    result = yield from inner
    yield ("result", result)


async def coroutine(n, sleep):
    if n == 0:
        return 0
    await sleep(0)
    return 1 + await coroutine(n - 1, sleep)


async def asynchronous_generator(n, sleep):
    for i in range(n):
        await sleep(0)
        yield i


def closure(start):
    def add(n=1, *, times=1):
        nonlocal start
        start += n * times
        return start
    return add


def raising(int n, function):
    if n == 0:
        function()
    raising(n - 1, function)


def catching(function):
    try:
        return function()
    except ZeroDivisionError as error:
        try:
            raise ValueError("from Cython") from error
        except ValueError as second:
            return second
    finally:
        catching.count += 1

catching.count = 0


def arguments(a, b=2, *args, c, d=4, **rest):
    return a, b, args, c, d, sorted(rest.items())


ctypedef fused number:
    int
    double
    object


def add(number a, number b):
    return a + b


cdef object comparing = None

cdef int compare(const void *a, const void *b) with gil:
    return comparing((<const int *>a)[0], (<const int *>b)[0])


def sort(list values, function):
    global comparing
    cdef int numbers[100]
    cdef int n = len(values)
    for i in range(n):
        numbers[i] = values[i]
    comparing = function
    with nogil:
        qsort(numbers, n, sizeof(int), compare)
    return [numbers[i] for i in range(n)]


cdef void *run(void *argument) with gil:
    function = <object>argument
    try:
        for i in range(10):
            function(i)
    except Exception as error:
        print("thread:", error)
    return NULL


def in_threads(function):
    """Call it from threads that Python has not made."""
    cdef pthread_t threads[4]
    cdef void *argument = <void *>function
    cdef int i
    with nogil:
        for i in range(4):
            pthread_create(&threads[i], NULL, run, argument)
        for i in range(4):
            pthread_join(threads[i], NULL)
