# shellcheck shell=bash disable=SC2034
# Functions for all scripts of this directory. They source this file from the top
# directory of the repository. Settings come from the environment:
#   VERSION  CPython series (version.sh)     BUILD  object directory, build/$VERSION

VERSION=$(Misc/build/version.sh) || exit
: "${BUILD:=build/$VERSION}"
TOP=$(pwd -P)
NAME=$(basename "$0" .sh)
SRC=build/$VERSION/src

USER_LC_ALL=${LC_ALL-unset}
export LC_ALL=C
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL CDPATH QUILT_PATCHES QUILT_PC

# say STEP TEXT: prints a line of progress
say() {
    printf '%-10s %s\n' "$1" "$2"
}

# die TEXT: prints a line on stderr and exits with status 1
die() {
    printf '%s: %s\n' "$NAME" "$1" >&2
    exit 1
}

# logged LOG COMMAND...: runs the command with its output in LOG
logged() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 </dev/null
}

# die_log LOG TEXT: prints the end of the log and a line that names it, then exits
die_log() {
    tail -n 20 "$1" | sed 's/^/    /' >&2
    die "$2; log: $1"
}

# with_lock DIR: locks DIR until the script ends; waits while another make has the lock
with_lock() {
    mkdir -p "$1"
    exec 9>"$1/.lock"
    ! command -v flock >/dev/null || flock 9
}

# patch_names SERIES-FILE: prints the names of the patches in the series
patch_names() {
    sed 's/[[:space:]]*\(#.*\)*$//; s/[[:space:]].*//; /^$/d' "$1"
}

# allowed_differences: prints what Misc/abi/allowed.txt has for this series, KIND NAME a line
allowed_differences() {
    sed "s/#.*//; s/^$VERSION //; /^[0-9]/d" Misc/abi/allowed.txt
}

# suite_of_series: prints the suite of Debian whose python3 is of the series VERSION
suite_of_series() {
    awk -v series="$VERSION" '$1 == series { print $2 }' Misc/base/suites
}

# sum: prints the sha256 of standard input
sum() {
    sha256sum | cut -d' ' -f1
}

# as_user COMMAND...: runs the command with the user's locale and without the settings
# of this build, because programs and tests may use variables of the same names
as_user() {
    local locale=(-u LC_ALL)
    [ "$USER_LC_ALL" = unset ] || locale=("LC_ALL=$USER_LC_ALL")
    env -u ARGS -u BASE -u BASELINE -u BUILD -u CC -u CFLAGS -u CONFIGURE_ARGS -u CROSS_CFLAGS -u DESTDIR -u FOLD -u JOBS \
        -u LDFLAGS -u MAKE_TERMERR -u MAKE_TERMOUT -u MODE -u OUT -u PATCH -u TESTOPTS -u TESTS -u VERSION \
        -u prefix "${locale[@]}" "$@"
}

# find_private_tmp: sets `private_tmp` to words that are put before a command. The command
# then has its own /tmp, which is empty. There are no such words if /tmp cannot be mounted,
# or if this repository is below /tmp.
find_private_tmp() {
    private_tmp=()
    case $TOP/ in
    /tmp/*) ;;
    *)
        if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
            # shellcheck disable=SC2016 # the variables are those of sh
            private_tmp=(unshare -m sh -c 'mount -t tmpfs -o mode=1777 tmpfs /tmp && exec "$@"' sh)
        fi
        ;;
    esac
}

# shared_library: lets a BUILD with --enable-shared load its own libpython
shared_library() {
    if grep -qs -e --enable-shared "$BUILD/configure.args"; then
        export LD_LIBRARY_PATH=$TOP/$BUILD
    fi
}
shared_library
