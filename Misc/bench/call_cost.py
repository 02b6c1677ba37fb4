"""What a Python-to-Python call costs with profiling on.

    build/3.11/python Misc/bench/call_cost.py [OPTION ...]

Times recursive fib(27), about 832,000 calls, in fresh processes: one without
and one with OPTION (default: -X perf), in turn, so that a machine that is busy
with other things slows both alike. Prints the fastest run of each and the
median of the ratios of the pairs.
"""

import statistics
import subprocess
import sys

PAIRS = 15
SCRIPT = """
import time

def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

fib(15)
begin = time.process_time()
fib(27)
print(time.process_time() - begin)
"""


def seconds(options):
    """CPU seconds of one run."""
    command = [sys.executable, "-E", *options, "-c", SCRIPT]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main(options):
    pairs = [(seconds([]), seconds(options)) for _ in range(PAIRS)]
    off, on = map(min, zip(*pairs))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"fib(27): off {off:.4f} s, {' '.join(options)} {on:.4f} s, "
          f"ratio {ratio:.2f} (median of {PAIRS} pairs)")


if __name__ == "__main__":
    main(sys.argv[1:] or ["-X", "perf"])
