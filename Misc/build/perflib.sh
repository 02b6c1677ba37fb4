# shellcheck shell=bash
# What profile.sh does with perf. To be sourced after lib.sh; uses MODE.

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
*) die "MODE=$MODE: unknown; map, jit or off" ;;
esac

# The result is to depend on no configuration, debug server or cache of the user.
perf_run() {
    env -u DEBUGINFOD_URLS PERF_CONFIG=/dev/null "$TOP/build/tools/bin/perf" "$@"
}

# perf_record DATA COMMAND...: exit status of the command
perf_record() {
    local data=$1 rate=9999 limit
    shift
    limit=$(cat /proc/sys/kernel/perf_event_max_sample_rate 2>/dev/null || echo 0)
    [ "$limit" -ge "$rate" ] || rate=max
    as_user env -u DEBUGINFOD_URLS "$TOP/build/tools/bin/perf" record --quiet --no-buildid-cache \
        -F "$rate" "${RECORD_SWITCHES[@]}" -o "$data" -- "$@"
}

# perf_functions DATA: share with callees, share of its own, name
perf_functions() {
    perf_run report -i "$1" --stdio --quiet --children -g none -F overhead_children,overhead,sym \
        --percent-limit 0.5 2>/dev/null | sed -n 's/ *$//; /\] py::/{s/\[.\] //; p; }'
}

# perf_graph DATA OPTIONS...: the call graph, callers first
perf_graph() {
    local data=$1
    shift
    perf_run report -i "$data" --stdio --quiet --no-children -g caller,1 --percent-limit 1 "$@" \
        2>/dev/null | sed '/^#/d; s/ *$//' | cat -s
}

# perf_flamegraph DATA TITLE: an SVG of all stacks. In these colors what has a "::"
# in its name, and so all Python functions, is yellow and the rest is red.
perf_flamegraph() {
    perf_run report -i "$1" --stdio --quiet --no-children -s comm -g folded,0,caller,function,count \
        --max-stack 1024 2>/dev/null | sed -nE 's/^([0-9]+) (.*)$/\2 \1/p' |
        "$TOP/build/tools/bin/flamegraph.pl" --colors java --hash --minwidth 0.5 --title "$2" --countname samples
}

# perf_nested DATA: of all samples in py::baz, how many have py::bar, py::foo and
# py::<module> above it in this order
perf_nested() {
    perf_run script -i "$1" -F ip,sym 2>/dev/null | awk -v RS= '
        /py::baz:/ { all++ }
        /py::baz:.*py::bar:.*py::foo:.*py::<module>:/ { nested++ }
        END { print nested + 0, all + 0 }'
}
