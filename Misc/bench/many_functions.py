"""Measure the CPU time and the bytes of the file that a new function costs.

    python Misc/bench/many_functions.py INTERPRETER [PAIRS [LINES]]

A process makes 200,000 functions of LINES lines (1), with a file name of 30 characters,
and calls each once. The program starts such a process with profiling off and in each
mode, PAIRS times (7). It checks that the file has an entry for each function, prints
the medians of the differences to off, and deletes the files.
"""

import os
import re
import statistics
import subprocess
import sys

FUNCTIONS = 200_000

KINDS = {
    "-X perf": "/tmp/perf-%d.map",
    "-X perf=lines": "/tmp/perf-%d.map",
    "-X perf_jit": "/tmp/jit-%d.dump",
    "-X perf_jit=lines": "/tmp/jit-%d.dump",
}

SCRIPT = f"""
import os, sys, time
source = "def f():" + "\\n pass" * int(sys.argv[1])
code = compile(source, "/src/" + "x" * 22 + ".py", "exec").co_consts[0]
function, namespace = type(lambda: None), {{}}

def main():
    for i in range({FUNCTIONS}):
        name = "f%d" % i
        function(code.replace(co_name=name, co_qualname=name), namespace)()

start = time.process_time()
main()
print(os.getpid(), time.process_time() - start)
"""


def measure(interpreter, option, lines, path):
    """Return the CPU seconds and the size of the file `path`, and remove the file."""
    command = [interpreter, *option, "-c", SCRIPT, lines]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    pid, seconds = output.stdout.split()
    size = 0
    if path:
        path %= int(pid)
        with open(path, "rb") as file:
            content = file.read()
        os.unlink(path)
        size = len(content)
        found = len(set(re.findall(rb"py::(f\d+):", content)))
        if found < FUNCTIONS:
            sys.exit(f"{path}: {found} entries for {FUNCTIONS} functions")
    return float(seconds), size


def main(arguments):
    if not 1 <= len(arguments) <= 3:
        sys.exit(__doc__)
    interpreter = arguments[0]
    pairs = int(arguments[1]) if len(arguments) > 1 else 7
    lines = arguments[2] if len(arguments) > 2 else "1"
    costs = {kind: [] for kind in KINDS}
    sizes = {}
    for _ in range(pairs):
        off, _ = measure(interpreter, [], lines, None)
        for kind, path in KINDS.items():
            seconds, sizes[kind] = measure(interpreter, kind.split(), lines, path)
            costs[kind].append((seconds - off) / FUNCTIONS * 1e6)
    for kind, values in costs.items():
        print(f"{kind:<18} {statistics.median(values):.2f} microseconds "
              f"({min(values):.2f} to {max(values):.2f}), "
              f"{sizes[kind] / FUNCTIONS:.0f} bytes for each function")


if __name__ == "__main__":
    main(sys.argv[1:])
