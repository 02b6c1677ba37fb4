"""Compare two runs of CPython's test suite, as --junit-xml writes them.

    python Misc/build/compare_junit.py A.xml B.xml

Lists the tests that pass in A but not in B: they failed, were skipped or did not run.
If a test ran twice, the last run counts. The exit status is 1 if there is such a test,
2 if a file has no results.
"""

import collections
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    """Return 'passed', 'failed' or 'skipped' for a testcase element."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    if case.find("skipped") is not None:
        return "skipped"
    return "passed" if case.get("result") == "completed" else "failed"


def read_outcomes(path):
    """Return {name: outcome} for the tests in the file."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        sys.exit(f"compare_junit: {path}: cannot be read: {error}")
    # unittest writes an element without a name if a subtest failed.
    outcomes = {case.get("name"): outcome(case)
                for case in root.iter("testcase") if case.get("name")}
    if not outcomes:
        print(f"compare_junit: {path}: has no test results", file=sys.stderr)
        sys.exit(2)
    return outcomes


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__)
    before, after = map(read_outcomes, arguments)
    for path, outcomes in zip(arguments, (before, after)):
        counts = collections.Counter(outcomes.values())
        print(f"{path}: {counts['passed']} passed, {counts['failed']} failed, "
              f"{counts['skipped']} skipped")
    lost = [(name, after.get(name, "not run")) for name in sorted(before)
            if before[name] == "passed" and after.get(name) != "passed"]
    for name, now in lost:
        print(f"  {now}: {name}")
    print(f"{len(lost)} tests pass in the first and not in the second")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
