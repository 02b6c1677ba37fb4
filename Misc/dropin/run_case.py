"""Run one package's tests, or a program, and write a report of the outcome.

    run_case.py REPORT program FILE
    run_case.py REPORT unittest DIRECTORY PACKAGE...
    run_case.py REPORT pytest PATH [OPTION...]

The interpreter that is compared runs this file: the stock one or ours, in one
of the modes.  REPORT is a JSON file with

    outcomes    for each test: "passed", "failed" or "skipped"
    active      whether profiling was on at the end
    functions   how many Python functions the process wrote to its perf map or
                its jitdump
"""

import importlib
import json
import os
import runpy
import sys
import unittest


class Outcomes(unittest.TestResult):
    """Collects the outcome of each test; a failed subtest fails its test."""

    def __init__(self):
        super().__init__()
        self.outcomes = {}

    def record(self, test, outcome):
        name = test.id()
        if outcome != "passed" or name not in self.outcomes:
            self.outcomes[name] = outcome

    def addSuccess(self, test):
        self.record(test, "passed")

    def addExpectedFailure(self, test, err):
        self.record(test, "passed")

    def addUnexpectedSuccess(self, test):
        self.record(test, "failed")

    def addSkip(self, test, reason):
        self.record(test, "skipped")

    def addError(self, test, err):
        super().addError(test, err)
        self.show(test, self.errors)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.show(test, self.failures)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.record(test, "failed")

    def show(self, test, results):
        self.record(test, "failed")
        print(f"{test.id()}: {results[-1][1]}", file=sys.stderr)


def modules_of(directory, package):
    """Yield the names of the modules with tests of a package."""
    for path, _, files in os.walk(os.path.join(directory, *package.split("."))):
        inner = os.path.relpath(path, directory).replace(os.sep, ".")
        for file in sorted(files):
            if file.startswith(("test_", "Test")) and file.endswith(".py"):
                yield f"{inner}.{file.removesuffix('.py')}"


def run_unittest(directory, packages):
    """Run the tests of the packages below the directory; return the outcomes.

    The function test_suite() of a module, if there is one, returns its tests.
    """
    result = Outcomes()
    for package in packages:
        for name in modules_of(directory, package):
            try:
                module = importlib.import_module(name)
            except (ImportError, unittest.SkipTest) as error:
                print(f"{name}: {error!r}", file=sys.stderr)
                result.outcomes[name] = "skipped"
                continue
            if hasattr(module, "test_suite"):
                suite = module.test_suite()
            else:
                suite = unittest.defaultTestLoader.loadTestsFromModule(module)
            suite.run(result)
    return result.outcomes


class Plugin:
    """What pytest calls: it collects the outcome of each test."""

    def __init__(self):
        self.outcomes = {}

    def pytest_collectreport(self, report):
        if report.failed:
            self.outcomes[report.nodeid] = "failed"

    def pytest_runtest_logreport(self, report):
        # There is a report for a test's set-up, its call and its tear-down.
        known = self.outcomes.get(report.nodeid, "passed")
        if known == "passed":
            self.outcomes[report.nodeid] = report.outcome


def run_pytest(args):
    """Run pytest with these arguments; return the outcomes."""
    import pytest
    plugin = Plugin()
    pytest.main(["-q", "-p", "no:cacheprovider", *args], plugins=[plugin])
    return plugin.outcomes


def announced():
    """Return how many functions this process has written to its files."""
    count = 0
    for path in (f"/tmp/perf-{os.getpid()}.map", f"/tmp/jit-{os.getpid()}.dump"):
        if os.path.exists(path):
            with open(path, "rb") as file:
                count += file.read().count(b"py::")
    return count


def main(report, kind, *args):
    outcomes = {}
    if kind == "program":
        runpy.run_path(args[0], run_name="__main__")
    elif kind == "unittest":
        outcomes = run_unittest(args[0], args[1:])
    elif kind == "pytest":
        outcomes = run_pytest(args)
    else:
        raise SystemExit(f"unknown kind: {kind}")
    # The stock interpreter has no such function.
    is_active = getattr(sys, "is_stack_trampoline_active", lambda: False)
    with open(report, "w", encoding="utf-8") as file:
        json.dump({"outcomes": outcomes, "active": is_active(),
                   "functions": announced()}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
