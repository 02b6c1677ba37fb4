"""Compares two runs of CPython's test suite, as written by --junit-xml.

    python Misc/build/compare_junit.py A.xml B.xml

Lists the tests that pass in A and do not pass in B: failed, skipped, or not
there at all. Of a test that was run again the last run counts. The exit status
is 1 if there is such a test, 2 if a file holds no results.
"""

import collections
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    """'passed', 'failed' or 'skipped' for one testcase element."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    if case.find("skipped") is not None:
        return "skipped"
    return "passed" if case.get("result") == "completed" else "failed"


def read_outcomes(path):
    """The outcome of each test in the file, by its name."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        sys.exit(f"compare_junit: {path}: cannot be read: {error}")
    # A method whose subtests failed leaves an element without a name.
    outcomes = {case.get("name"): outcome(case)
                for case in root.iter("testcase") if case.get("name")}
    if not outcomes:
        print(f"compare_junit: {path}: holds no test results", file=sys.stderr)
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
