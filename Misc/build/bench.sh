#!/bin/bash
# Measures what profiling costs, with Misc/bench/bench.py. ARGS are more arguments of
# bench.py.
#
#     bench.sh                 compares the interpreter of BUILD, the unpatched one with
#                              the same flags, and one with perf support of its own: the
#                              unpatched one, or if it has none, a newer CPython; writes
#                              bench.txt, bench.json and bench.svg to build/bench
#     bench.sh instructions    counts instructions of the first two; writes bench.txt and
#                              bench.json to build/instructions
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

Misc/build/packages.sh bench
Misc/build/unpatched.sh
arguments=(--unpatched "$BUILD-unpatched/python")
if [ "${1:-}" = instructions ]; then
    output=build/instructions
    arguments+=(--instructions-only)
else
    output=build/bench
    if [ -f "Misc/patches/$VERSION/replaced" ]; then
        peer=$BUILD-unpatched/python        # the base has perf support of its own
    else
        Misc/build/tools.sh python3.13
        # bench.py measures processes, so it starts the peer without the wrapper's shell.
        peer=$PWD/build/tools/bin/python3.13
        peer=$(sh -c "$(sed '$d' "$peer")"'; printf "%s " "$@"' "$peer")
    fi
    arguments+=(--peer "$peer")
fi
eval "set -- ${ARGS:-}"
as_user "$BUILD/python" -E Misc/bench/bench.py --output "$output" "${arguments[@]}" "$@"
say bench "$output: $(cd "$output" && echo bench.*)"
