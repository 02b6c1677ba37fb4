"""Compare packages that the distribution compiled under its interpreter and ours.

    dropin.py ROOT WORK PYTHON LIBRARY [NAME...]

ROOT      where the distribution's packages, the stock interpreter among them, were
          unpacked
WORK      a directory for extension modules made here, logs and reports
PYTHON    our interpreter
LIBRARY   the directory of our libpython3.11.so.1.0
NAME      the packages to run, all by default

Each package's tests, or a program that uses it, are run by the stock interpreter
and then by ours: off, under -X perf, -X perf_jit, -X perf=calls and -X perf=lines.
Programs that embed the interpreter load our library in the place of the stock one.  A
package passes in a mode on two conditions.  The outcomes of its tests, or its output, are
those of the stock interpreter.  Profiling was on, or off, as the mode requires.

Files are written to WORK/NAME/MODE.log and the like.  The last line is "N passed, N
failed, N skipped", one for each package and mode; the exit status is 1 if one failed.
"""

import collections
import difflib
import getpass
import grp
import hashlib
import http.client
import inspect
import json
import os
import pwd
import re
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "Lib/test/test_perf")
MODES = ("off", "perf", "perf_jit", "perf=calls", "perf=lines")
# Variables that switch profiling on, and their values.
SWITCHES = {
    "perf": ("PYTHONPERFSUPPORT", "1"),
    "perf_jit": ("PYTHON_PERF_JIT_SUPPORT", "1"),
    "perf=calls": ("PYTHONPERFSUPPORT", "calls"),
    "perf=lines": ("PYTHONPERFSUPPORT", "lines"),
}
SECONDS = int(os.environ.get("DROPIN_SECONDS", 3600))   # for one package in one mode
SUFFIX = ".cpython-311-x86_64-linux-gnu.so"

# outcomes: of each test, or of the whole program: its output.
# processes: pid, whether profiling was on and how many functions were written.
Result = collections.namedtuple("Result", "outcomes processes")


class Failure(Exception):
    """A package did not run; the text says why."""


class Place:
    """Where everything is, and how an interpreter is started."""

    def __init__(self, root, work, python, library):
        self.root, self.work, self.python, self.library = map(
            os.path.abspath, (root, work, python, library))
        self.triplet = os.uname().machine + "-linux-gnu"
        self.packages = self.inside("lib/python3/dist-packages")
        self.extensions = os.path.join(self.work, "extensions")
        libraries = self.inside("lib", self.triplet)
        self.libraries = ":".join([
            libraries, os.path.join(self.root, "lib", self.triplet),
            os.path.join(libraries, "blas"), os.path.join(libraries, "lapack")])

    def inside(self, *path):
        return os.path.join(self.root, "usr", *path)

    def environment(self, mode, embedded=False):
        """Return the environment for this mode."""
        # gcc and the other programs that tests start are the machine's.
        result = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        result.update(
            LANG="C.UTF-8", PYTHONHASHSEED="0", PYTHONNOUSERSITE="1", PYTHONUNBUFFERED="1",
            LD_LIBRARY_PATH=self.libraries,
            # Tests that compile extension modules use the stock headers in all modes.
            C_INCLUDE_PATH=":".join([self.inside("include/python3.11"), self.inside("include")]))
        path = [self.packages, self.extensions]
        if embedded:
            result["PYTHONHOME"] = self.inside()
            if mode != "stock":
                # Our shared library needs our standard library.
                with open(os.path.join(self.library, "pybuilddir.txt"), encoding="utf-8") as file:
                    built = os.path.join(self.library, file.read().strip())
                path = [self.standard_library(), built, *path]
                result["LD_LIBRARY_PATH"] = self.library + ":" + self.libraries
        result["PYTHONPATH"] = ":".join(path)
        if mode in SWITCHES:
            # Processes that tests start and embedding programs get no option -X.
            variable, value = SWITCHES[mode]
            result[variable] = value
            result["DROPIN_MODE"] = mode        # for programs that ignore the variable
        return result

    def standard_library(self):
        with open(os.path.join(self.library, "Makefile"), encoding="utf-8") as file:
            source = re.search(r"^srcdir=\s*(.*)$", file.read(), re.M)[1]
        return os.path.realpath(os.path.join(self.library, source, "Lib"))

    def interpreter(self, mode):
        if mode == "stock":
            return [self.inside("bin/python3.11")]
        return [self.python, *(["-X", mode] if mode in SWITCHES else [])]


def run(command, log, **options):
    """Run it with stdout in LOG.out and stderr in LOG.err; return its pid and stdout."""
    with open(log + ".out", "w+b") as out, open(log + ".err", "wb") as err:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                              **options) as child:
            try:
                status = child.wait(SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                raise Failure(f"not finished after {SECONDS} seconds; log: {log}.err") from None
        if status:
            raise Failure(f"exit status {status}; log: {log}.err")
        out.seek(0)
        return child.pid, out.read().decode("utf-8", "backslashreplace")


# ---------------------------------------------------------------------------
# Packages

def run_case(place, name, mode, kind, *args):
    """Run tests or a program with run_case.py; return a Result."""
    log = log_name(place, name, mode)
    report = log + ".json"
    if os.path.exists(report):
        os.unlink(report)
    _, out = run([*place.interpreter(mode), os.path.join(HERE, "run_case.py"), report, kind,
                  *args], log, env=place.environment(mode), cwd=place.work)
    if not os.path.exists(report):
        raise Failure(f"wrote no report; log: {log}.err")
    with open(report, encoding="utf-8") as file:
        found = json.load(file)
    outcomes = {"output": out} if kind == "program" else found["outcomes"]
    if not outcomes:
        raise Failure("ran no test")
    return Result(outcomes, [("main", found["active"], found["functions"])])


def log_name(place, name, mode):
    os.makedirs(os.path.join(place.work, name), exist_ok=True)
    return os.path.join(place.work, name, mode)


def program(file):
    return lambda place, name, mode: run_case(
        place, name, mode, "program", os.path.join(HERE, file))


def tests(*packages):
    return lambda place, name, mode: run_case(
        place, name, mode, "unittest", place.packages, *packages)


def pytest(path, *options, without=()):
    """The tests in this directory, but not those in the files `without`."""
    def run_it(place, name, mode):
        directory = os.path.join(place.packages, path)
        ignored = [f"--ignore={os.path.join(directory, file)}" for file in without]
        return run_case(place, name, mode, "pytest", directory, *options, *ignored)
    return run_it


def embed(*command):
    """A program that embeds the interpreter: its name in extensions, its arguments."""
    def run_it(place, name, mode):
        pid, out = run([os.path.join(place.extensions, command[0]), *command[1:]],
                       log_name(place, name, mode),
                       env=place.environment(mode, embedded=True), cwd=place.work)
        return Result({"output": out}, files_of_process(pid))
    return run_it


def evaluators(shared):
    """The programs with other frame evaluators (evaluators.py of our tests).

    With `shared`, the interpreter is that of the build with a shared library.  The
    programs switch profiling on and off themselves.
    """
    def run_it(place, name, mode):
        env = place.environment("off")
        python = place.interpreter("stock" if mode == "stock" else "off")
        if shared and mode != "stock":
            python = [os.path.join(place.library, "python")]
            env["LD_LIBRARY_PATH"] = place.library
        file = os.path.join(TESTS, "evaluators.py")
        with open(file, encoding="utf-8") as source:
            programs = re.findall(r"^    '(\w+)': \(", source.read(), re.M)
        outcomes, processes = {}, []
        for each in programs:
            # Copies of frames in memory from malloc(), and in memory that was used before.
            for more in ({}, {"DIRTY": "1"}) if each.startswith("copies") else ({},):
                _, out = run([*python, file, each, *([mode] if mode in SWITCHES else [])],
                             log_name(place, name, mode), env={**env, **more},
                             cwd=place.work)
                found = json.loads(out)
                outcomes[f"{each} {more}"] = [found["counts"], found["facts"]]
                for process in (found, *found["children"]):
                    files = files_of_process(process["pid"])
                    if each != "never" or mode not in SWITCHES:
                        processes += files
        return Result(outcomes, processes)
    return run_it


def perf_files():
    """Return the pid and the path of each perf map and jitdump in /tmp."""
    matches = [re.fullmatch(r"(?:perf|jit)-(\d+)\.(?:map|dump)", name)
               for name in os.listdir("/tmp")]
    return [(int(match[1]), os.path.join("/tmp", match[0])) for match in matches if match]


def files_of_process(pid):
    """Return whether profiling was on in this process. Its files show that; remove them."""
    count = 0
    for path in (f"/tmp/perf-{pid}.map", f"/tmp/jit-{pid}.dump"):
        if os.path.exists(path):
            with open(path, "rb") as file:
                count += file.read().count(b"py::")
            os.unlink(path)
    return [(pid, count > 0, count)]


# ---------------------------------------------------------------------------
# Servers

def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def request(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers.get("X-Process")
    finally:
        connection.close()


def ask(port, paths):
    """Return the answers, and what the server's processes report of themselves."""
    answers = {}
    processes = {}
    for path in paths:
        # Often enough for each of the server's processes and threads.
        for _ in range(20):
            status, text, process = request(port, path, b"x" * 100_000 if "echo" in path else None)
            answers.setdefault(path, set()).add((status, text))
            if process:
                pid, active, functions = json.loads(process)
                processes[pid] = (pid, active, functions)
    return ({path: sorted(each) for path, each in answers.items()}, list(processes.values()))


def serve(place, name, mode, command, port, paths, stop):
    """Start a server, ask it, stop it; return a Result."""
    log = log_name(place, name, mode)
    with open(log + ".out", "wb") as out:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  env=place.environment(mode, embedded=True), cwd=place.work)
        try:
            wait_for(server, port, log)
            outcomes, processes = ask(port, paths)
        finally:
            if server.poll() is None:
                stop(server)
            try:
                status = server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                status = "none after 60 seconds"
    if status:
        raise Failure(f"exit status {status}; log: {log}.out")
    with open(log + ".out", encoding="utf-8", errors="replace") as file:
        bad = [line for line in file
               if re.search(r"segfault|signal 11|core dumped|Fatal", line, re.I)]
    if bad:
        raise Failure(f"{bad[0].strip()}; log: {log}.out")
    return Result(outcomes, processes)


def wait_for(server, port, log):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if server.poll() is not None:
            raise Failure(f"the server ended with {server.returncode}; log: {log}.out")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise Failure(f"the server does not listen; log: {log}.out")


PATHS = ("/", "/echo", "/stream", "/closed", "/failing", "/threads", "/libraries", "/none")


def uwsgi(*options):
    """uwsgi with its Python plugin, stopped by SIGINT."""
    def run_it(place, name, mode):
        port = free_port()
        command = [
            place.inside("bin/uwsgi-core"), "--plugins-dir", place.inside("lib/uwsgi/plugins"),
            "--plugins", ",".join(["python311", *[o for o in options if not o.startswith("-")]]),
            "--http-socket", f"127.0.0.1:{port}", "--master", "--die-on-term",
            "--wsgi-file", os.path.join(HERE, "wsgi_app.py"),
            *[word for o in options if o.startswith("-") for word in o.split()]]
        return serve(place, name, mode, command, port, PATHS, lambda server: server.terminate())
    return run_it


APACHE = """\
ServerRoot {directory}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {directory}/pid
ErrorLog {directory}/error.log
Mutex posixsem
DefaultRuntimeDir {directory}
User {user}
Group {group}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
StartServers 1
ServerLimit 2
ThreadsPerChild 4
MaxRequestWorkers 8
MinSpareThreads 4
MaxSpareThreads 8
WSGISocketPrefix {directory}/wsgi
WSGIRestrictEmbedded Off
WSGIDaemonProcess daemon processes=2 threads=3
WSGIScriptAlias /main {app}
WSGIScriptAlias /sub {app}
WSGIScriptAlias /daemon {app}
<Location /main>
    WSGIApplicationGroup %{{GLOBAL}}
</Location>
<Location /sub>
    WSGIApplicationGroup sub
</Location>
<Location /daemon>
    WSGIApplicationGroup %{{GLOBAL}}
    WSGIProcessGroup daemon
</Location>
<Directory {here}>
    Require all granted
</Directory>
"""


def mod_wsgi(place, name, mode):
    """Apache with mod_wsgi: in its own processes, there in a second interpreter too,
    and in processes of mod_wsgi."""
    directory = os.path.join("/tmp", f"dropin-apache-{os.getpid()}-{mode}")
    os.mkdir(directory)
    port = free_port()
    # Apache refuses to serve as root.
    user = pwd.getpwnam("www-data" if os.geteuid() == 0 else getpass.getuser())
    group = grp.getgrgid(user.pw_gid).gr_name
    with open(os.path.join(directory, "conf"), "w", encoding="utf-8") as file:
        file.write(APACHE.format(
            directory=directory, port=port, user=user.pw_name, group=group, here=HERE,
            modules=place.inside("lib/apache2/modules"), app=os.path.join(HERE, "wsgi_app.py")))
    command = [place.inside("sbin/apache2"), "-f", os.path.join(directory, "conf"),
               "-DFOREGROUND"]
    paths = [group + path for group in ("/main", "/sub", "/daemon") for path in PATHS]
    try:
        return serve(place, name, mode, command, port, paths, lambda server: server.terminate())
    finally:
        with open(os.path.join(directory, "error.log"), encoding="utf-8",
                  errors="replace") as source:
            with open(log_name(place, name, mode) + ".err", "w", encoding="utf-8") as copy:
                copy.write(source.read())
        subprocess.run(["rm", "-rf", directory], check=True)


# ---------------------------------------------------------------------------
# Extension modules of our own, for the stock interpreter

def build_extensions(place):
    """Compile them, with the stock headers, if their sources have changed."""
    os.makedirs(place.extensions, exist_ok=True)
    evaluators_c = os.path.join(TESTS, "src/perf_evaluators.c")
    embed_c = os.path.join(os.path.dirname(HERE), "abi/embed.c")
    names = ("build_cffi.py", "dropin_cython.pyx", "dropin_pybind11.cpp")
    digest = hashlib.sha256(inspect.getsource(build_extensions).encode())
    for path in (*[os.path.join(HERE, name) for name in names], evaluators_c, embed_c):
        with open(path, "rb") as file:
            digest.update(file.read())
    stamp = os.path.join(place.extensions, "stamp")
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read() == digest.hexdigest():
                return
    stock = place.interpreter("stock")[0]
    headers = ["-I" + place.inside("include/python3.11"), "-I" + place.inside("include")]
    library = ["-O2", "-fPIC", "-shared", *headers]

    def step(name, *command):
        # The C compiler gets the machine's own libraries.
        env = place.environment("stock") if command[0] == stock else None
        run(command, os.path.join(place.extensions, name), cwd=place.extensions, env=env)

    source = os.path.join(place.extensions, "dropin_cython_traced.pyx")
    with open(os.path.join(HERE, "dropin_cython.pyx"), encoding="utf-8") as file:
        text = file.read()
    with open(source, "w", encoding="utf-8") as file:
        file.write(text)
    step("cffi", stock, os.path.join(HERE, "build_cffi.py"), "dropin_cffi.c")
    step("cffi_c", "gcc", *library, "dropin_cffi.c", "-o", "dropin_cffi" + SUFFIX,
         "-lm", "-lpthread")
    step("cython", stock, "-m", "cython", os.path.join(HERE, "dropin_cython.pyx"), "-o",
         os.path.join(place.extensions, "dropin_cython.c"))
    step("cython_c", "gcc", *library, "dropin_cython.c", "-o", "dropin_cython" + SUFFIX)
    step("traced", stock, "-m", "cython", "-X", "profile=True", "-X", "linetrace=True",
         source, "-o", os.path.join(place.extensions, "dropin_cython_traced.c"))
    step("traced_c", "gcc", "-DCYTHON_TRACE=1", *library, "dropin_cython_traced.c", "-o",
         "dropin_cython_traced" + SUFFIX)
    pybind11 = ["g++", "-std=c++17", "-fvisibility=hidden"]
    source = os.path.join(HERE, "dropin_pybind11.cpp")
    step("pybind11", *pybind11, *library, source, "-o", "dropin_pybind11" + SUFFIX)
    stock_library = ["-L" + place.inside("lib", place.triplet), "-l:libpython3.11.so.1.0"]
    step("embed", *pybind11, "-O2", "-DEMBED", *headers, source, "-o", "dropin_embed",
         *stock_library)
    step("evaluators", "gcc", *library, evaluators_c, "-o", "perf_evaluators" + SUFFIX)
    step("config", "gcc", "-O2", *headers, embed_c, "-o", "config_embed", *stock_library)
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(digest.hexdigest())


# ---------------------------------------------------------------------------
# The comparison

CASES = {
    "greenlet": tests("greenlet.tests"),
    "gevent": program("program_gevent.py"),
    # The 1045 tests marked as slow, of 16728, take six minutes more in each mode.
    # The two files install a package with Debian's setuptools, which needs Debian's
    # changes to distutils.
    "numpy": pytest("numpy/core/tests", "-m", "not slow",
                    without=("test_cython.py", "test_limited_api.py")),
    "lxml": program("program_lxml.py"),
    "lxml-tests": tests("lxml.tests", "lxml.html.tests"),
    "cython": program("program_cython.py"),
    "cython-tests": tests("Cython.Tests", "Cython.Compiler.Tests", "Cython.Build.Tests"),
    "coverage": program("program_coverage.py"),
    "cffi": program("program_cffi.py"),
    "pybind11": program("program_pybind11.py"),
    "pybind11-embed": embed("dropin_embed", os.path.join(HERE, "program_pybind11.py")),
    # A program that fails if something after its PyConfig is overwritten.
    "config-embed": embed("config_embed", "python3", "print([n * n for n in range(5)])"),
    "evaluators": evaluators(shared=False),
    "evaluators-shared": evaluators(shared=True),
    "uwsgi": uwsgi("--processes 2", "--threads 2"),
    "uwsgi-prefork": uwsgi("--processes 3"),
    "uwsgi-lazy": uwsgi("--processes 2", "--threads 2", "--lazy-apps"),
    "uwsgi-gevent": uwsgi("gevent_python311", "--gevent 20", "--processes 2"),
    "mod_wsgi": mod_wsgi,
}


# Tests of the standard library's own modules.  Their results depend on the versions of the
# C libraries that the interpreter was built with.
OF_THE_STANDARD_LIBRARY = re.compile(
    r"lxml\.tests\.test_elementtree\.ElementTree\w*TestCase\.")     # libexpat


def describe(outcomes):
    """Return the outcome in a few words."""
    counts = collections.Counter(outcomes.values() if all(
        isinstance(each, str) for each in outcomes.values()) else ())
    if set(counts) <= {"passed", "failed", "skipped"} and counts:
        return ", ".join(f"{counts[each]} {each}" for each in ("passed", "failed", "skipped"))
    if "output" in outcomes:
        return f"{len(outcomes['output'].splitlines())} lines"
    return f"{len(outcomes)} results"


def differences(stock, ours):
    """Return lines that say where the outcomes differ."""
    lines = []
    for key in sorted({**stock, **ours}):
        a, b = stock.get(key, "not run"), ours.get(key, "not run")
        if a == b or OF_THE_STANDARD_LIBRARY.match(key):
            continue
        if key == "output":
            lines += difflib.unified_diff(a.splitlines(), b.splitlines(), "stock", "ours",
                                          lineterm="", n=0)
        else:
            lines.append(f"{key}: stock {str(a)[:200]}, ours {str(b)[:200]}")
    return lines


def wrong_state(mode, processes):
    """Return why profiling was not on or off as the mode says, or None."""
    if not processes:
        return "no process reported whether profiling is on"
    for pid, active, functions in processes:
        if mode in SWITCHES and not active:
            return f"profiling is off in process {pid}"
        if mode in SWITCHES and not functions:
            return f"process {pid} has written no function"
        if mode not in SWITCHES and (active or functions):
            return f"profiling is on in process {pid}"
    return None


def attempt(place, name, mode):
    """Run one package in one mode; return its Result or a Failure."""
    if os.environ.get("DROPIN_PRIVATE_TMP"):
        for pid, path in perf_files():
            os.unlink(path)
    try:
        return CASES[name](place, name, mode)
    except (Failure, OSError, http.client.HTTPException) as failure:
        return Failure(f"{type(failure).__name__}: {failure}"
                       if not isinstance(failure, Failure) else str(failure))


def line(name, mode, text, begin):
    print(f"{name:15} {mode:10} {text} ({time.monotonic() - begin:.0f} s)", flush=True)


def compare(place, name):
    """Run one package in all modes; return how many modes passed."""
    begin = time.monotonic()
    stock = attempt(place, name, "stock")
    if isinstance(stock, Failure):
        line(name, "stock", f"FAILED: {stock}", begin)
        return 0
    line(name, "stock", describe(stock.outcomes), begin)
    passed = 0
    for mode in MODES:
        begin = time.monotonic()
        ours = attempt(place, name, mode)
        if isinstance(ours, Failure):
            line(name, mode, f"FAILED: {ours}", begin)
            continue
        different = differences(stock.outcomes, ours.outcomes)
        wrong = wrong_state(mode, ours.processes)
        if different or wrong:
            line(name, mode, f"FAILED: {wrong or 'not the same'}", begin)
            for each in different[:20]:
                print("    " + each, flush=True)
            continue
        functions = sum(process[2] for process in ours.processes)
        what = "functions and lines" if mode == "perf=lines" else "functions"
        shown = f"; {functions} {what} shown" if mode in SWITCHES else ""
        line(name, mode, f"the same{shown}", begin)
        passed += 1
    return passed


def main(root, work, python, library, *names):
    place = Place(root, work, python, library)
    os.makedirs(place.work, exist_ok=True)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        sys.exit(f"dropin.py: unknown: {' '.join(unknown)}; there are {' '.join(CASES)}")
    build_extensions(place)
    passed = failed = skipped = 0
    for name in names or CASES:
        if name == "lxml-tests" and not os.path.isdir(os.path.join(place.packages, "lxml/tests")):
            print(f"{name:15} skipped: the distribution's source could not be fetched")
            skipped += len(MODES)
            continue
        good = compare(place, name)
        passed += good
        failed += len(MODES) - good
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
