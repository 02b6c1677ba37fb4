#!/bin/bash
# Finds or downloads the base, the release of CPython that is patched.
#
#     base.sh id            prints a text that identifies the base
#     base.sh unpack DIR    checks the base and unpacks it to DIR, which it replaces
#     base.sh path          prints the path of the tarball or tree
#     base.sh fetch         downloads the base and the distribution's patches
#
# BASE=PATH uses a tarball or an unpacked tree instead of a download. The scripts
# remember PATH until `make clean` or BASE= (empty). A tarball of the pinned release
# must have the checksum in Misc/base/SHA256SUMS.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
NAME=base

downloads=build/downloads
remembered=build/$VERSION/base-path
# The first pinned tarball of the series is the one that Debian has in the suite `suite`.
tarball=$(sed -n "s/.*\(Python-$VERSION\.[0-9]*\.t.*\)/\1/p" Misc/base/SHA256SUMS | head -n 1)
release=$(echo "$tarball" | sed 's/^Python-//; s/\.t.*//')
suite=$(suite_of_series)
case $release:$suite in
:* | *:) die "Misc/base/SHA256SUMS and Misc/base/suites must both have Python $VERSION" ;;
esac

pinned() {
    grep -q "^$1 " Misc/base/SHA256SUMS
}

# locate: sets `base` to the given, remembered or downloaded base
locate() {
    if [ -n "${BASE+set}" ]; then
        base=$BASE
        [ -z "$base" ] || [ -e "$base" ] || die "BASE: $base: no such file or directory"
    elif [ -s "$remembered" ]; then
        base=$(cat "$remembered")
        [ -e "$base" ] || die "$base: the BASE given before is gone; give BASE=PATH, or BASE= for the distribution's"
    else
        base=
    fi
    if [ -z "$base" ]; then
        case $tarball in
        *.tgz) base=$downloads/python${VERSION}_$release.orig.tar.gz ;;
        *) base=$downloads/python${VERSION}_$release.orig.tar.${tarball##*.} ;;
        esac
        fetched=yes
    else
        base=$(realpath "$base")
        fetched=
    fi
}

# base_id: prints `release X` for a pinned tarball, the checksum of another tarball, or
# for a tree the checksum of its list of files with sizes and times
base_id() {
    if [ -n "$fetched" ]; then
        echo "release $release"
    elif [ -d "$base" ]; then
        echo "tree $base $(cd "$base" && find . \( -name .git -o -name __pycache__ \) -prune -o \
            -type f -printf '%p %s %T@\n' | sort | sum)"
    else
        local found
        found=$(sum <"$base")
        if pinned "$found"; then echo "release $release"; else echo "sha256 $found"; fi
    fi
}

fetch() {
    local codename
    mkdir -p "$downloads"
    if [ -f "$base" ] && pinned "$(sum <"$base")"; then
        [ "${1:-}" = distro ] || return 0
        [ -z "$(find "$downloads" -name "python${VERSION}_*.debian.tar.*")" ] || return 0
    fi
    rm -rf "$downloads/.new"
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
    say base "fetching Python $release: source of python$VERSION in Debian $suite"
    # A distribution that derives from Debian may have it in its own suite.
    Misc/build/apt.sh source "$downloads/.new" "$suite" "python$VERSION" 2>build/log/base.err ||
        { [ "$codename" != "$suite" ] &&
            Misc/build/apt.sh source "$downloads/.new" "$codename" "python$VERSION" 2>build/log/base.err; } ||
        die "cannot fetch the source of python$VERSION ($(tail -n 1 build/log/base.err)); give a tarball: make BASE=/path/to/Python-$release.tar.xz"
    pinned "$(sum <"$downloads/.new/${base##*/}")" ||
        die "$downloads/.new/${base##*/}: sha256 is not that of Python $release: damaged or altered; try again or give BASE="
    mv -f "$downloads"/.new/* "$downloads/"
    rm -rf "$downloads/.new"
}

# version_of DIR: prints the PY_VERSION of a tree, or nothing if DIR is no CPython tree
version_of() {
    sed -n 's/^#define PY_VERSION[[:space:]]*"\([^"+]*\).*/\1/p' "$1/Include/patchlevel.h" 2>/dev/null || true
}

unpack() {
    local dir=$1 found='' given="${BASE-$base}"
    rm -rf "$dir"
    mkdir -p "$dir"
    if [ -d "$base" ]; then
        [ -f "$base/Include/patchlevel.h" ] ||
            die "BASE: $given: is no CPython source: it has no Include/patchlevel.h"
        [ ! -e "$base/config.status" ] ||
            die "BASE: $given: has been configured in place; give a clean tree or a tarball"
        tar -C "$base" --exclude=.git --exclude=__pycache__ -cf - . | tar -C "$dir" --no-same-owner -xf - ||
            die "BASE: $given: cannot be copied"
    else
        [ -z "$fetched" ] || fetch
        found=$(sum <"$base")
        if ! pinned "$found"; then
            case ${base##*/} in
            *[!0-9]"$release"[!0-9]* | "$release"[!0-9]*)
                die "BASE: $given: sha256 $found is not that of Python $release: damaged or altered; get it again" ;;
            esac
        fi
        tar -C "$dir" --strip-components=1 --no-same-owner -xf "$base" 2>build/log/unpack.log ||
            die "BASE: $given: cannot be unpacked, not a tarball or cut short ($(grep -m 1 . build/log/unpack.log))"
    fi
    local version file
    version=$(version_of "$dir")
    case $version in
    '') die "BASE: $given: is no CPython source: it has no Include/patchlevel.h" ;;
    "$VERSION".*) ;;
    *) die "BASE: $given: is Python $version; the patches are for Python $VERSION" ;;
    esac
    for file in configure.ac aclocal.m4 Makefile.pre.in Lib/os.py Python/ceval.c; do
        [ -f "$dir/$file" ] || die "BASE: $given: is not a whole tree of Python $version: $file is missing"
    done
    if [ -z "$found" ]; then
        say base "Python $version, unpacked tree $base (not checked)"
    elif pinned "$found"; then
        say base "Python $version, sha256 as pinned"
    elif [ "$version" = "$release" ]; then
        die "BASE: $given: says it is Python $release, but its sha256 is $found: damaged or altered; get it again"
    else
        say base "Python $version, whose sha256 is not pinned here: $found"
    fi
    [ -z "${BASE+set}" ] || remember
}

# remember: saves the base for a later make without BASE. Copies a tarball, because the
# user may delete the original.
remember() {
    local copy=$base
    mkdir -p "${remembered%/*}" "$downloads"
    if [ -n "$fetched" ]; then
        rm -f "$remembered"
    else
        if [ -f "$base" ] && [ "$(dirname "$base")" != "$TOP/$downloads" ]; then
            copy=$TOP/$downloads/${base##*/}
            cp "$base" "$copy.new"
            mv "$copy.new" "$copy"
        fi
        echo "$copy" >"$remembered"
    fi
}

locate
mkdir -p build/log
case $1 in
id) base_id ;;
path) echo "$base" ;;
fetch) fetch distro ;;
unpack)
    # Remove an incomplete tree after a failure.
    target=$2
    trap '[ $? = 0 ] || rm -rf "$target"' EXIT
    unpack "$target"
    ;;
esac
