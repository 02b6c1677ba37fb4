"""Counts the instructions of small workloads, to compare two interpreters.

    python Misc/bench/instructions.py UNPATCHED PATCHED [-X perf ...]

Both interpreters must be built by the same compiler with the same flags.
Options behind the second one are passed to it. Counts come from
`valgrind --tool=callgrind`, so the machine may be busy. The hash seed is fixed;
the counts of one interpreter still differ by a few hundred from run to run. The
files that profiling leaves in /tmp are deleted.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile

WORKLOADS = {
    "start": "",
    "calls": """
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
fib(23)
""",
    "methods": """
class Point:
    def __init__(self, x): self.x = x
    def moved(self, by=1): return Point(self.x + by)
    def __getitem__(self, i): return self.x + i
p = Point(0)
for i in range(30_000): p = p.moved(); p = p.moved(by=2); p[i]
""",
    "keyword arguments": """
def area(width, height=1, *, scale=1): return width * height * scale
for i in range(30_000): area(i, scale=2); area(width=i, height=3)
""",
    "recursion of 500": """
def down(n): return 0 if n == 0 else 1 + down(n - 1)
for _ in range(100): down(500)
""",
    "generators": """
def numbers(n):
    for i in range(n): yield i
sum(x for _ in range(300) for x in numbers(200))
""",
    "sorting with a key": """
values = [i * 7919 % 20011 for i in range(20_000)]
for _ in range(3): sorted(values, key=lambda value: -value)
""",
    "exceptions": """
def fail(n):
    if n: fail(n - 1)
    raise ValueError
for _ in range(3_000):
    try: fail(5)
    except ValueError: pass
""",
    "loop without calls": """
total = 0
for i in range(600_000): total += i & 3
""",
}


def instructions(command, code):
    """The instructions that `command -c code` takes."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(code)
        script.flush()
        environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "1"}
        with subprocess.Popen(
                ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                 *command, "-S", "-B", script.name],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True) as process:
            report = process.stderr.read()
    for path in f"/tmp/perf-{process.pid}.map", f"/tmp/jit-{process.pid}.dump":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    collected = re.search(r"Collected : (\d+)", report)
    if process.returncode != 0 or collected is None:
        sys.exit(report)
    return int(collected[1])


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    unpatched, patched = arguments[:1], arguments[1:]
    start = instructions(unpatched, ""), instructions(patched, "")
    print(f"{'workload':<20} {'unpatched':>13} {'patched':>13} {'ratio':>8}")
    for name, code in WORKLOADS.items():
        counts = [instructions(unpatched, code), instructions(patched, code)]
        if code:        # what starting takes has a line of its own
            counts = [count - base for count, base in zip(counts, start)]
        print(f"{name:<20} {counts[0]:>13,} {counts[1]:>13,} "
              f"{counts[1] / counts[0]:>8.4f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
