#!/bin/bash
# Builds the unpatched interpreter with the compiler and the flags of BUILD, in the
# directory BUILD-unpatched. `make bench` and `make compare-loop` compare the two.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

# value NAME: what configure was given for a variable
value() {
    sed -n "s/^$1=//p" "$BUILD/configure.args"
}

# Frame pointers cost a little time. The unpatched interpreter gets them too, so that
# a comparison shows the cost of the patches alone.
frame_pointers=$(sed -n 's/^BASECFLAGS=//p' "$BUILD/Makefile" | grep -Eo -- '-(f|m)[a-z-]*frame-pointer' | tr '\n' ' ' || true)
given=$(value CFLAGS)
GIVEN="CC CFLAGS LDFLAGS CONFIGURE_ARGS"
CC=$(value CC)
CFLAGS=$(echo "$given $frame_pointers" | xargs)
LDFLAGS=$(value LDFLAGS)
# --with and --without-frame-pointers are options of ours.
CONFIGURE_ARGS=$(grep -Ev '^(CC|CFLAGS|LDFLAGS|--prefix|--with(out)?-frame-pointers)(=|$)' "$BUILD/configure.args" |
    while IFS= read -r argument; do printf '%q ' "$argument"; done || true)
export GIVEN CC CFLAGS LDFLAGS CONFIGURE_ARGS
Misc/build/build.sh plain "$BUILD-unpatched"
