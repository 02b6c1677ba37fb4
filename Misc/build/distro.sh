#!/bin/bash
# Checks that our patches fit, as they are,
#
#   - the pinned release
#   - the pinned release with the distribution's own patches
#   - the newer releases of the same series in the suites that Misc/base/suites lists,
#     each without and with its distribution's patches
#
# Unpacks each source to build/VERSION-distro/src. Needs no network if the sources were
# downloaded before.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/treelib.sh

dir=build/$VERSION-distro
downloads=build/downloads

# newest PATTERN: prints the file with the highest version of those that match
newest() {
    find "${1%/*}" -maxdepth 1 -name "${1##*/}" 2>/dev/null | sort -V | tail -n 1
}

# check SOURCE-TARBALL [DEBIAN-TARBALL]: unpacks the source and applies first the
# distribution's patches, then ours
check() {
    local log=$dir/quilt.log what=${1##*/}
    rm -rf "$dir/src" "$dir/debian"
    mkdir -p "$dir/src"
    tar -C "$dir/src" --strip-components=1 --no-same-owner -xf "$1" || die "$1: cannot be unpacked"
    if [ -n "${2:-}" ]; then
        what=${2##*/}
        tar -C "$dir" --no-same-owner -xf "$2" || die "$2: cannot be unpacked"
        say distro "$what: applying $(patch_names "$dir/debian/patches/series" | wc -l) patches"
        logged "$log" quilt_in "$dir/src" ../debian/patches push -a ||
            die_log "$log" "the distribution's own patches do not apply"
        # quilt must not treat the distribution's patches as part of our series.
        rm -rf "$dir/src/.pc"
    fi
    tree_replace "$dir/src"
    tree_link "$dir/src"
    tree_patch "$dir/src" "$log"
    say distro "$what: our patches fit as they are, $(grep -c 'offset' "$log" || true) hunks at other lines"
}

# fetch_newer SUITE: downloads the source of this series that SUITE has
fetch_newer() {
    local target=$downloads/$1
    [ -z "$(newest "$target/python${VERSION}_*.debian.tar.*")" ] || return 0
    rm -rf "$target.new"
    say distro "fetching the source of python$VERSION in Debian $1"
    Misc/build/apt.sh source "$target.new" "$1" "python$VERSION" 2>build/log/distro.err ||
        die "cannot fetch the source of python$VERSION in Debian $1 ($(tail -n 1 build/log/distro.err))"
    mkdir -p "$target"
    mv -f "$target.new"/* "$target/"
    rm -rf "$target.new"
}

mkdir -p build/log
BASE='' Misc/build/base.sh fetch
with_lock "$dir"
source=$(BASE='' Misc/build/base.sh path)
archive=$(newest "$downloads/python${VERSION}_*.debian.tar.*")
[ -n "$archive" ] || die "$downloads: has no debian.tar of python$VERSION; BASE= (empty) downloads it with the base"
check "$source"
check "$source" "$archive"
newer=$(awk -v series="$VERSION" '$1 == series { $1 = $2 = ""; print }' Misc/base/suites)
for suite in $newer; do
    fetch_newer "$suite"
    archive=$(newest "$downloads/$suite/python${VERSION}_*.debian.tar.*")
    source=$(newest "$downloads/$suite/python${VERSION}_*.orig.tar.?z")
    check "$source"
    check "$source" "$archive"
done
