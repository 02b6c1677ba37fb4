#!/bin/bash
# Runs the base's test suite with TESTOPTS.
#
#     regrtest.sh          tests the interpreter of BUILD
#     regrtest.sh plain    tests the unpatched one, build/VERSION-base/python
#
# PERF=off|map|jit|lines|jit-lines selects the profiling mode of all interpreters that the suite starts.
# For root the suite gets a private /tmp, because it leaves many files there. The results
# are build/regrtest/NAME.xml and NAME.log. compare_junit.py compares two of them.
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
*) die "PERF=$name: unknown mode; expected off, map, jit, lines or jit-lines" ;;
esac
if [ "${1:-}" = plain ]; then
    BUILD=build/$VERSION-base
    name=base
fi

out=$TOP/build/regrtest
mkdir -p "$out"
rm -f "$out/$name.xml"
# All modes but off run without -E, so remove all other variables of Python.
for variable in $(compgen -e PYTHON); do
    case $variable in PYTHONPERFSUPPORT | PYTHON_PERF_JIT_SUPPORT) ;; *) unset "$variable" ;; esac
done
unset PERF SAMPLY
for tool in perf samply; do
    [ ! -x "build/tools/bin/$tool" ] || export "${tool^^}=$TOP/build/tools/bin/$tool"
done

# shellcheck disable=SC2206 # a list of arguments
command=("$TOP/$BUILD/python" "${switch[@]}" -bb -m test $TESTOPTS --junit-xml "$out/$name.xml")
case $TOP/ in
/tmp/*) private= ;;     # a private /tmp would hide this directory
*) private=$(if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then echo yes; fi) ;;
esac
if [ -n "$private" ]; then
    # shellcheck disable=SC2016 # the variables are those of sh
    command=(unshare -m sh -c 'mount -t tmpfs -o mode=1777 tmpfs /tmp && exec "$@"' sh "${command[@]}")
fi
# Tests fail if SIGINT is ignored, as it is in background jobs.
command=(env --default-signal "${command[@]}")
# The usual limit of a login session. Tests list all descriptors up to the limit. Our
# descriptor is above it (Python/perf_fd.c), if the hard limit is higher.
ulimit -S -n 1024
cd "$BUILD"
say regrtest "${private:+in a private /tmp: }python ${switch[*]} -bb -m test $TESTOPTS"
status=0
as_user "${command[@]}" 2>&1 </dev/null | tee "$out/$name.log" || true
status=${PIPESTATUS[0]}
say regrtest "build/regrtest/$name.xml, build/regrtest/$name.log"
exit "$status"
