#!/bin/bash
# Compares the machine code of the eval loop in the interpreter of BUILD with that of the
# unpatched one with the same compiler and flags. Fails if it differs in more than calls
# of ours. ARGS are more arguments of compare_loop.py.
#
# 3.11: compares both, instruction by instruction. compare_loop.py prints hunks with calls
#     of ours as "allowed".
# 3.13: here our hook has one argument more than the call that it replaces, so the compiler
#     allocates the registers of the whole loop a little differently. Two comparisons:
#     - The interpreter is linked again, with a loop that was compiled with
#       PERF_WITHOUT_HAND_OVER: it has the base's call instead of the hook. Its machine code
#       must be the base's, instruction by instruction.
#     - The loop of BUILD must have the same number of each kind of instruction and of calls
#       of each function as the base's, but for the hook and what passes its argument.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

# link_without_hook OUTPUT: links the interpreter of BUILD again, without the hook
link_without_hook() {
    local object=$1.o commands
    # shellcheck disable=SC2016 # variables of make
    commands=$(printf '%b\n' 'print:' \
        '\t@echo "$(CC) $(PY_CORE_CFLAGS)"' \
        '\t@echo "$(LINKCC) $(PY_CORE_LDFLAGS) $(LINKFORSHARED)"' \
        '\t@echo "Programs/python.o $(LIBRARY_OBJS) $(LIBS) $(MODLIBS) $(SYSLIBS)"' \
        '\t@echo "$(srcdir)"' |
        make -s --no-print-directory -C "$BUILD" -f Makefile -f - print)
    local compile link objects source
    { IFS= read -r compile && IFS= read -r link && IFS= read -r objects && IFS= read -r source; } <<<"$commands"
    [[ " $objects " == *" Python/ceval.o "* ]] || die "$BUILD/Makefile: no Python/ceval.o"
    objects=${objects/ Python\/ceval.o / $object }
    say compare "$1: $BUILD without the hook"
    (cd "$BUILD" && eval "$compile -DPERF_WITHOUT_HAND_OVER -c $source/Python/ceval.c -o $object" &&
        eval "$link -o $1 $objects")
}

Misc/build/unpatched.sh
file=python
if [ -n "${LD_LIBRARY_PATH:-}" ] && [ -e "$BUILD/libpython$VERSION.so.1.0" ]; then
    file=libpython$VERSION.so.1.0       # --enable-shared
fi
base=$BUILD-unpatched/$file
eval "set -- ${ARGS:-}"
if [ "$VERSION" = 3.11 ]; then
    say compare "_PyEval_EvalFrameDefault in $base and $BUILD/$file"
    "$BUILD/python" -E Misc/build/compare_loop.py --allow '^(call|jmp|bl|b|jal|j|tail) .*\b_PyPerf' "$@" \
        "$base" "$BUILD/$file"
else
    [ "$file" = python ] || die "make compare-loop: not for --enable-shared"
    mkdir -p build/compare-loop
    control=$TOP/build/compare-loop/python
    link_without_hook "$control"
    say compare "_PyEval_EvalFrameDefault in $base and $control"
    "$BUILD/python" -E Misc/build/compare_loop.py "$@" "$base" "$control"
    say compare "_PyEval_EvalFrameDefault in $base and $BUILD/$file"
    "$BUILD/python" -E Misc/build/compare_loop.py \
        --count _Py_HandlePending=_PyPerfEvalLoop_HandlePending "$@" "$base" "$BUILD/$file"
fi
