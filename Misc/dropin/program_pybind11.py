"""pybind11: C++ calls overridden methods, exceptions cross, threads of C++ call Python."""

import traceback

import dropin_pybind11 as module


class Cat(module.Animal):
    def __init__(self):
        super().__init__("cat")

    def sound(self, times):
        return self.once() * times

    def once(self):
        return "meow"

    def legs(self):
        return 4


class Stone(module.Animal):
    pass


def names(error):
    return [entry.name for entry in traceback.extract_tb(error.__traceback__)]


def overrides():
    print(Cat().describe(3))
    try:
        Stone("stone").describe(2)
    except RuntimeError as error:
        print(str(error).split('"')[0], names(error))


def exceptions():
    print(module.fail(1))
    try:
        module.fail(0)
    except LookupError as error:
        print(type(error).__name__, error, names(error))
    print(module.catching(lambda: 1 / 0), module.catching(lambda: module.fail(0)),
          module.catching(lambda: None))


def recursion():
    def go(n):
        return 0 if n == 0 else module.down(go, n)

    def endless(n):
        return module.down(endless, n)

    print(go(100))
    try:
        endless(10)
    except RecursionError as error:
        print(type(error).__name__, len(names(error)) > 100)


def threads():
    def function(n):
        return sum(generator(n))

    def generator(n):
        for i in range(n):
            yield i

    print(module.call_in_threads(function, 5))


def values():
    print(module.iterate(n * n for n in range(10)))
    print(module.numbers([1, 2, 3])(2))
    try:
        module.numbers([])(0)
    except IndexError as error:
        print(type(error).__name__)
    print(module.evaluate("x * 2", 4))


for test in (overrides, exceptions, recursion, threads, values):
    for _ in range(3):
        test()
print("end")
