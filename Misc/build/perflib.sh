# shellcheck shell=bash
# Functions of profile.sh that run perf. Source this file after lib.sh. Uses MODE,
# WITH_LINES, FOLD and BASELINE.

# shellcheck disable=SC2034 # used by profile.sh
case ${MODE:=map} in
map)
    PYTHON_SWITCH=(-X perf)
    RECORD_SWITCHES=(-g)
    ;;
jit)
    PYTHON_SWITCH=(-X perf_jit)
    RECORD_SWITCHES=(-k 1 --call-graph dwarf)
    ;;
off)
    PYTHON_SWITCH=()
    RECORD_SWITCHES=(-g)
    ;;
*) die "MODE=$MODE: unknown mode; expected map, jit or off" ;;
esac

# How perf tells the entries of stacks apart. In a perf map the line is a part of the name.
STACK_KEY=function
case ${WITH_LINES:-0} in
0) ;;
1)
    [ "$MODE" != off ] || die "LINES=1: MODE=off shows no Python functions; use MODE=map or MODE=jit"
    PYTHON_SWITCH=(-X "${PYTHON_SWITCH[1]}=lines")
    [ "$MODE" = map ] || STACK_KEY=srcline
    ;;
*) die "LINES=$WITH_LINES: expected 1 or 0" ;;
esac

case ${FOLD:-all} in
all | python) ;;
*) die "FOLD=$FOLD: expected all or python" ;;
esac

# perf_run: runs perf without the user's configuration and debug server
perf_run() {
    env -u DEBUGINFOD_URLS PERF_CONFIG=/dev/null "$TOP/build/tools/bin/perf" "$@"
}

# perf_record DATA COMMAND...: records the command in DATA; returns its exit status
perf_record() {
    local data=$1 rate=9999 limit
    shift
    [ "$MODE" != jit ] || rate=1999     # each sample has 8 kB of the stack
    limit=$(cat /proc/sys/kernel/perf_event_max_sample_rate 2>/dev/null || echo 0)
    [ "$limit" -ge "$rate" ] || rate=max
    as_user env -u DEBUGINFOD_URLS "$TOP/build/tools/bin/perf" record --quiet --no-buildid-cache \
        -F "$rate" "${RECORD_SWITCHES[@]}" -o "$data" -- "$@"
}

# profilers_run NAME ARGUMENTS...: runs a command of Misc/profilers with our interpreter
profilers_run() {
    local name=$1
    shift
    as_user env PERF="$TOP/build/tools/bin/perf" "$TOP/$BUILD/python" -E "$TOP/Misc/profilers/$name" "$@"
}

# own_time DATA: prints of each Python function the share with callees and its own; with
# lines, of each line that was executed
own_time() {
    local lines=()
    [ "${WITH_LINES:-0}" = 0 ] || lines=(--lines)
    profilers_run owntime.py "${lines[@]}" "$1"
}

# perf_graph DATA OPTIONS...: prints the call graph, callers first
perf_graph() {
    local data=$1
    shift
    perf_run report -i "$data" --stdio --quiet --no-children -g "caller,$STACK_KEY,1" --percent-limit 1 "$@" \
        2>/dev/null | sed '/^#/d; s/ *$//' | cat -s
}

# perf_flamegraph DATA TITLE: prints an SVG of all stacks. Names with "::" are yellow,
# so all Python functions are. Other names are red. With BASELINE, the recording of another
# run, what takes a larger share than there is red, and what takes a smaller one is blue.
perf_flamegraph() {
    local options=() title=$2
    [ "${FOLD:-all}" = all ] || options+=(--python)
    [ "${WITH_LINES:-0}" = 0 ] || options+=(--lines)
    if [ -n "${BASELINE:-}" ]; then
        options+=(--baseline "$BASELINE")
        title="$title (red: more than in ${BASELINE##*/}, blue: less)"
    fi
    profilers_run fold.py "${options[@]}" "$1" |
        "$TOP/build/tools/bin/flamegraph.pl" --colors java --hash --minwidth 0.5 --title "$title" --countname samples
}

# perf_nested DATA: prints the number of samples in py::baz whose callers are py::bar,
# py::foo and py::<module> in this order, and the number of all samples in py::baz
perf_nested() {
    perf_run script -i "$1" -F ip,sym 2>/dev/null | awk -v RS= '
        /py::baz:/ { all++ }
        /py::baz:.*py::bar:.*py::foo:.*py::<module>:/ { nested++ }
        END { print nested + 0, all + 0 }'
}
