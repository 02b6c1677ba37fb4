#!/bin/bash
# Configures and builds the tree build/VERSION/src in the directory BUILD.
#
#     build.sh                builds the patched interpreter
#     build.sh plain [DIR]    builds the unpatched one in build/VERSION-base or DIR
#
# PYTHON is the command that starts the interpreter, if it is not BUILD/python (cross.sh).
# TARGETS are the targets of the base's Makefile to be built instead of all.
#
# The base's configure gets CC, CFLAGS, LDFLAGS and CONFIGURE_ARGS, and runs again when they
# change. GIVEN lists them as far as the caller set them. If GIVEN is empty, BUILD keeps its
# last settings. install.sh takes care of the prefix.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/treelib.sh

if [ "${1:-}" = plain ]; then
    SRC=build/$VERSION-base/src
    BUILD=${2:-build/$VERSION-base}
fi
args=$BUILD/configure.args
python=$BUILD/python

# wanted_args: prints the arguments for configure, one a line
# shellcheck disable=SC2120 # the function sets its arguments itself
wanted_args() {
    if [ -z "${GIVEN:-}" ] && [ -f "$args" ]; then
        cat "$args"
        return
    fi
    echo "CC=$CC"
    [ -z "${CFLAGS:-}" ] || echo "CFLAGS=$CFLAGS"
    [ -z "${LDFLAGS:-}" ] || echo "LDFLAGS=$LDFLAGS"
    eval "set -- ${CONFIGURE_ARGS:-}"
    [ $# = 0 ] || printf '%s\n' "$@"
}

configure() {
    local list source reason
    mapfile -t list <"$args.new"
    say configure "$BUILD: ${list[*]}"
    source=$(realpath --relative-to="$BUILD" "$SRC")
    case $source in ../../../*) source=$TOP/$SRC ;; esac
    # make does not notice other flags, so remove the objects.
    if [ -f "$BUILD/Makefile" ] && [ -f "$args" ] && ! cmp -s "$args" "$args.new"; then
        make -C "$BUILD" clean >/dev/null 2>&1 || true
    fi
    rm -f "$args"
    logged "$BUILD/configure.log" env -C "$BUILD" "$source/configure" "${list[@]}" || {
        reason=$(sed -n 's/^configure: error: //p' "$BUILD/configure.log" | tail -n 1)
        [ -n "$reason" ] || die_log "$BUILD/configure.log" "$SRC/configure failed"
        die "$SRC/configure: $reason; log: $BUILD/configure.log"
    }
    mv "$args.new" "$args"
}

# up_to_date: succeeds if no source file is newer than the interpreter
up_to_date() {
    [ -f "$BUILD/build.stamp" ] && [ -x "$python" ] &&
        [ ! "$SRC.stamp" -nt "$BUILD/build.stamp" ] || return
    [ -z "$(find -L "$SRC" \( -name .pc -o -name __pycache__ -o -name test -o -path "$SRC/Doc" \) -prune -o \
        -type f -newer "$BUILD/build.stamp" ! -name '*.py[co]' ! -name '*.pickle' -print -quit)" ]
}

: "${CC:=cc}" "${JOBS:=$(nproc)}"
command -v "${CC%% *}" >/dev/null || die "compiler: CC=$CC: not found; set CC to another compiler or install this one"
with_lock "$BUILD"
if [ "$SRC/configure.ac" -nt "$SRC/configure" ]; then
    say configure "autoconf, autoheader: the base's own"
    tree_autoconf "$SRC" "$BUILD/autoconf.log"
fi
wanted_args >"$args.new"
if ! cmp -s "$args.new" "$args" || [ ! -f "$BUILD/Makefile" ] || [ "$SRC/configure" -nt "$BUILD/config.status" ]; then
    rm -f "$BUILD/build.stamp"
    configure
elif up_to_date; then
    say build "$python is up to date"
    exit 0
fi
rm -f "$args.new" "$BUILD/build.stamp"
say build "$BUILD: make -j$JOBS"
touch "$BUILD/build.stamp.new"
# shellcheck disable=SC2086 # a list of names
logged "$BUILD/build.log" make -C "$BUILD" -j"$JOBS" ${TARGETS:-} || {
    grep -E '(error|Error|undefined reference)' "$BUILD/build.log" | head -n 5 >&2 || true
    die_log "$BUILD/build.log" "$BUILD: make failed"
}
shared_library
"${PYTHON:=$python}" -c pass || die "$python: was built but does not run"
mv "$BUILD/build.stamp.new" "$BUILD/build.stamp"
missing=$(sed -n '/^The necessary bits to build these optional modules were not found/,/^$/p' "$BUILD/build.log" |
    sed '1d; /^To find/d' | tr -s ' \n' ' ')
[ -z "${missing# }" ] || say build "without optional modules: ${missing# }"
say build "$python: $("$PYTHON" --version)"
