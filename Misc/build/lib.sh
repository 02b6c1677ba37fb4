# shellcheck shell=bash disable=SC2034
# Functions shared by the scripts of this directory, which source this file
# from the repository's top directory. Settings come from the environment:
#   VERSION  CPython series, 3.11        BUILD  object directory, build/$VERSION

: "${VERSION:=3.11}" "${BUILD:=build/$VERSION}"
TOP=$(pwd -P)
NAME=$(basename "$0" .sh)
SRC=build/$VERSION/src

USER_LC_ALL=${LC_ALL-unset}
export LC_ALL=C
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL CDPATH QUILT_PATCHES QUILT_PC

# say STEP TEXT: one line of progress
say() {
    printf '%-10s %s\n' "$1" "$2"
}

# die TEXT: one line on stderr, and the end
die() {
    printf '%s: %s\n' "$NAME" "$1" >&2
    exit 1
}

# logged LOG COMMAND...: runs it with its output in LOG
logged() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 </dev/null
}

# die_log LOG TEXT: the tail of the log, then one line that names it
die_log() {
    tail -n 20 "$1" | sed 's/^/    /' >&2
    die "$2; log: $1"
}

# with_lock DIR: waits for another make that works on DIR
with_lock() {
    mkdir -p "$1"
    exec 9>"$1/.lock"
    ! command -v flock >/dev/null || flock 9
}

# patch_names SERIES-FILE: the names of its patches
patch_names() {
    sed 's/[[:space:]]*\(#.*\)*$//; s/[[:space:]].*//; /^$/d' "$1"
}

# sum: the sha256 of standard input
sum() {
    sha256sum | cut -d' ' -f1
}

# as_user COMMAND...: runs it with the user's locale and without the settings
# of this build, which programs and tests would take for theirs
as_user() {
    local locale=(-u LC_ALL)
    [ "$USER_LC_ALL" = unset ] || locale=("LC_ALL=$USER_LC_ALL")
    env -u ARGS -u BASE -u BUILD -u CC -u CFLAGS -u CONFIGURE_ARGS -u CROSS_CFLAGS -u DESTDIR -u JOBS \
        -u LDFLAGS -u MAKE_TERMERR -u MAKE_TERMOUT -u MODE -u OUT -u PATCH -u TESTOPTS -u TESTS -u VERSION \
        -u prefix "${locale[@]}" "$@"
}

# shared_library: a BUILD with --enable-shared finds its own library, not the system's
shared_library() {
    if grep -qs -e --enable-shared "$BUILD/configure.args"; then
        export LD_LIBRARY_PATH=$TOP/$BUILD
    fi
}
shared_library
