#!/bin/bash
# Checks that our patches fit the distribution's python with its security patches:
# unpacks the source to build/VERSION-distro/src, applies the distribution's patches, then
# ours. Needs no network if the source was downloaded before.
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
[ -n "$archive" ] || die "build/downloads: has no debian.tar of python$VERSION; BASE= (empty) downloads it with the base"
tar -C "$dir" --no-same-owner -xf "$archive"
say distro "${archive##*/}: applying $(patch_names "$dir/debian/patches/series" | wc -l) patches"
logged "$log" quilt_in "$dir/src" ../debian/patches push -a || die_log "$log" "the distribution's own patches do not apply"
# quilt must not treat the distribution's patches as part of our series.
rm -rf "$dir/src/.pc"
tree_link "$dir/src"
tree_patch "$dir/src" "$log"
say distro "our patches fit as they are, $(grep -c 'offset' "$log" || true) hunks at other lines"
