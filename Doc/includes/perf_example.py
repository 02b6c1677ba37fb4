"""Three functions for a profiler to tell apart."""


def foo(n):
    return bar(n)


def bar(n):
    return baz(n)


def baz(n):
    result = 0
    for i in range(n):
        result += i
    return result


if __name__ == "__main__":
    foo(20_000_000)
