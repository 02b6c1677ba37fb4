"""Run tests of the distribution's compiled packages with its interpreter or with ours.

    programs.py stock DIRECTORY     with the distribution's, keeps the outcomes
    programs.py ours DIRECTORY      with ours, off and in each mode; compares
    programs.py back DIRECTORY      with the distribution's again; compares

The interpreter that runs this file is the one that is tried.  The last line is "N passed,
N failed", one for each package and mode; the exit status is 1 if one failed.
"""

import glob
import json
import os
import subprocess
import sys

PACKAGES = "/usr/lib/python3/dist-packages"
DROPIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../dropin")
# NumPy 2 has its core in a different package.
CORE = "".join(glob.glob(PACKAGES + "/numpy/*core/tests/test_ufunc.py"))
CASES = {
    "greenlet": ("unittest", PACKAGES, "greenlet.tests"),
    "lxml": ("program", os.path.join(DROPIN, "program_lxml.py")),
    "numpy": ("pytest", CORE, "-m", "not slow"),
}
MODES = {
    "stock": {"": ()},
    "back": {"": ()},
    "ours": {"off": (), "perf": ("-X", "perf"), "perf_jit": ("-X", "perf_jit"),
             "perf=lines": ("-X", "perf=lines"), "perf=calls": ("-X", "perf=calls")},
}


def run(directory, name, mode, options):
    """Run one package's tests; return what they found and how, or None."""
    log = os.path.join(directory, f"{name}-{mode or 'stock'}")
    report = log + ".json"
    if os.path.exists(report):
        os.unlink(report)
    env = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1"}
    with open(log + ".out", "w+", encoding="utf-8") as out:
        status = subprocess.run(
            [sys.executable, *options, os.path.join(DROPIN, "run_case.py"), report,
             *CASES[name]], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env=env, cwd=directory).returncode
        if status or not os.path.exists(report):
            print(f"{name} {mode}: exit status {status}; log: {log}.out")
            return None
        out.seek(0)
        text = out.read()
    with open(report, encoding="utf-8") as file:
        found = json.load(file)
    if CASES[name][0] == "program":
        found["outcomes"] = {"output": text}
    return found


def wrong(found, expected, profiled):
    """Return why this is not what is expected, or None."""
    if not found["outcomes"]:
        return "ran no test"
    if found["active"] != profiled or bool(found["functions"]) != profiled:
        return f"profiling is {'off' if profiled else 'on'}"
    different = [key for key in sorted({**expected, **found["outcomes"]})
                 if expected.get(key) != found["outcomes"].get(key)]
    return f"differs from the distribution's: {', '.join(different)[:300]}" if different else None


def main(what, directory):
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, "outcomes.json")
    stock = {}
    if what != "stock":
        with open(path, encoding="utf-8") as file:
            stock = json.load(file)
    passed = failed = 0
    for name in CASES:
        for mode, options in MODES[what].items():
            found = run(directory, name, mode, options)
            reason = "no outcome"
            if found:
                reason = wrong(found, stock.get(name, found["outcomes"]), bool(options))
                if what == "stock":
                    stock[name] = found["outcomes"]
            if reason:
                failed += 1
                print(f"{name} {mode}: FAILED: {reason}")
            else:
                passed += 1
                print(f"{name} {mode}: as the distribution's, {len(found['outcomes'])} outcomes, "
                      f"{found['functions']} functions")
    if what == "stock":
        with open(path, "w", encoding="utf-8") as file:
            json.dump(stock, file)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
