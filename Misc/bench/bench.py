"""What profiling costs: interpreters with it switched off and on, compared.

    make bench
    build/3.11/python Misc/bench/bench.py [INTERPRETER]
        [--unpatched COMMAND] [--peer COMMAND] [--output DIRECTORY]

Each interpreter is compared with itself switched off: the patched one and, as the
peer, a newer CPython with a perf support of its own; and the patched one, off, with
the unpatched one, which must be built by the same compiler with the same flags.

Time. Each workload of workloads.py runs in fresh processes, in rounds: one process
for each way in every round, in an order that rotates, so that a machine that is
busy with other things slows all ways alike. A process runs its workload several
times and tells the CPU time of the fastest run; start-up is the CPU time of an empty
program. A ratio is taken within a round. The tables show the median of the ratios
of all rounds and, behind it, their quartiles.

Instructions. Counted by `valgrind --tool=callgrind`, once, with a fixed hash seed,
less those of a workload that does nothing. They do not depend on the load of the
machine, but know nothing of caches and of what the processor does at the same time.
The allocator is that of the C library, for how many instructions Python's own takes
depends on the addresses it gets: a loop without calls would vary by 1.5 percent.

"ours / peer's" compares the overheads of -X perf, which are the ratios less one.

What we want is at most a quarter of the peer's overhead where the time goes to
calls, and nowhere a larger one.

Leaves bench.txt, bench.json and, if there is gnuplot, bench.svg in DIRECTORY. The
files that the processes leave in /tmp are deleted, and must be there: without them
there was no profiling.
"""

import argparse
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import workloads

RUNS = 20               # of a workload in a process
STARTS = 6              # of an empty program in a round

START_UP = "start-up"
CALL_BOUND = ["recursive Fibonacci", "methods", "generators", "sorting with a key",
              "these three mixed", "keyword arguments", "exceptions",
              "recursion of 500"]

FILES = {"perf": "/tmp/perf-%d.map", "perf_jit": "/tmp/jit-%d.dump"}

# The columns of the tables: title, interpreter and its way, what that is divided by.
RATIOS = {
    "off / unpatched": (("patched", "off"), ("unpatched", "off")),
    "perf / off": (("patched", "perf"), ("patched", "off")),
    "perf_jit / off": (("patched", "perf_jit"), ("patched", "off")),
    "peer's perf / off": (("peer", "perf"), ("peer", "off")),
    "peer's perf_jit / off": (("peer", "perf_jit"), ("peer", "off")),
}
# The columns that are compared with each other: ours, the peer's.
COMPARED = {"perf": ("perf / off", "peer's perf / off"),
            "perf_jit": ("perf_jit / off", "peer's perf_jit / off")}

PLOT = """
set terminal svg size 1000,440 dynamic background "white" font "sans-serif,12" noenhanced
set output "{output}"
set title "CPU time with profiling switched on, times that with it switched off"
set style data histograms
set style histogram errorbars gap 1 lw 1
set style fill solid 0.9 noborder
set errorbars lc rgb "#333333"
set boxwidth 0.9
set grid ytics lc rgb "#dddddd"
set yrange [0.9:*]
set xtics rotate by -25 nomirror scale 0
set rmargin 8
set key outside bottom center horizontal
set datafile separator "\\t"
plot 1 notitle lc rgb "#888888" with lines, {columns}
"""
COLORS = {"perf / off": "#1f6f8b", "perf_jit / off": "#7fb3c8",
          "peer's perf / off": "#c8553d", "peer's perf_jit / off": "#e6a57e"}


def progress(text):
    """A line of progress, which the next one replaces on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


# --- One process -----------------------------------------------------------

def run(command, way, arguments, environment=None):
    """What a process prints to stdout and stderr, and the CPU seconds it takes."""
    option = ["-X", way] if way in FILES else []
    command = [*command, *option, *arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    path = FILES[way] % process.pid if way in FILES else None
    found = path is None or os.path.exists(path)
    if path is not None and found:
        os.unlink(path)
    if process.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit status {process.returncode}\n{errors}")
    if not found:
        sys.exit(f"{shlex.join(command)}: no {path}, so there was no profiling")
    return output, errors, usage.ru_utime + usage.ru_stime


def work(name, runs, library):
    return [workloads.__file__, name, str(runs), library]


def seconds(command, way, name, library):
    """CPU seconds that the workload takes."""
    if name == START_UP:
        return min(run(command, way, ["-E", "-c", ""])[2] for _ in range(STARTS))
    output, _, _ = run(command, way, ["-E", *work(name, RUNS, library)])
    return float(output)


def instructions(command, way, name, library):
    """The instructions that the workload takes, with those of starting."""
    arguments = ["-c", ""] if name == START_UP else work(name, 1, library)
    _, report, _ = run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        way, ["-S", "-B", *arguments],
        {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "1", "PYTHONMALLOC": "malloc"})
    return int(re.search(r"Collected : (\d+)", report)[1])


# --- Measuring -------------------------------------------------------------

def measure_times(commands, ways, names, rounds, library):
    """For each workload the times of each way, one in each round."""
    times = {name: {way: [] for way in ways} for name in names}
    begin = time.monotonic()
    for number in range(rounds):
        for shift, name in enumerate(names, number):
            done = (number * len(names) + shift - number) / (rounds * len(names))
            left = (time.monotonic() - begin) / done * (1 - done) if done else None
            progress(f"bench      round {number + 1} of {rounds}, {name}"
                     + (f", {left / 60:.0f} minutes left" if left else ""))
            first = shift % len(ways)
            for way in ways[first:] + ways[:first]:
                interpreter, option = way
                times[name][way].append(
                    seconds(commands[interpreter], option, name, library))
    return times


def count_instructions(commands, ways, names, library):
    """For each workload the instructions of each way, in a list of one."""
    names = ["nothing", *names]
    counts = {name: {} for name in names}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(instructions, commands[way[0]], way[1], name, library):
                (name, way) for name in names for way in ways}
        for number, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            name, way = jobs[job]
            counts[name][way] = [job.result()]
            progress(f"bench      instructions, {number} of {len(jobs)}, {name}")
    empty = counts.pop("nothing")
    for name, of_way in counts.items():
        if name != START_UP:
            for way in ways:
                of_way[way] = [of_way[way][0] - empty[way][0]]
    return counts


def ratios(values, ways):
    """For each workload and column: median, lower and upper quartile."""
    result = {}
    for name, of_way in values.items():
        result[name] = {}
        for title, (way, other) in RATIOS.items():
            if way not in ways or other not in ways:
                continue
            each = [a / b for a, b in zip(of_way[way], of_way[other])]
            low, middle, high = (statistics.quantiles(each, n=4, method="inclusive")
                                 if len(each) > 1 else each * 3)
            result[name][title] = {"median": middle, "quartiles": [low, high]}
    return result


def share(row, way="perf"):
    """Our overhead as a part of the peer's; None if that has none to speak of."""
    ours, peers = (row[column]["median"] - 1 for column in COMPARED[way])
    return ours / peers if peers > 0.005 else None


# --- Showing ---------------------------------------------------------------

def table(title, rows):
    """The lines of a table of ratios."""
    columns = list(next(iter(rows.values())))
    with_peer = set(COMPARED["perf"]) <= set(columns)
    spread = any(cell["quartiles"] != [cell["median"]] * 2
                 for row in rows.values() for cell in row.values())
    width = 21 if spread else max(map(len, columns))
    head = "".join(f"  {column:<{width}}" for column in columns)
    yield (f"{title:<20}{head}" + ("  ours / peer's" if with_peer else "")).rstrip()
    for name, row in rows.items():
        line = f"{name:<20}"
        for cell in row.values():
            text = f"{cell['median']:.3f}"
            if spread:
                text += " ({:.3f}-{:.3f})".format(*cell["quartiles"])
            line += f"  {text:<{width}}"
        if with_peer:
            part = share(row)
            line += "  " + ("-" if part is None else f"{part:.2f}")
        yield line.rstrip()
    yield ""


def verdict(title, rows):
    """Lines that say which workloads are not as we want them."""
    for way, (ours, peers) in COMPARED.items():
        if not all(ours in row and peers in row for row in rows.values()):
            continue
        large = [name for name, row in rows.items()
                 if name in CALL_BOUND and (share(row, way) or 0) > 0.25]
        larger = [name for name, row in rows.items()
                  if row[ours]["quartiles"][0]
                  > max(1, row[peers]["quartiles"][1]) + 0.002]
        yield (f"{title}, {way}: more than a quarter of the peer's overhead where "
               f"calls count: {', '.join(large) or 'none'}; larger than the peer's: "
               f"{', '.join(larger) or 'none'}")


def describe(commands):
    """Lines that say what was measured, and where."""
    yield f"Machine: {platform.machine()}, {os.cpu_count()} processors, " \
          f"load {os.getloadavg()[0]:.1f}, {platform.platform()}"
    for name, command in commands.items():
        version, _, _ = run(command, "off", ["-c", "import sys; print(sys.version)"])
        yield f"{name}: {version.replace(chr(10), ' ').strip()}"


def plot(rows, path):
    """Draw the ratios of time with gnuplot, but for those beyond its scale."""
    if not shutil.which("gnuplot"):
        print("bench: gnuplot: not found, so no plot", file=sys.stderr)
        return
    titles = [title for title in COLORS if title in next(iter(rows.values()))]
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as data:
        for name, row in rows.items():
            if name == "many functions":
                continue
            cells = [str(number) for title in titles for number in
                     (row[title]["median"], *row[title]["quartiles"])]
            print("\t".join([name, *cells]), file=data)
        data.flush()
        columns = ", ".join(
            f'"{data.name}" using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) '
            f'title "{title}" lc rgb "{COLORS[title]}"'
            for i, title in enumerate(titles))
        script = PLOT.format(output=path, data=data.name, columns=columns)
        subprocess.run(["gnuplot"], input=script, text=True, check=True)


# --- The command -----------------------------------------------------------

def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreter", nargs="?", default=sys.executable)
    parser.add_argument("--unpatched", metavar="COMMAND", type=shlex.split)
    parser.add_argument("--peer", metavar="COMMAND", type=shlex.split)
    parser.add_argument("--rounds", type=int, default=20,
                        help="of measuring times; 0 leaves them out")
    parser.add_argument("--no-instructions", action="store_true",
                        help="do not count instructions")
    parser.add_argument("--workloads", metavar="A,B", type=lambda s: s.split(","),
                        help="these only")
    parser.add_argument("--output", metavar="DIRECTORY", default="build/bench")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    commands = {"patched": [arguments.interpreter], "unpatched": arguments.unpatched,
                "peer": arguments.peer}
    commands = {name: command for name, command in commands.items() if command}
    ways = [(name, way) for name in commands
            for way in (["off"] if name == "unpatched" else ["off", *FILES])]
    known = [START_UP, *(name for name in workloads.WORKLOADS if name != "nothing")]
    names = arguments.workloads or known
    if unknown := set(names) - set(known):
        sys.exit(f"bench: no such workload: {', '.join(unknown)}; "
                 f"there are {', '.join(known)}")
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    os.environ.pop("JITDUMPDIR", None)

    lines = list(describe(commands))
    result = {"description": lines[:]}
    with tempfile.TemporaryDirectory() as library:
        source = importlib.util.find_spec("lib2to3").submodule_search_locations[0]
        shutil.copytree(source, pathlib.Path(library, "lib2to3"),
                        ignore=shutil.ignore_patterns("tests", "__pycache__"))
        for command in commands.values():   # which makes the grammar's cache
            run(command, "off", ["-E", *work("lib2to3", 1, library)])
        if arguments.rounds > 0:
            values = measure_times(commands, ways, names, arguments.rounds, library)
            result["time"] = ratios(values, ways)
            result["seconds"] = {
                name: {" ".join(way): each for way, each in of_way.items()}
                for name, of_way in values.items()}
        if not arguments.no_instructions:
            values = count_instructions(commands, ways, names, library)
            result["instructions"] = ratios(values, ways)
            result["counts"] = {
                name: {" ".join(way): each[0] for way, each in of_way.items()}
                for name, of_way in values.items()}
    progress("")

    for key in "time", "instructions":
        if key in result:
            lines += ["", *table(key.capitalize(), result[key]),
                      *verdict(key.capitalize(), result[key])]
    text = "\n".join(lines) + "\n"
    (output / "bench.txt").write_text(text)
    (output / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    if "time" in result:
        plot(result["time"], output / "bench.svg")
    print(text, end="")


if __name__ == "__main__":
    main()
