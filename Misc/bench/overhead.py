"""What profiling costs a running program: off, -X perf and -X perf_jit compared.

    build/3.11/python Misc/bench/overhead.py [INTERPRETER] [--unpatched OTHER]

Runs each workload in fresh processes, in rounds: one process for each way in
every round, in an order that rotates, so that a machine that is busy with other
things slows all ways alike. A process runs its workload several times and prints
the CPU time of the fastest run. Start-up is the time by the clock that an empty
program takes, the fastest of several.

A ratio is taken within a round. The table shows the median of the ratios of all
rounds and, behind it, their quartiles. "off" is the median time with profiling
off, in milliseconds. With --unpatched there is one more way, the OTHER
interpreter, and one more column, what "off" is to it. Both must be built by the
same compiler with the same flags.

What we want: fib 1.06 and mixed 1.03 with -X perf, loop 1.005, start-up 1.05,
and -X perf_jit within 1.02 of -X perf.

The files that the processes leave in /tmp are deleted, and must be there: without
them there was no profiling.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

ROUNDS = 25
RUNS = 12               # of a workload in a process
STARTS = 8              # of an empty program in a round

# Each takes about 10 milliseconds.
PROGRAM = """
import sys, time

def fib(n=25):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

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

values = [i * 7919 % 20011 for i in range(20_000)]

def sorting():
    for _ in range(6):
        sorted(values, key=lambda value: -value)

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

def down(n):
    return 0 if n == 0 else 1 + down(n - 1)

def deep():
    for _ in range(180):
        down(500)

def loop():
    total = 0
    for i in range(300_000):
        total += i & 3
"""

MEASURE = f"""
work = globals()[sys.argv[1]]

def run():
    begin = time.process_time()
    work()
    return time.process_time() - begin

print(min([run() for _ in range({RUNS})]))
"""

WORKLOADS = {
    "recursive Fibonacci": "fib",
    "methods": "methods",
    "generators": "generators",
    "sorting with a key": "sorting",
    "these three mixed": "mixed",
    "keyword arguments": "keywords",
    "recursion of 500": "deep",
    "loop without calls": "loop",
    "start-up": None,
}

FILES = {"-X perf": "/tmp/perf-%d.map", "-X perf_jit": "/tmp/jit-%d.dump"}


def remove(path):
    """Delete a file. Returns whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def run(interpreter, way, arguments):
    """What the process prints, and the seconds that it takes."""
    command = [interpreter, "-E", *way.split(), *arguments]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        output = process.stdout.read()
    seconds = time.perf_counter() - begin
    found = way not in FILES or remove(FILES[way] % process.pid)
    if process.returncode != 0:
        sys.exit(f"{interpreter} {way}: exit status {process.returncode}")
    if not found:
        sys.exit(f"{interpreter} {way}: no file in /tmp, so no profiling")
    return output, seconds


def measure(interpreter, way, workload):
    """Seconds that the workload takes."""
    if workload is None:
        return min(run(interpreter, way, ["-c", ""])[1] for _ in range(STARTS))
    output, _ = run(interpreter, way, ["-c", PROGRAM + MEASURE, workload])
    return float(output)


def ratio(rounds, way, other):
    """The column of the table: median and quartiles."""
    values = [times[way] / times[other] for times in rounds]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"  {middle:5.3f} ({low:5.3f}-{high:5.3f})"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreter", nargs="?", default=sys.executable)
    parser.add_argument("--unpatched", metavar="OTHER")
    parser.add_argument("--rounds", type=int, default=ROUNDS,
                        help="at least 2, default %(default)s")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    os.environ.pop("JITDUMPDIR", None)
    ways = ["off", *FILES]
    columns = [("-X perf / off", "-X perf", "off"),
               ("-X perf_jit / off", "-X perf_jit", "off"),
               ("perf_jit / perf", "-X perf_jit", "-X perf")]
    if arguments.unpatched:
        ways.append("unpatched")
        columns.append(("off / unpatched", "off", "unpatched"))
    interpreters = {"unpatched": arguments.unpatched}
    options = {way: way if way in FILES else "" for way in ways}
    rounds = {name: [] for name in WORKLOADS}
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", end="\r",
              file=sys.stderr, flush=True)
        for shift, (name, workload) in enumerate(WORKLOADS.items(), number):
            first = shift % len(ways)
            rounds[name].append({
                way: measure(interpreters.get(way, arguments.interpreter),
                             options[way], workload)
                for way in ways[first:] + ways[:first]})
    print(file=sys.stderr)
    print(f"{'workload':<20} {'off, ms':>7}"
          + "".join(f"  {title:<19}" for title, _, _ in columns).rstrip())
    for name, values in rounds.items():
        off = statistics.median(times["off"] for times in values)
        print(f"{name:<20} {off * 1000:>7.2f}"
              + "".join(ratio(values, *pair) for _, *pair in columns))


if __name__ == "__main__":
    main()
