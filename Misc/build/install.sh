#!/bin/bash
# Installs the interpreter of BUILD to the prefix that it was configured with, below
# DESTDIR if that is set.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

prefix=$(sed -n 's/^--prefix=//p' "$BUILD/configure.args")
: "${prefix:=/usr/local}"
say install "${DESTDIR:-}$prefix"
logged "$BUILD/install.log" make -C "$BUILD" install DESTDIR="${DESTDIR:-}" ||
    die_log "$BUILD/install.log" "install to ${DESTDIR:-}$prefix failed"
say install "${DESTDIR:-}$prefix/bin/python$VERSION"
