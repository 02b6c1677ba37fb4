#!/bin/bash
# Compares the machine code of the eval loop in the interpreter of BUILD with that of the
# unpatched one with the same compiler and flags. Fails if it differs in more than calls
# of ours, whose hunks compare_loop.py prints as "allowed". ARGS are more arguments of
# compare_loop.py.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

Misc/build/unpatched.sh
file=python
if [ -n "${LD_LIBRARY_PATH:-}" ] && [ -e "$BUILD/libpython$VERSION.so.1.0" ]; then
    file=libpython$VERSION.so.1.0       # --enable-shared
fi
say compare "_PyEval_EvalFrameDefault in $BUILD-unpatched/$file and $BUILD/$file"
eval "set -- ${ARGS:-}"
"$BUILD/python" -E Misc/build/compare_loop.py --allow '^(call|jmp|bl|b|jal|j|tail) .*\b_PyPerf' "$@" \
    "$BUILD-unpatched/$file" "$BUILD/$file"
