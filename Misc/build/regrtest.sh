#!/bin/bash
# Runs the base's test suite with TESTOPTS.
#
#     regrtest.sh          tests the interpreter of BUILD
#     regrtest.sh plain    tests the unpatched one, build/VERSION-base/python
#
# PERF=off|map|jit|lines|jit-lines selects the profiling mode of all interpreters that the
# suite starts. With PERF=switching, a thread of each process of the suite switches
# profiling on and off all the time; with PERF=switching-idle, that thread does nothing.
#
# For root the suite gets a private /tmp, because it leaves many files there. The results
# are build/regrtest/NAME.xml and NAME.log. If the unpatched interpreter (for
# PERF=switching: switching-idle) was tested with the same TESTOPTS, compare_junit.py
# compares the results. Then the exit status is 1 if tests passed there and not here.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

name=${PERF:-off}
case $name in
off) switch=(-E) ;;
map) export PYTHONPERFSUPPORT=1; switch=() ;;
jit) export PYTHON_PERF_JIT_SUPPORT=1; switch=() ;;
lines) export PYTHONPERFSUPPORT=lines; switch=() ;;
jit-lines) export PYTHON_PERF_JIT_SUPPORT=lines; switch=() ;;
switching) switch=(-E "$TOP/Misc/build/switching.py") ;;
switching-idle) switch=(-E "$TOP/Misc/build/switching.py" --idle) ;;
*) die "PERF=$name: unknown mode; expected off, map, jit, lines, jit-lines, switching or switching-idle" ;;
esac
if [ "${1:-}" = plain ]; then
    BUILD=build/$VERSION-base
    name=base
fi

out=$TOP/build/regrtest
mkdir -p "$out"
rm -f "$out/$name.xml"
echo "$TESTOPTS" >"$out/$name.options"
# All modes but off run without -E, so remove all other variables of Python.
for variable in $(compgen -e PYTHON); do
    case $variable in PYTHONPERFSUPPORT | PYTHON_PERF_JIT_SUPPORT) ;; *) unset "$variable" ;; esac
done
unset PERF SAMPLY
for tool in perf samply; do
    [ ! -x "build/tools/bin/$tool" ] || export "${tool^^}=$TOP/build/tools/bin/$tool"
done

# shellcheck disable=SC2206 # a list of arguments
command=("$TOP/$BUILD/python" -bb "${switch[@]}" -m test $TESTOPTS --junit-xml "$out/$name.xml")
case $name in switching*) command+=(--python "$TOP/$BUILD/python -bb ${switch[*]}") ;; esac
find_private_tmp
# Tests fail if SIGINT is ignored, as it is in background jobs.
command=(env --default-signal "${private_tmp[@]}" "${command[@]}")
# The usual limit of a login session. Tests list all descriptors up to the limit. Our
# descriptor is above it (Python/perf_fd.c), if the hard limit is higher.
ulimit -S -n 1024
cd "$BUILD"
say regrtest "${private_tmp:+in a private /tmp: }python -bb ${switch[*]} -m test $TESTOPTS"
status=0
as_user "${command[@]}" 2>&1 </dev/null | tee "$out/$name.log" || true
status=${PIPESTATUS[0]}
say regrtest "build/regrtest/$name.xml, build/regrtest/$name.log"
other=$([ "$name" = switching ] && echo switching-idle || echo base)
if [ "$name" != base ] && [ -s "$out/$other.xml" ] && cmp -s "$out/$other.options" "$out/$name.options"; then
    "$TOP/$BUILD/python" -E "$TOP/Misc/build/compare_junit.py" "$out/$other.xml" "$out/$name.xml"
    exit
fi
exit "$status"
