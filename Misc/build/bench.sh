#!/bin/bash
# Measures what profiling costs: the interpreter of BUILD, the unpatched one built
# with the same flags, and a newer CPython that has a perf support of its own, with
# Misc/bench/bench.py. ARGS are more arguments for it. Leaves bench.txt, bench.json
# and bench.svg in build/bench.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

Misc/build/packages.sh bench
Misc/build/tools.sh python3.13
unpatched=build/$VERSION-bench
# Frame pointers cost a little; what the patches cost is to be seen.
flags=$(sed -n 's/^BASECFLAGS=//p' "$BUILD/Makefile" | grep -Eo -- '-(f|m)[a-z-]*frame-pointer' | tr '\n' ' ' || true)
given=$(sed -n 's/^CFLAGS=//p' "$BUILD/configure.args")
cc=$(sed -n 's/^CC=//p' "$BUILD/configure.args")
GIVEN="CC CFLAGS" CC=$cc CFLAGS="$given $flags" CONFIGURE_ARGS='' Misc/build/build.sh plain "$unpatched"

# The peer's command without the shell that its wrapper is.
peer=$PWD/build/tools/bin/python3.13
peer=$(sh -c "$(sed '$d' "$peer")"'; printf "%s " "$@"' "$peer")
eval "set -- ${ARGS:-}"
as_user "$BUILD/python" -E Misc/bench/bench.py --unpatched "$unpatched/python" --peer "$peer" "$@"
say bench "build/bench/bench.txt, build/bench/bench.json, build/bench/bench.svg"
