#!/bin/bash
# Makes build/VERSION/src: the base with links to our files and with the patches applied.
#
#     tree.sh          makes build/VERSION/src if the base, a patch or a link changed
#     tree.sh plain    makes build/VERSION-base/src, the base alone
#
# The script makes a complete new tree in src.new. Then it moves only the files that
# differ, so that make builds only what changed. It never overwrites edits in src that
# are not in a patch yet.
#
#     src.stamp       what the tree was made of; missing while the tree changes
#     src.manifest    the checksum of each file in the new tree
#     src.patches     the patches that were applied
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
        touch "$new/configure" "$new/pyconfig.h.in"     # the base's own are up to date
    else
        say configure "autoconf, autoheader: the base's own"
        tree_autoconf "$new" "$logs/autoconf.log"
    fi
}

# move_in: makes $SRC equal to $new; only files that differ change
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
        [ -z "$edited" ] || die "$SRC: has edits that are not in the patches: $edited; 'make refresh' adds them, 'make clean' removes them"
    fi
    rm -f "$SRC.stamp"
    # Remove only files that this script made.
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

# relink: updates the links if only the list of our files changed
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
    tree_replace "$new"
    tree_link "$new"
    tree_patch "$new" "$logs/quilt.log"
    regenerate
fi
move_in
manifest "$SRC" >"$SRC.manifest"
if [ -z "$plain" ]; then    # refresh.sh reads these copies
    rm -rf "$SRC.patches"
    cp -r "$PATCHES" "$SRC.patches"
fi
stamp >"$SRC.stamp.new"
mv "$SRC.stamp.new" "$SRC.stamp"
