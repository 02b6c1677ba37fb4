"""Runs our tests with the interpreter that runs this, and counts them.

    build/3.11/python Misc/build/run_tests.py [--jobs N] [NAME...]

A NAME is a module of Lib/test/test_perf, or a class or a test in it as unittest
names it. These three are the same test:

    test_capi.MapFileTests.test_entries_come_one_after_the_other
    test_perf.test_capi.MapFileTests.test_entries_come_one_after_the_other
    test.test_perf.test_capi.MapFileTests.test_entries_come_one_after_the_other

test_perf alone means all modules of it. No name means these and the base's own tests of
native profiling, if it has any. Each module has its own process. If one crashes, the
others are still counted. --jobs says how many run at a time. The slowest ones begin first,
and the output of each one comes when it ends. For root, each module also has its own /tmp,
unless this machine forbids it or the interpreter is in /tmp. Without it, the base's own
tests wait until ours have ended. The last line of the output is "N passed, N failed,
N skipped". The exit status is 1 if a test failed or none ran.
"""

import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import test.test_perf
import time
import unittest

BUILD = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../build")
PACKAGE = "test.test_perf"
# CPython's own tests of the feature, since 3.12.
OF_THE_BASE = ["test_perf_profiler", "test_perfmaps"]
# The modules that take minutes. If one of these began last, it would run alone.
SLOW = ["test_faults", "test_names", "test_profile_map", "test_profile_jitdump", "test_gdb",
        "test_stacks"]
SECONDS_PER_FILE = int(os.environ.get("SECONDS_PER_FILE", 2400))


class CountingResult(unittest.TextTestResult):
    """Counts test methods; a failed subtest fails its method once."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ok = set()
        self.bad = set()
        self.unrun = {}

    def addSuccess(self, case):
        super().addSuccess(case)
        self.ok.add(case.id())

    def addExpectedFailure(self, case, err):
        super().addExpectedFailure(case, err)
        self.ok.add(case.id())

    def addFailure(self, case, err):
        super().addFailure(case, err)
        self.bad.add(case.id())

    def addError(self, case, err):
        super().addError(case, err)
        self.bad.add(case.id())

    def addSubTest(self, case, subtest, err):
        super().addSubTest(case, subtest, err)
        if err is not None:
            self.bad.add(case.id())

    def addUnexpectedSuccess(self, case):
        super().addUnexpectedSuccess(case)
        self.bad.add(case.id())

    def addSkip(self, case, reason):
        super().addSkip(case, reason)
        self.unrun[case.id()] = reason


def is_of_the_base(name):
    return name.partition(".")[0] in OF_THE_BASE


def run_file(name, report):
    """Run the tests of one name and write the counts to the file `report`."""
    package = "test" if is_of_the_base(name) else PACKAGE
    suite = unittest.defaultTestLoader.loadTestsFromName(f"{package}.{name}")
    runner = unittest.TextTestRunner(verbosity=2, resultclass=CountingResult)
    result = runner.run(suite)
    skipped = set(result.unrun) - result.bad
    counts = {
        "passed": len(result.ok - result.bad - skipped),
        "failed": len(result.bad),
        "skipped": [(case, result.unrun[case]) for case in sorted(skipped)],
    }
    with open(report, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(counts, file)


def with_own_tmp(command, path):
    """Return the command that runs `command` with `path` mounted as its /tmp.

    The base's tests remove all /tmp/perf-*.map and /tmp/jit*.dump that were not there when
    they began: those of other modules, and of any other program on this machine.
    """
    return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /tmp && exec "$@"', path, *command]


def can_have_own_tmp(directory):
    """Say whether /tmp can be mounted, and would not hide what the tests need."""
    if any(os.path.realpath(path).startswith("/tmp/") for path in (BUILD, sys.executable)):
        return False
    try:
        return subprocess.run(with_own_tmp(["true"], directory), stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


def run_file_apart(name, directory, own_tmp, output=None):
    """Run the tests of one name in a child process; return its counts.

    Output goes to the descriptor or file `output`, or to standard output.
    """
    report = os.path.join(directory, name + ".json")
    command = [sys.executable, "-u", "-E", os.path.abspath(__file__), "--report", report, name]
    if own_tmp:
        tmp = tempfile.mkdtemp(prefix=name, dir=directory)
        os.chmod(tmp, 0o1777)
        command = with_own_tmp(command, tmp)
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT, timeout=SECONDS_PER_FILE).returncode
    except subprocess.TimeoutExpired:
        status = f"none after {SECONDS_PER_FILE} seconds"
    try:
        with open(report, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        print(f"{name}: the test process died, exit status {status}")
        return {"passed": 0, "failed": 1, "skipped": []}


def run_files(names, jobs, directory):
    """Run the tests of all names, `jobs` at a time; yield the counts of each."""
    if can_have_own_tmp(directory):
        yield from run_in_pool(names, jobs, directory, True)
        return
    ours = [name for name in names if not is_of_the_base(name)]
    yield from run_in_pool(ours, jobs, directory, False)
    yield from run_in_pool([name for name in names if name not in ours], 1, directory, False)


def run_in_pool(names, jobs, directory, own_tmp):
    """Run the tests of all names, `jobs` at a time; yield the counts of each."""

    def run(name):
        begin = time.monotonic()
        if jobs == 1:
            print(f"== {name}", flush=True)
            counts = run_file_apart(name, directory, own_tmp)
        else:
            with open(os.path.join(directory, name + ".log"), "wb") as output:
                counts = run_file_apart(name, directory, own_tmp, output)
        return name, counts, time.monotonic() - begin

    def slowest_first(name):
        module = name.partition(".")[0]
        return SLOW.index(module) if module in SLOW else len(SLOW)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        if jobs > 1:
            names = sorted(names, key=slowest_first)
        runs = [pool.submit(run, name) for name in names]
        for done in concurrent.futures.as_completed(runs):
            name, counts, seconds = done.result()
            if jobs > 1:
                print(f"== {name}", flush=True)
                with open(os.path.join(directory, name + ".log"), "rb") as output:
                    shutil.copyfileobj(output, sys.stdout.buffer)
            print(f"== {name}: {counts['passed']} passed, {counts['failed']} failed, "
                  f"{len(counts['skipped'])} skipped in {seconds:.0f} s", flush=True)
            yield counts


def our_tests():
    [directory] = test.test_perf.__path__
    return sorted(name.removesuffix(".py") for name in os.listdir(directory)
                  if name.startswith("test_") and name.endswith(".py"))


def tests_of_the_base():
    directory = os.path.dirname(test.__file__)
    return [name for name in OF_THE_BASE
            if os.path.exists(os.path.join(directory, name + ".py"))]


def short_names(names):
    """Return the names without the package's, and its modules for the package."""
    for name in names:
        name = name.removesuffix(".py").removeprefix("test.")
        if name == "test_perf":
            yield from our_tests()
        else:
            yield name.removeprefix("test_perf.")


def main():
    parser = argparse.ArgumentParser(description="Runs our tests and counts them.")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="test N modules at a time (default: 1)")
    parser.add_argument("--report", help=argparse.SUPPRESS)     # run_file() in a child
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    if args.report:
        run_file(args.names[0], args.report)
        return 0

    names = list(short_names(args.names or ["test_perf", *tests_of_the_base()]))
    passed = failed = 0
    skipped = []
    with tempfile.TemporaryDirectory(prefix="tests-", dir=BUILD) as directory:
        for counts in run_files(names, min(args.jobs, len(names)), directory):
            passed += counts["passed"]
            failed += counts["failed"]
            skipped += counts["skipped"]
    for case, reason in skipped:
        print(f"skipped {case}: {reason}")
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
