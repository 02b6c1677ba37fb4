#!/bin/bash
# Makes build/VERSION/src: the base, our files as symbolic links, the patches.
#
#     tree.sh          build/$VERSION/src, only if something it is made of changed
#     tree.sh plain    build/$VERSION-base/src: the base alone
#
# A new tree is always prepared aside, whole, and only the files that differ
# are then moved in, so that make builds what has changed and no more. Edits
# made in src that are not in the patches yet are never overwritten.
#
#     src.stamp       what the tree was made of; not there while it is changed
#     src.manifest    the sum of each file, as made
#     src.patches     the patches, as applied
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/treelib.sh

if [ "${1:-}" = plain ]; then
    plain=yes
    SRC=build/$VERSION-base/src
else
    plain=
fi
new=$SRC.new
logs=${SRC%/src}

stamp() {
    Misc/build/base.sh id
    if [ -z "$plain" ]; then
        tree_stamp
    fi
}

regenerate() {
    if cmp -s "$SRC/configure.ac" "$new/configure.ac" &&
        [ -f "$SRC/configure" ] && [ ! "$SRC/configure.ac" -nt "$SRC/configure" ]; then
        cp -p "$SRC/configure" "$SRC/pyconfig.h.in" "$new/"
    elif ! grep -qs '^+++ b/configure\.ac' "$PATCHES"/*.patch; then
        touch "$new/configure" "$new/pyconfig.h.in"     # the base's own will do
    else
        say configure "autoconf, autoheader: the base's own"
        tree_autoconf "$new" "$logs/autoconf.log"
    fi
}

# move_in: makes $SRC equal to $new, touching only what differs
move_in() {
    if [ ! -d "$SRC" ]; then
        mv "$new" "$SRC"
        return
    fi
    manifest "$SRC" >"$SRC.actual"
    manifest "$new" >"$SRC.wanted"
    if [ -f "$SRC.stamp" ]; then
        local edited
        edited=$(comm -13 "$SRC.manifest" "$SRC.actual" | comm -23 - "$SRC.wanted" | manifest_paths | sort |
            comm -12 - <(manifest_paths <"$SRC.manifest" | sort) |
            grep -Ev "$GENERATED" | head -n 3 | tr '\n' ' ')
        [ -z "$edited" ] || die "$SRC: has edits that are not in the patches: $edited; 'make refresh' keeps them, 'make clean' drops them"
    fi
    rm -f "$SRC.stamp"
    # Files that somebody else put there stay.
    [ ! -f "$SRC.manifest" ] || comm -23 "$SRC.manifest" "$SRC.wanted" | manifest_paths | while IFS= read -r path; do
        [ -e "$new/$path" ] || [ -L "$new/$path" ] || rm -f "$SRC/$path"
    done
    comm -13 "$SRC.actual" "$SRC.wanted" | manifest_paths | while IFS= read -r path; do
        mkdir -p "$(dirname "$SRC/$path")"
        rm -f "$SRC/$path"
        mv "$new/$path" "$SRC/$path"
        [ -L "$SRC/$path" ] || touch "$SRC/$path"
    done
    rm -rf "$SRC/.pc"
    [ ! -d "$new/.pc" ] || mv "$new/.pc" "$SRC/.pc"
    rm -rf "$new" "$SRC.actual" "$SRC.wanted"
}

# relink: our files have come and gone, all else is as it was
relink() {
    local path
    grep '^link ' "$SRC.manifest" | manifest_paths | while IFS= read -r path; do
        [ -e "$SRC/$path" ] || rm -f "$SRC/$path"
    done
    tree_link "$SRC"
    {
        grep -v '^link ' "$SRC.manifest"
        manifest_links "$SRC"
    } | sort >"$SRC.manifest.new"
    mv "$SRC.manifest.new" "$SRC.manifest"
    mv "$SRC.stamp.new" "$SRC.stamp"
}

with_lock "$logs"
stamp >"$SRC.stamp.new"
if cmp -s "$SRC.stamp.new" "$SRC.stamp"; then
    rm "$SRC.stamp.new"
    exit 0
fi
if [ -f "$SRC.stamp" ] && cmp -s <(grep -v '^ours ' "$SRC.stamp.new") <(grep -v '^ours ' "$SRC.stamp"); then
    relink
    exit 0
fi

trap 'rm -rf "$new" "$SRC.stamp.new"' EXIT
Misc/build/base.sh unpack "$new"
if [ -z "$plain" ]; then
    tree_link "$new"
    tree_patch "$new" "$logs/quilt.log"
    regenerate
fi
move_in
manifest "$SRC" >"$SRC.manifest"
if [ -z "$plain" ]; then    # refresh.sh compares with the patches that were applied
    rm -rf "$SRC.patches"
    cp -r "$PATCHES" "$SRC.patches"
fi
stamp >"$SRC.stamp.new"
mv "$SRC.stamp.new" "$SRC.stamp"
