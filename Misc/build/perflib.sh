# shellcheck shell=bash
# Functions of profile.sh that run perf. Source this file after lib.sh. Uses MODE.

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

# perf_run: runs perf without the user's configuration and debug server
perf_run() {
    env -u DEBUGINFOD_URLS PERF_CONFIG=/dev/null "$TOP/build/tools/bin/perf" "$@"
}

# perf_record DATA COMMAND...: records the command in DATA; returns its exit status
perf_record() {
    local data=$1 rate=9999 limit
    shift
    limit=$(cat /proc/sys/kernel/perf_event_max_sample_rate 2>/dev/null || echo 0)
    [ "$limit" -ge "$rate" ] || rate=max
    as_user env -u DEBUGINFOD_URLS "$TOP/build/tools/bin/perf" record --quiet --no-buildid-cache \
        -F "$rate" "${RECORD_SWITCHES[@]}" -o "$data" -- "$@"
}

# perf_functions DATA: prints of each Python function the share with callees, the share
# without them and the name
perf_functions() {
    perf_run report -i "$1" --stdio --quiet --children -g none -F overhead_children,overhead,sym \
        --percent-limit 0.5 2>/dev/null | sed -n 's/ *$//; /\] py::/{s/\[.\] //; p; }'
}

# perf_graph DATA OPTIONS...: prints the call graph, callers first
perf_graph() {
    local data=$1
    shift
    perf_run report -i "$data" --stdio --quiet --no-children -g caller,1 --percent-limit 1 "$@" \
        2>/dev/null | sed '/^#/d; s/ *$//' | cat -s
}

# perf_flamegraph DATA TITLE: prints an SVG of all stacks. Names with "::" are yellow,
# so all Python functions are. Other names are red.
perf_flamegraph() {
    perf_run report -i "$1" --stdio --quiet --no-children -s comm -g folded,0,caller,function,count \
        --max-stack 1024 2>/dev/null | sed -nE 's/^([0-9]+) (.*)$/\2 \1/p' |
        "$TOP/build/tools/bin/flamegraph.pl" --colors java --hash --minwidth 0.5 --title "$2" --countname samples
}

# perf_nested DATA: prints the number of samples in py::baz whose callers are py::bar,
# py::foo and py::<module> in this order, and the number of all samples in py::baz
perf_nested() {
    perf_run script -i "$1" -F ip,sym 2>/dev/null | awk -v RS= '
        /py::baz:/ { all++ }
        /py::baz:.*py::bar:.*py::foo:.*py::<module>:/ { nested++ }
        END { print nested + 0, all + 0 }'
}
