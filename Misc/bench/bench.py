"""Measure what profiling costs: compare interpreters with profiling off and on.

    make bench
    make instructions ARGS="--workloads fibonacci,methods --modes map,jit"
    build/3.11/python Misc/bench/bench.py [INTERPRETER]
        [--unpatched COMMAND] [--peer COMMAND] [--output DIRECTORY]

The peer is a newer CPython with its own perf support. Each interpreter is compared
with itself while profiling is off. The patched one, off, is also compared with the
unpatched one, which must be built by the same compiler with the same flags.

Modes: off, map (-X perf), lines (-X perf=lines), calls (-X perf=calls) and jit
(-X perf_jit). bench.py leaves out the modes that an interpreter does not accept.

Time. Each workload of workloads.py runs in new processes, in rounds. Each round has
one process for each mode of each interpreter, in an order that rotates, so that other
load on the machine slows all of them alike. A process runs its workload several times
and prints the CPU time of the fastest run. Start-up is the CPU time of an empty
program. A ratio compares two processes of the same round. The tables show the median
of the ratios of all rounds. They show the quartiles too where the noise (the distance
between the quartiles) is larger than the effect (the distance of the median from 1).

Instructions. `valgrind --tool=callgrind` counts them once, with a fixed hash seed. The
instructions of a process that only prepares the workload are subtracted. The counts do
not depend on the load of the machine, but they say nothing about caches and about what
the processor does in parallel. The C library allocates the memory, because the number of
instructions in Python's own allocator depends on the addresses that it gets. A loop
without calls would vary by 1.5 percent.

"ours / peer's" divides the overheads of map mode. An overhead is a ratio minus 1.

The goal: at most a quarter of the peer's overhead for the workloads where calls take
most of the time, and a larger overhead for no workload.

Writes bench.txt, bench.json and, if gnuplot is installed, bench.svg to DIRECTORY. Deletes
the files that the profiled processes leave in /tmp. A missing file is an error, because
then profiling was not on.
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

# For each mode: the arguments that select it and the file that it writes.
MODES = {
    "off": ([], None),
    "map": (["-X", "perf"], "/tmp/perf-%d.map"),
    "lines": (["-X", "perf=lines"], "/tmp/perf-%d.map"),
    "calls": (["-X", "perf=calls"], "/tmp/perf-%d.map"),
    "jit": (["-X", "perf_jit"], "/tmp/jit-%d.dump"),
}
# The modes of each interpreter. One interpreter in one mode is called a way below.
OF_INTERPRETER = {
    "patched": list(MODES),
    "unpatched": ["off"],
    "peer": ["off", "map", "jit"],
}

# The columns of the tables: the title, and the two ways that are divided.
RATIOS = {
    "off / unpatched": (("patched", "off"), ("unpatched", "off")),
    "map / off": (("patched", "map"), ("patched", "off")),
    "lines / off": (("patched", "lines"), ("patched", "off")),
    "calls / off": (("patched", "calls"), ("patched", "off")),
    "jit / off": (("patched", "jit"), ("patched", "off")),
    "peer's map / off": (("peer", "map"), ("peer", "off")),
    "peer's jit / off": (("peer", "jit"), ("peer", "off")),
}
# For each mode that the peer has: our column and the peer's.
COMPARED = {"map": ("map / off", "peer's map / off"),
            "jit": ("jit / off", "peer's jit / off")}

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
set yrange [0.8:*]
set xtics rotate by -25 nomirror scale 0
set rmargin 8
set key outside bottom center horizontal
set datafile separator "\\t"
plot 1 notitle lc rgb "#888888" with lines, {columns}
"""
COLORS = {"map / off": "#1f6f8b", "lines / off": "#4a9d7c", "calls / off": "#8a7fb5",
          "jit / off": "#7fb3c8",
          "peer's map / off": "#c8553d", "peer's jit / off": "#e6a57e"}


def progress(text):
    """Print a line of progress. On a terminal the next line replaces it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


# --- One process -----------------------------------------------------------

def run(command, mode, arguments, environment=None):
    """Run a process; return its stdout, its stderr and its CPU seconds."""
    option, file_name = MODES[mode]
    command = [*command, *option, *arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    path = file_name % process.pid if file_name else None
    found = path is None or os.path.exists(path)
    if path is not None and found:
        os.unlink(path)
    if process.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit status {process.returncode}\n{errors}")
    if not found:
        sys.exit(f"{shlex.join(command)}: no {path}, so profiling was not on")
    return output, errors, usage.ru_utime + usage.ru_stime


def accepts(command, mode):
    """Does the interpreter know the mode? Runs an empty program to find out."""
    try:
        run(command, mode, ["-E", "-c", ""])
    except SystemExit:
        return False
    return True


def work(name, runs, library):
    """Arguments that make an interpreter run the workload."""
    return [workloads.__file__, name, str(runs), library]


def seconds(command, mode, name, library):
    """CPU seconds that the workload takes."""
    if name == START_UP:
        return min(run(command, mode, ["-E", "-c", ""])[2] for _ in range(STARTS))
    output, _, _ = run(command, mode, ["-E", *work(name, RUNS, library)])
    return float(output)


def instructions(command, mode, arguments):
    """Instructions of a process, from its start to its end."""
    _, report, _ = run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        mode, ["-S", "-B", *arguments],
        {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "1", "PYTHONMALLOC": "malloc"})
    return int(re.search(r"Collected : (\d+)", report)[1])


# --- Measuring -------------------------------------------------------------

def measure_times(commands, ways, names, rounds, library):
    """For each workload and way: the times, one for each round."""
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
                interpreter, mode = way
                times[name][way].append(
                    seconds(commands[interpreter], mode, name, library))
    return times


def count_instructions(commands, ways, names, library):
    """For each workload and way: a list with the number of instructions."""
    programs = {}       # for each workload: its arguments, and what is subtracted
    for name in names:
        if name == START_UP:
            programs[name] = ("-c", ""), None
        else:
            # Workloads without preparation share one empty process.
            other = name if name in workloads.PREPARE else next(iter(workloads.WORKLOADS))
            programs[name] = tuple(work(name, 1, library)), tuple(work(other, 0, library))
    every = {arguments for pair in programs.values() for arguments in pair if arguments}
    counts = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(instructions, commands[way[0]], way[1], arguments):
                (arguments, way) for arguments in sorted(every) for way in ways}
        for number, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            counts[jobs[job]] = job.result()
            progress(f"bench      instructions, {number} of {len(jobs)} counts")
    return {name: {way: [counts[arguments, way] - counts.get((empty, way), 0)]
                   for way in ways}
            for name, (arguments, empty) in programs.items()}


def ratios(values, ways):
    """For each workload and column: the median and the quartiles of the ratios."""
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


def is_noisy(cell):
    """Is the noise larger than the effect?"""
    low, high = cell["quartiles"]
    return high - low > abs(cell["median"] - 1)


def share(row, mode="map"):
    """Our overhead divided by the peer's; None if the peer's is too small or noise."""
    ours, peers = (row[column] for column in COMPARED[mode])
    if peers["median"] - 1 <= 0.005 or is_noisy(peers):
        return None
    return (ours["median"] - 1) / (peers["median"] - 1)


# --- Showing ---------------------------------------------------------------

def cell_text(cell):
    text = f"{cell['median']:.3f}"
    if is_noisy(cell):
        text += " ({:.3f}-{:.3f})".format(*cell["quartiles"])
    return text


def table(title, rows):
    """The lines of a table of ratios."""
    columns = {column: [cell_text(row[column]) for row in rows.values()]
               for column in next(iter(rows.values()))}
    if set(COMPARED["map"]) <= set(columns):
        parts = [share(row) for row in rows.values()]
        columns["ours / peer's"] = ["-" if part is None else f"{part:.2f}"
                                    for part in parts]
    names = [title, *rows]
    for line in zip(names, *([column, *cells] for column, cells in columns.items())):
        widths = (max(map(len, [column, *cells])) for column, cells in columns.items())
        yield (f"{line[0]:<20}" + "".join(
            f"  {text:<{width}}" for text, width in zip(line[1:], widths))).rstrip()
    yield ""


def verdict(title, rows):
    """Lines that name the workloads that miss the goal."""
    for mode, (ours, peers) in COMPARED.items():
        if not all(ours in row and peers in row for row in rows.values()):
            continue
        large = [name for name, row in rows.items()
                 if name in CALL_BOUND and (share(row, mode) or 0) > 0.25]
        larger = [name for name, row in rows.items()
                  if row[ours]["quartiles"][0]
                  > max(1, row[peers]["quartiles"][1]) + 0.002]
        yield (f"{title}, {mode}: more than a quarter of the peer's overhead where "
               f"calls count: {', '.join(large) or 'none'}; larger than the peer's: "
               f"{', '.join(larger) or 'none'}")


def describe(commands):
    """Lines that name the machine and the interpreters."""
    yield f"Machine: {platform.machine()}, {os.cpu_count()} processors, " \
          f"load {os.getloadavg()[0]:.1f}, {platform.platform()}"
    for name, command in commands.items():
        version, _, _ = run(command, "off", ["-c", "import sys; print(sys.version)"])
        yield f"{name}: {version.replace(chr(10), ' ').strip()}"


def plot(rows, path):
    """Draw the ratios of time with gnuplot. New functions are beyond the scale."""
    if not shutil.which("gnuplot"):
        print("bench: gnuplot: not found, so there is no plot", file=sys.stderr)
        return
    titles = [title for title in COLORS if title in next(iter(rows.values()))]
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as data:
        for name, row in rows.items():
            if name in ("many functions", "same functions"):
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

def workload_name(word):
    """The workload with this name, or the only one whose name contains the word."""
    known = [START_UP, *workloads.WORKLOADS]
    found = [name for name in known if word.lower() in name.lower()]
    if word in known:
        return word
    if len(found) != 1:
        raise argparse.ArgumentTypeError(
            f"{word}: {'several workloads match' if found else 'no such workload'}: "
            f"{', '.join(found or known)}")
    return found[0]


def mode_name(word):
    if word not in MODES:
        raise argparse.ArgumentTypeError(f"{word}: no such mode: {', '.join(MODES)}")
    return word


def list_of(check):
    """A converter for a list with commas that calls `check` for each item."""
    return lambda text: [check(word.strip()) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreter", nargs="?", default=sys.executable)
    parser.add_argument("--unpatched", metavar="COMMAND", type=shlex.split)
    parser.add_argument("--peer", metavar="COMMAND", type=shlex.split)
    parser.add_argument("--rounds", type=int, default=20,
                        help="rounds of time measurements (20)")
    parser.add_argument("--no-instructions", action="store_true",
                        help="measure times only")
    parser.add_argument("--instructions-only", action="store_true",
                        help="count instructions only")
    parser.add_argument("--workloads", metavar="A,B", type=list_of(workload_name),
                        help="only these workloads; a part of the name is enough")
    parser.add_argument("--modes", metavar="A,B", type=list_of(mode_name),
                        default=list(MODES),
                        help="only these modes: " + ", ".join(MODES))
    parser.add_argument("--output", metavar="DIRECTORY", default="build/bench")
    return parser.parse_args()


def find_lib2to3():
    """Our lib2to3, or None: since 3.13 the standard library does not have it."""
    return importlib.util.find_spec("lib2to3")


def copy_lib2to3(commands, library):
    """Copy our lib2to3 to the directory `library` for all interpreters."""
    source = find_lib2to3().submodule_search_locations[0]
    shutil.copytree(source, pathlib.Path(library, "lib2to3"),
                    ignore=shutil.ignore_patterns("tests", "__pycache__"))
    for command in commands.values():   # each one caches the pickled grammar
        run(command, "off", ["-E", *work("lib2to3", 1, library)])


def choose_ways(commands, modes):
    """The ways to measure; "off" is always among them."""
    ways = []
    for interpreter, command in commands.items():
        for mode in OF_INTERPRETER[interpreter]:
            if mode == "off" or mode in modes and accepts(command, mode):
                ways.append((interpreter, mode))
            elif mode in modes:
                print(f"bench: {interpreter}: does not accept "
                      f"{' '.join(MODES[mode][0])}, so there is no column \"{mode}\"",
                      file=sys.stderr)
    return ways


def main():
    arguments = parse_arguments()
    commands = {"patched": [arguments.interpreter], "unpatched": arguments.unpatched,
                "peer": arguments.peer}
    commands = {name: command for name, command in commands.items() if command}
    names = arguments.workloads or [START_UP, *workloads.WORKLOADS]
    if "lib2to3" in names and find_lib2to3() is None:
        print("bench: this Python has no lib2to3, so this workload is left out",
              file=sys.stderr)
        names.remove("lib2to3")
    if not names:
        sys.exit("bench: no workload is left")
    rounds = 0 if arguments.instructions_only else arguments.rounds
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    os.environ.pop("JITDUMPDIR", None)
    ways = choose_ways(commands, arguments.modes)

    lines = list(describe(commands))
    result = {"description": lines[:]}
    with tempfile.TemporaryDirectory() as library:
        if "lib2to3" in names:
            copy_lib2to3(commands, library)
        if rounds > 0:
            values = measure_times(commands, ways, names, rounds, library)
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
