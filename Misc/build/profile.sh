#!/bin/bash
# Profiles a Python program with perf and the interpreter of BUILD.
#
#     profile.sh demo          profiles the example of the how-to, with the output in
#                              build/demo; prints its call graph and checks it
#     profile.sh profile       profiles the program in ARGS, with the output in OUT
#     profile.sh flamegraph    the same, and draws flamegraph.svg
#     profile.sh annotate      profiles the program in ARGS with lines, writes its annotated
#                              source to annotate.html in OUT, and prints the hottest lines
#
# Writes perf.data and, except for annotate, perf-report.txt. MODE selects how perf finds the names:
#
#     map    frame pointers and /tmp/perf-PID.map
#     jit    DWARF and jitdump; writes perf.jit.data too
#     off    no Python names
#
# With WITH_LINES=1 (LINES=1 of make) the line of each function is shown too.
# FOLD=python leaves out frames of the interpreter in the flame graph. With BASELINE, the
# perf.data of another run, its colors show the difference.
#
# The exit status is that of the program.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
what=$1
[ "$what" != annotate ] || WITH_LINES=1
. Misc/build/perflib.sh

case $what in
demo)
    out=build/demo
    set -- Doc/includes/perf_example.py
    ;;
profile | flamegraph | annotate)
    out=$OUT
    [ -n "${ARGS:-}" ] || die "nothing to profile; use make $what ARGS=\"script.py ...\" or ARGS=\"-m module ...\""
    eval "set -- $ARGS"
    ;;
*) die "unknown request: $what" ;;
esac
if [ "$what" = flamegraph ]; then
    Misc/build/tools.sh flamegraph.pl
    if [ -n "${BASELINE:-}" ]; then
        [ -f "$BASELINE" ] || die "BASELINE=$BASELINE: no such file"
        for name in perf.data perf.jit.data; do
            [ ! "$BASELINE" -ef "$out/$name" ] ||
                die "BASELINE=$BASELINE: the new recording is written there; rename it or set OUT"
        done
    fi
fi
if [ "$MODE" = map ] && ! grep -qs '^BASECFLAGS=.*-fno-omit-frame-pointer' "$BUILD/Makefile"; then
    say profile "note: $BUILD has no frame pointers, so the stacks do not show outer functions; MODE=jit shows them"
fi

# finish FILES: names the files and exits with the status of the program
finish() {
    say profile "$1"
    [ "$status" = 0 ] || say profile "the program's exit status was $status"
    exit "$status"
}

mkdir -p "$out"
data=$out/perf.data
rm -f "$data" "$out/perf-report.txt" "$out/flamegraph.svg" "$out/annotate.html"

say profile "perf record ${RECORD_SWITCHES[*]} python ${PYTHON_SWITCH[*]} $*"
status=0
perf_record "$data" "$TOP/$BUILD/python" "${PYTHON_SWITCH[@]}" "$@" || status=$?
[ -s "$data" ] || die "perf record wrote no $data (exit status $status); if it has no permission: run as root sysctl kernel.perf_event_paranoid=1"
if [ "$MODE" = jit ]; then
    logged "$out/inject.log" perf_run --buildid-dir /dev/null inject -i "$data" --jit --output "$out/perf.jit.data" ||
        die_log "$out/inject.log" "perf inject failed"
    data=$out/perf.jit.data
fi

if [ "$what" = annotate ]; then
    profilers_run annotate.py "$data" -o "$out/annotate.html" --title "python $*" --text --percent-limit 1 || exit
    say annotate "$out/annotate.html: open it in a browser"
    finish "$data"
fi

{
    if [ "$MODE" != off ]; then
        own_time "$data" 2>"$out/note" || true
        printf '\n'
    fi
    printf 'Call graph, callers first, branches of 1 %% and more\n\n'
    perf_graph "$data"
} >"$out/perf-report.txt"
[ ! -s "$out/note" ] || say profile "note: $(sed 's/^owntime.py: \(note: \)\{0,1\}//' "$out/note")"
rm -f "$out/note"

if [ "$what" = demo ]; then
    perf_graph "$data" -S _PyEval_EvalFrameDefault
    read -r nested all <<<"$(perf_nested "$data")"
    say demo "py::<module> > py::foo > py::bar > py::baz in $nested of $all samples taken in baz"
    if [ "$all" = 0 ] || [ $((nested * 10)) -lt $((all * 9)) ]; then
        die "demo: the Python functions are not nested; see $out/perf-report.txt"
    fi
fi
if [ "$what" = flamegraph ]; then
    perf_flamegraph "$data" "python $*" >"$out/flamegraph.svg.new"
    mv "$out/flamegraph.svg.new" "$out/flamegraph.svg"
    say profile "$out/flamegraph.svg: open it in a browser, click to zoom, Ctrl-F to search"
fi
finish "$data, $out/perf-report.txt"
