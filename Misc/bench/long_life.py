"""Measure the memory and the descriptors of a process that is profiled for long.

    build/3.11/python Misc/bench/long_life.py [--calls 10000000] [--mode perf ...]

A process has a thousand functions and calls them. For each hundred calls it makes a new
function, which replaces the oldest one. After each million calls it prints its resident
memory, the number of its descriptors, of its mappings and of the mappings with
trampolines, and the size of the file that the profiling mode writes.
"""

import argparse
import os
import subprocess
import sys

# Prints its state after each step of `step` calls.
PROGRAM = """
import os, sys, types

def state():
    with open('/proc/self/statm') as file:
        resident = int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')
    with open('/proc/self/maps') as file:
        lines = list(file)
    trampolines = sum(line.split()[1] == 'r-xp' and line.split()[4] == '0'
                      for line in lines)
    path = {path!r}.format(os.getpid())
    size = os.path.getsize(path) if os.path.exists(path) else 0
    return (resident, len(os.listdir('/proc/self/fd')), len(lines),
            trampolines, size)

def template(n):
    return n + 1

def new(number):
    return types.FunctionType(
        template.__code__.replace(co_qualname=f'f{{number}}'), {{}})

def main(calls, step):
    alive = [new(i) for i in range(1000)]
    made, done = 1000, 0
    while done < calls:
        for _ in range(step // 100):
            alive[made % 1000] = new(made)
            made += 1
            for i in range(100):
                alive[(made - i) % 1000](i)
        done += step
        print(done, made, *state(), flush=True)

main({calls}, {step})
os._exit(0)
"""

PATHS = {"off": "", "perf": "/tmp/perf-{}.map", "perf_jit": "/tmp/jit-{}.dump"}

HEADER = ("calls", "functions", "resident MB", "descriptors", "mappings", "executable", "file MB")


def measure(python, mode, calls, step):
    """Run the program in a mode and print its table."""
    source = PROGRAM.format(path=PATHS[mode], calls=calls, step=step)
    switch = [] if mode == "off" else ["-X", mode]
    print(mode)
    print(" ".join(f"{word:>12}" for word in HEADER))
    with subprocess.Popen([python, *switch, "-c", source], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            done, made, resident, descriptors, mappings, executable, size = map(int, line.split())
            print(f"{done:12,} {made:12,} {resident / 1e6:12.1f} {descriptors:12} {mappings:12} "
                  f"{executable:12} {size / 1e6:12.1f}", flush=True)
    path = PATHS[mode].format(child.pid)
    if path and os.path.exists(path):
        os.unlink(path)
    if child.returncode:
        sys.exit(f"{mode}: exit status {child.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--step", type=int, default=1_000_000)
    parser.add_argument("--mode", action="append", choices=PATHS)
    arguments = parser.parse_args()
    for mode in arguments.mode or PATHS:
        measure(arguments.python, mode, arguments.calls, arguments.step)


if __name__ == "__main__":
    main()
