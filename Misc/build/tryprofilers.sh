#!/bin/bash
# Tries profilers and other tools that look at stacks, one after the other, on a small
# program with our interpreter. Prints for each the version and how many lines with names
# of Python functions it has shown. Tools that are not installed are named. The how-to's
# table of tools is what this prints, read by people.
#
#     tryprofilers.sh [NAME...]     all of them, or those that are named
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

python=$TOP/$BUILD/python
perf=$TOP/build/tools/bin/perf
samply=$TOP/build/tools/bin/samply
out=$TOP/build/profilers
mkdir -p "$out"
cd "$out"
export PERF_CONFIG=/dev/null
unset DEBUGINFOD_URLS
readonly PROGRAMS="perf-report perf-script perf-annotate perf-diff perf-trace perf-attach perf-waiting-fp
    perf-waiting-dwarf perf-gecko samply samply-import firefox-profiler speedscope bpftrace bcc
    sysprof heaptrack gperftools callgrind massif eu-stack gdb strace"

# The program has a thread that works, two that wait for each other, and memory.
cat >program.py <<'END'
import os, sys, threading, time

lock = threading.Lock()

def spin(n=20_000):
    total = 0
    for i in range(n):
        total += i
    return total

def sleeping(): time.sleep(0.01)

def waiting():
    with lock:
        sleeping()

def working(): spin()

def allocate(n): return [bytearray(10_000) for i in range(n)]

def loop(function, seconds):
    end = time.time() + seconds
    while time.time() < end:
        function()

def main():
    kept = allocate(500)
    seconds = float(sys.argv[1])
    threads = [threading.Thread(target=loop, args=(f, seconds)) for f in (waiting, waiting, working)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

print(os.getpid(), flush=True)
main()
END

# row TOOL VERSION TEXT: prints a row
row() {
    printf '%-20s %-14s %s\n' "$1" "$2" "$3"
}

readonly FUNCTIONS='(spin|sleeping|waiting|working|allocate|loop|main)'

# names FILE: prints how many lines have a Python function of the program
names() {
    grep -cE "py::$FUNCTIONS\b" "$1" || true
}

version_of() {
    "$1" --version 2>&1 | grep -Eo '[0-9]+(\.[0-9]+)+' | head -n 1
}

# start SECONDS SWITCH: runs the program in the background; sets pid
start() {
    "$python" -X "$2" program.py "$1" >pid &
    pid=$!
    sleep 1
}

# share FILE: prints how many of the stacks that perf script has written have such names
share() {
    awk -v RS= '/py::(sleeping|waiting|working|spin|loop)/ { python++ } { all++ }
        END { printf "%d of %d stacks", python, all }' "$1"
}

# record [OPTION...] SWITCH: records the program in perf.data
record() {
    local switch=${!#}
    "$perf" record -q -N -B -o perf.data "${@:1:$#-1}" -- "$python" -X "$switch" program.py 1 >pid
}

recorded() {
    [ -s map.data ] || { record -F 999 -g perf && mv perf.data map.data; }
}

try_perf-report() {
    recorded
    "$perf" report -i map.data --stdio --children -g none >report.txt 2>/dev/null
    row "$1" "$perf_version" "$(names report.txt) functions"
}
try_perf-script() {
    recorded
    "$perf" script -i map.data --no-inline -F comm,pid,tid,ip,sym >script.txt 2>/dev/null
    row "$1" "$perf_version" "$(share script.txt)"
}
try_perf-annotate() {
    recorded
    "$perf" annotate -i map.data --stdio -s _PyEval_EvalFrameDefault >annotate.txt 2>/dev/null || true
    row "$1" "$perf_version" "$(wc -l <annotate.txt) lines of the eval loop; of Python functions there is no code"
}
try_perf-diff() {
    recorded
    cp map.data old.data
    record -F 999 -g perf
    "$perf" diff old.data perf.data >diff.txt 2>/dev/null
    row "$1" "$perf_version" "$(names diff.txt) functions; compares the time without callees"
}
try_perf-trace() {
    start 4 perf
    "$perf" trace -p "$pid" --call-graph fp -e clock_nanosleep -o trace.txt -- sleep 1 2>/dev/null || true
    wait "$pid"
    row "$1" "$perf_version" "$(names trace.txt) lines"
}
try_perf-attach() {
    start 4 perf
    "$perf" record -q -N -B -F 999 -g -p "$pid" -o perf.data -- sleep 1
    wait "$pid"
    "$perf" script -i perf.data --no-inline -F comm,pid,tid,ip,sym >script.txt 2>/dev/null
    row "$1" "$perf_version" "$(share script.txt)"
}
try_perf-waiting-fp() {
    record -e sched:sched_switch -g perf
    "$perf" script -i perf.data --no-inline -F comm,pid,tid,ip,sym >script.txt 2>/dev/null
    row "$1" "$perf_version" "$(share script.txt)"
}
try_perf-waiting-dwarf() {
    record -e sched:sched_switch -k 1 --call-graph dwarf perf_jit
    "$perf" inject -i perf.data --jit -o jit.data
    "$perf" script -i jit.data --no-inline -F comm,pid,tid,ip,sym >script.txt 2>/dev/null
    row "$1" "$perf_version" "$(share script.txt)"
}
try_perf-gecko() {
    recorded
    rm -rf gecko && mkdir gecko && cp map.data gecko/perf.data
    (cd gecko && "$perf" script report gecko --save-only gecko.json >gecko.txt 2>&1)
    row "$1" "$perf_version" "$(grep -o 'py::[a-zA-Z_<][^"]*' gecko/gecko.json | sort -u | wc -l) names"
}
samply_names() {
    "$python" -c "
import gzip, json, sys
text = gzip.open(sys.argv[1]).read().decode()
names = {name for thread in json.loads(text)['threads'] for name in thread['stringArray'] if name.startswith('py::')}
print(len(names), 'names')" "$1"
}
try_samply() {
    "$samply" record --save-only -o samply.json.gz -- "$python" -X perf program.py 1 >/dev/null 2>&1
    row "$1" "$(version_of "$samply")" "$(samply_names samply.json.gz)"
}
try_samply-import() {
    recorded
    "$samply" import --save-only -o import.json.gz map.data >/dev/null 2>&1
    row "$1" "$(version_of "$samply")" "$(samply_names import.json.gz)"
}
# viewer PACKAGE...: installs packages of npm in ./viewers
viewer() {
    npm install --prefix viewers --no-audit --no-fund "$@" >npm.txt 2>&1
}
viewer_version() {
    "$python" -c "import json, sys; print(json.load(open(sys.argv[1]))['version'])" "viewers/node_modules/$1/package.json"
}
# Its code has a command line, besides the pages. It needs a newer node than Debian's.
try_firefox-profiler() {
    local package=@firefox-devtools/profiler-cli
    recorded
    viewer "$package@0.10" node@24
    "$TOP/Misc/profilers/fold.py" --perf "$perf" --format firefox map.data -o firefox.json
    local cli=(env PROFILER_CLI_SESSION_DIR="$out/viewers/session" viewers/node_modules/.bin/node
        "viewers/node_modules/$package/dist/profiler-cli.js")
    "${cli[@]}" load firefox.json >firefox.txt
    "${cli[@]}" profile info --all >>firefox.txt
    grep -o 't-[0-9]*:' firefox.txt | sort -u | while read -r thread; do
        "${cli[@]}" thread functions --thread "${thread%:}" --json
    done >firefox.functions
    "${cli[@]}" stop --all >/dev/null
    row "$1" "$(viewer_version "$package")" "$(grep -oE "\"name\": \"$FUNCTIONS\"" \
        firefox.functions | sort -u | wc -l) functions, $(grep -c 't-[0-9]*:' firefox.txt) threads, $(
        sed -n 's/^ *p-0: .* - //p' firefox.txt) of CPU time"
}
# As its own command line does, a script hands over the file. The picture is a canvas. The table
# shows the functions with most own time, so the interpreter's frames are left out.
try_speedscope() {
    recorded
    viewer speedscope@1.25
    "$TOP/Misc/profilers/fold.py" --perf "$perf" --python --format speedscope map.data -o all.speedscope.json
    printf 'speedscope.loadFileFromBase64("all.speedscope.json", "%s")' "$(base64 -w0 all.speedscope.json)" >load.js
    chromium --headless --no-sandbox --disable-gpu --enable-unsafe-swiftshader --allow-file-access-from-files \
        --virtual-time-budget=15000 --window-size=1300,700 --dump-dom \
        "file://$out/viewers/node_modules/speedscope/dist/release/index.html#localProfilePath=$out/load.js&view=sandwich" \
        >speedscope.html 2>/dev/null
    row "$1" "$(viewer_version speedscope)" "$(grep -oE ">$FUNCTIONS<" \
        speedscope.html | sort -u | wc -l) functions in the table of a thread"
}
try_bpftrace() {
    start 12 perf
    bpftrace -p "$pid" -e "profile:hz:99 /pid == $pid/ { @[ustack(perf)] = count(); } interval:s:2 { exit(); }" \
        >bpftrace.txt 2>bpftrace.err || true
    wait "$pid"
    row "$1" "$(version_of bpftrace)" "$(names bpftrace.txt) lines"
}
# It compiles its program first, and needs the headers of the running kernel for that.
try_bcc() {
    start 40 perf
    profile-bpfcc -F 99 -p "$pid" 2 >bcc.txt 2>bcc.err || true
    wait "$pid"
    row "$1" "$(dpkg-query -W -f '${Version}' bpfcc-tools 2>/dev/null)" \
        "$(names bcc.txt) lines$(grep -om1 'Unable to find kernel headers' bcc.txt bcc.err | sed 's/[^:]*:/; /')"
}
# It asks a service for the samples, over the system's D-Bus. A container has none.
try_sysprof() {
    local bus=
    if ! dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetId >/dev/null 2>&1; then
        mkdir -p /run/dbus
        dbus-daemon --system --nofork --nopidfile 2>dbus.txt &
        bus=$!
        sleep 1
    fi
    sysprof-cli -f sysprof.syscap -- "$python" -X perf program.py 1 >sysprof.txt 2>&1 || true
    if [ -n "$bus" ]; then
        kill "$bus"
        rm -f /run/dbus/system_bus_socket
    fi
    row "$1" "$(version_of sysprof-cli)" "$(names sysprof.syscap) names; $("$python" - <<'END'
import bisect, os, struct

with open('sysprof.syscap', 'rb') as file:
    data = file.read()

def samples():
    """Give the process and the addresses of each sample (sysprof-capture-types.h)."""
    offset = 256
    while offset < len(data):
        length, pid, kind = struct.unpack_from('<H2xi8xB', data, offset)
        if kind == 2:
            count, = struct.unpack_from('<H', data, offset + 24)
            yield pid, struct.unpack_from(f'<{count}Q', data, offset + 32)
        offset += length

def read_map(pid):
    path = f'/tmp/perf-{pid}.map'
    lines = open(path) if os.path.exists(path) else ()
    return sorted((int(start, 16), int(size, 16), name)
                  for start, size, name in (line.split(' ', 2) for line in lines))

maps, python, every = {}, 0, 0
for pid, addresses in samples():
    if pid not in maps:
        maps[pid] = read_map(pid)
    places = [maps[pid][bisect.bisect(maps[pid], (address, 1 << 64)) - 1] for address in addresses
              if maps[pid]]
    every += any('program.py' in name for start, size, name in maps[pid])
    python += any(start <= address < start + size and 'program.py' in name
                  for address, (start, size, name) in zip(addresses, places))
print(f'{python} of {every} stacks have an address of such a function')
END
)"
}
try_heaptrack() {
    rm -f heap.*
    heaptrack -o heap "$python" -X perf program.py 1 >heaptrack.txt 2>&1
    heaptrack_print -f heap.zst >heap.txt 2>/dev/null
    "$TOP/Misc/profilers/resolve.py" --pid "$(grep -xE '[0-9]+' heaptrack.txt | head -n 1)" heap.zst -o heap.named.zst
    heaptrack_print -f heap.named.zst >heap.named 2>/dev/null
    row "$1" "$(version_of heaptrack)" "$(names heap.txt) lines; with resolve.py $(names heap.named)"
}
try_google-pprof() {
    local library
    library=$(find /usr/lib -name 'libprofiler.so.0' | head -n 1)
    LD_PRELOAD=$library CPUPROFILE=$out/cpu.prof "$python" -X perf program.py 1 >pid
    google-pprof --collapsed "$python" cpu.prof >pprof.txt 2>/dev/null
    "$TOP/Misc/profilers/resolve.py" --pid "$(cat pid)" pprof.txt -o pprof.named
    row gperftools "$(dpkg-query -W -f '${Version}' libgoogle-perftools4 2>/dev/null)" \
        "$(names pprof.txt) lines; with resolve.py $(names pprof.named)"
}
try_callgrind() {
    valgrind -q --tool=callgrind --callgrind-out-file=callgrind.out "$python" -X perf=calls program.py 0.1 >pid 2>/dev/null
    "$TOP/Misc/profilers/resolve.py" callgrind.out -o callgrind.named
    row "$1" "$(version_of valgrind)" "$(names callgrind.out) lines; with resolve.py $(names callgrind.named)"
}
try_massif() {
    valgrind -q --tool=massif --massif-out-file=massif.out "$python" -X perf program.py 0.1 >pid 2>/dev/null
    "$TOP/Misc/profilers/resolve.py" --pid "$(cat pid)" massif.out -o massif.named
    row "$1" "$(version_of valgrind)" "$(names massif.out) lines; with resolve.py $(names massif.named)"
}
try_eu-stack() {
    start 3 perf
    eu-stack -p "$pid" >eu-stack.txt 2>/dev/null || true
    wait "$pid"
    "$TOP/Misc/profilers/resolve.py" eu-stack.txt -o eu-stack.named
    row "$1" "$(version_of eu-stack)" "$(names eu-stack.txt) lines; with resolve.py $(names eu-stack.named)"
}
try_gdb() {
    start 4 perf
    gdb -batch -p "$pid" -ex 'thread apply all bt' >gdb.txt 2>/dev/null || true
    wait "$pid"
    row "$1" "$(version_of gdb)" "$(grep -c 'py::' gdb.txt || true) frames"
}
try_strace() {
    strace -f -k -e trace=clock_nanosleep -o strace.txt "$python" -X perf program.py 0.3 >pid || true
    "$TOP/Misc/profilers/resolve.py" --pid "$(cat pid)" strace.txt -o strace.named
    row "$1" "$(version_of strace)" "$(names strace.txt) lines; with resolve.py $(names strace.named)"
}

perf_version=$(version_of "$perf")
rm -f map.data
[ $# != 0 ] || read -r -d '' -a all <<<"$PROGRAMS" || true
[ $# != 0 ] || set -- "${all[@]}"
for name; do
    case $name in
    perf* | samply*) programs=() ;;
    callgrind | massif) programs=(valgrind) ;;
    gperftools) name=google-pprof programs=(google-pprof) ;;
    bcc) programs=(profile-bpfcc) ;;
    sysprof) programs=(sysprof-cli) ;;
    firefox-profiler) programs=(npm) ;;
    speedscope) programs=(npm chromium) ;;
    *) programs=("$name") ;;
    esac
    missing=
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || missing+=" $program"
    done
    if [ -n "$missing" ]; then
        row "$name" - "not installed:$missing"
    else
        "try_$name" "$name" || row "$name" - "failed, see $out"
    fi
done
find /tmp -maxdepth 1 -user "$(id -un)" -name 'jitted-*.so' -newer program.py -path "/tmp/jitted-$(cat pid 2>/dev/null)-*" -delete
