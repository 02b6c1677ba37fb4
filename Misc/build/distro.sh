#!/bin/bash
# Checks that our patches fit the distribution's own python, security patches
# and all: unpacks its source to build/VERSION-distro/src, applies its patches,
# then tries ours in the same way. Offline if the source is there already.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/treelib.sh

dir=build/$VERSION-distro
log=$dir/quilt.log
BASE='' Misc/build/base.sh fetch
with_lock "$dir"
rm -rf "$dir/src" "$dir/debian"
BASE='' Misc/build/base.sh unpack "$dir/src" >/dev/null
archive=$(find build/downloads -name "python${VERSION}_*.debian.tar.*" | sort | tail -n 1)
[ -n "$archive" ] || die "build/downloads: holds no debian.tar of python$VERSION; it comes with the fetched base"
tar -C "$dir" --no-same-owner -xf "$archive"
say distro "${archive##*/}: applying $(patch_names "$dir/debian/patches/series" | wc -l) patches"
logged "$log" quilt_in "$dir/src" ../debian/patches push -a || die_log "$log" "the distribution's own patches do not apply"
# The distribution's state is the ground for ours, not patches to go on from.
rm -rf "$dir/src/.pc"
tree_link "$dir/src"
tree_patch "$dir/src" "$log"
say distro "our patches fit as they are, $(grep -c 'offset' "$log" || true) hunks at other lines"
