#!/bin/bash
# Runs our tests (TESTS, or all) with the interpreter of BUILD and the profilers in
# build/tools/bin, JOBS modules at a time.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

Misc/build/packages.sh test
Misc/build/tools.sh hotspot-perfparser

export PERF="$TOP/build/tools/bin/perf" SAMPLY="$TOP/build/tools/bin/samply" PERFPARSER="$TOP/build/tools/bin/hotspot-perfparser" RESOLVE="$TOP/Misc/profilers/resolve.py" PROFILERS="$TOP/Misc/profilers"
export PYTHON_PERF_TESTS_REQUIRE_TOOLS=1
# The base's own tests search for perf in PATH.
export PATH="$TOP/build/tools/bin:$PATH"
# shellcheck disable=SC2086 # a list of names
as_user "${PYTHON:-$BUILD/python}" -E Misc/build/run_tests.py --jobs "${JOBS:=$(nproc)}" ${TESTS:-}
