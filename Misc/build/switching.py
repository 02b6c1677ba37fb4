"""Run a module while a thread switches profiling on and off all the time.

    python Misc/build/switching.py -m MODULE ARGUMENT ...
    python Misc/build/switching.py --idle -m MODULE ARGUMENT ...

`make regrtest PERF=switching` starts the processes of the base's test suite with it.
With --idle the thread switches nothing (PERF=switching-idle): tests that fail then do
not like a further thread. Words in front of -m are ignored: regrtest puts options of
the interpreter there.

The thread belongs to the process that this file is started in. Processes that the tests
start are not switched.
"""

import _thread
import itertools
import os
import runpy
import sys
import time
import traceback

PAUSE = 0.0003          # seconds
WAYS = [("perf", False), ("perf", True), ("perf_jit", False), ("perf_jit", True)]

switches = 0


def switch(is_idle, activate=sys.activate_stack_trampoline,
           deactivate=sys.deactivate_stack_trampoline, sleep=time.sleep):
    """Switch until the process ends. Tests may replace functions of modules."""
    global switches
    try:
        for backend, lines in itertools.cycle(WAYS):
            if not is_idle:
                activate(backend, lines=lines)
            sleep(PAUSE)
            if not is_idle:
                deactivate()
            sleep(PAUSE)
            switches += 1
    except BaseException:
        traceback.print_exc()
        os._exit(70)


def main(arguments):
    is_idle = arguments[0] == "--idle"
    while arguments and arguments.pop(0) != "-m":
        pass
    if not arguments:
        sys.exit(__doc__)
    sys.argv = arguments
    sys.path[0] = os.getcwd()       # as with -m
    sys.setswitchinterval(0.000125)
    # Not threading.Thread, because tests count those.
    _thread.start_new_thread(switch, (is_idle,))
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    finally:
        if switches == 0:
            print("switching.py: nothing was switched", file=sys.stderr, flush=True)
            os._exit(70)


if __name__ == "__main__":
    main(sys.argv[1:])
