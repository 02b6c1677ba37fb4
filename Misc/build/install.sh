#!/bin/bash
# Installs the interpreter of BUILD to prefix, below DESTDIR if that is set.
#
# Someone may be running the interpreter of BUILD, so nothing in BUILD changes. Its objects
# are copied to BUILD-install. There only what knows the prefix is made again: the base's
# Makefile and what else config.status writes, getpath.o, and the programs and data that are
# made from them. If the installation succeeds, the copy is removed.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

: "${JOBS:=$(nproc)}" "${DESTDIR:=}"
log=build/log/install.log
log_again=build/log/install-objects.log
copy=$BUILD-install

# check_path VARIABLE: ends the script if its value is a path that the base's Makefile
# cannot install to; makes the path absolute
check_path() {
    local -n path=$1
    [ -z "$(printf %s "$path" | tr -d '[:alnum:]./_+@%=~,\200-\377-')" ] ||
        die "$1='$path': the base's Makefile installs to no path with spaces or special characters"
    [ -z "$path" ] || path=$(realpath -ms "$path")
}

# check_permission PATH: ends the script if PATH can be neither written nor made
check_permission() {
    local place=$1
    while [ ! -e "$place" ] && [ ! -L "$place" ]; do
        place=$(dirname "$place")
    done
    [ -d "$place" ] || die "$1: $place is not a directory"
    if [ ! -w "$place" ] || [ ! -x "$place" ]; then
        die "$1: no permission to write to $place"
    fi
}

# keep_times: gives each file of the copy that was made again with the same content the time
# of the one in BUILD, so that nothing is compiled again because of it; and the Makefile,
# since it is known here what depends on it
keep_times() {
    local file
    while IFS= read -r -d '' file; do
        case $file in Makefile | Makefile.pre) ;; *) cmp -s "$BUILD/$file" "$copy/$file" || continue ;; esac
        touch -r "$BUILD/$file" "$copy/$file"
    done < <(cd "$copy" && find . -newer install.begin -type f -printf '%P\0')
}

# make_again: makes in the copy what knows the prefix
make_again() {
    local old new
    old=$(realpath "$BUILD") new=$(realpath "$copy")
    touch "$copy/install.begin"
    # In replacements of sed, & and the delimiter are special. check_path() refuses both.
    sed -i -e "s|^S\[\"prefix\"\]=.*|S[\"prefix\"]=\"$prefix\"|" \
        -e "/^S\[\"CONFIG_ARGS\"\]=/s|=\"|=\"'--prefix=$prefix'|" \
        -e "/^S\[\"RUNSHARED\"\]=/s|$old|$new|g" "$copy/config.status"
    touch -r "$BUILD/config.status" "$copy/config.status"
    (cd "$copy" && ./config.status && make Makefile) || return
    keep_times
    rm "$copy/Modules/getpath.o"
    make -C "$copy" Modules/getpath.o || return
    # The bootstrap interpreter has it too, and must not be made again.
    touch -r "$BUILD/Modules/getpath.o" "$copy/Modules/getpath.o"
    rm -f "$copy"/libpython*.a "$copy"/libpython*.so* "$copy/python" "$copy/pybuilddir.txt"
    make -C "$copy" -j"$JOBS"
}

: "${prefix:=$(sed -n 's/^--prefix=//p' "$BUILD/configure.args")}"
: "${prefix:=/usr/local}"
check_path prefix
check_path DESTDIR
target=${DESTDIR%/}$prefix
check_permission "$target"

say install "$copy: what knows the prefix $prefix"
with_lock "$copy"
(
    with_lock "$BUILD"
    find "$copy" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
    find "$BUILD" -mindepth 1 -maxdepth 1 ! -name .lock ! -name src -exec cp -a -t "$copy" {} +
    # The paths of the sources are relative.
    [ ! -d "$BUILD/src" ] || ln -s "../$(basename "$BUILD")/src" "$copy/src"
) || die "$BUILD: cannot be copied to $copy"
logged "$log_again" make_again || die_log "$log_again" "$copy: make failed"
say install "$target"
logged "$log" make -C "$copy" install DESTDIR="$DESTDIR" || die_log "$log" "install to $target failed"
if [ -z "$DESTDIR" ]; then
    found=$(env LD_LIBRARY_PATH="$prefix/lib" "$prefix/bin/python$VERSION" -I -c \
        'import sys; print(sys.prefix)') || die "$prefix/bin/python$VERSION: does not run"
    [ "$(realpath "$found")" = "$(realpath "$prefix")" ] ||
        die "$prefix/bin/python$VERSION: its sys.prefix is $found"
fi
rm -rf "$copy"
say install "$target/bin/python$VERSION"
