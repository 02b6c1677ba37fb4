# shellcheck shell=bash
# Functions that make a patched tree, for tree.sh, refresh.sh and others. Source this
# file after lib.sh.

PATCHES=Misc/patches/$VERSION

# Directories of this repository whose files are linked into the tree of CPython.
OURS="Doc Include Lib Misc/NEWS.d Modules Python"

# Paths in src that a build or an editor makes.
# shellcheck disable=SC2034
GENERATED='(^|/)(__pycache__|autom4te\.cache|\.pc|build)/|^(configure|pyconfig\.h\.in)$|\.py[co]$|\.pickle$|~$|\.orig$|\.rej$|\.sw[a-p]$|/@test_|^core'

# our_files: prints the paths of our files, sorted
our_files() {
    local dir
    for dir in $OURS; do
        [ ! -d "$dir" ] || find "$dir" -name __pycache__ -prune -o -type f \
            ! -name '*.py[co]' ! -name '*~' ! -name '.*.sw?' ! -name '*.orig' ! -name '*.rej' -print
    done | sort
}

# tree_stamp: prints what identifies the patches and the list of our files
tree_stamp() {
    local name
    echo "patches $({
        cat "$PATCHES/series"
        [ ! -f "$PATCHES/replaced" ] || cat "$PATCHES/replaced"
        patch_names "$PATCHES/series" | while read -r name; do
            cat "$PATCHES/$name" 2>/dev/null || echo "missing $name"
        done
    } | sum)"
    echo "ours $(our_files | sum)"
}

# relative_top PATH: prints the relative path from the directory of PATH in a src to the
# top directory of the repository
relative_top() {
    printf '../../../%s' "$(printf '%s' "$1" | sed 's,[^/]*/,../,g; s,[^/]*$,,')"
}

# tree_link DIR: makes symbolic links to our files in the unpacked base
tree_link() {
    local path
    our_files | while IFS= read -r path; do
        [ ! -L "$1/$path" ] || continue
        [ ! -e "$1/$path" ] ||
            die "$path: is also a file of the base; change the base with a patch in $PATCHES"
        mkdir -p "$(dirname "$1/$path")"
        ln -s "$(relative_top "$path")$path" "$1/$path"
    done
}

# replaced_files: prints the paths in the file `replaced` of the patches, if there is one
replaced_files() {
    [ ! -f "$PATCHES/replaced" ] || sed 's/#.*//' "$PATCHES/replaced" | awk 'NF { print $2 }' | sort -u
}

# tree_replace DIR: removes the base's files that ours replace, those in the file
# `replaced` of the patches. It has lines as sha256sum writes them, one for each known form
# of a file.
tree_replace() {
    local list=$PATCHES/replaced bad path paths unknown=''
    [ -f "$list" ] || return 0
    bad=$(sed 's/#.*//' "$list" | grep -Evn '^[[:space:]]*$|^[0-9a-f]{64}  [^/ .][^ ]*[[:space:]]*$' | head -n 1) || true
    [ -z "$bad" ] || die "$list:${bad%%:*}: expected SHA256  PATH"
    paths=$(replaced_files)
    for path in $paths; do
        [ -f "$1/$path" ] || die "$list: $path: is not a file of this base"
        grep -q "^$(sum <"$1/$path")  $path\>" "$list" || unknown="$unknown $path"
        rm "$1/$path"
    done
    [ -z "$unknown" ] ||
        say base "note: these files differ from those of the known releases, and ours replace them all the same:$unknown"
}

# quilt_in DIR PATCH-DIR COMMAND...: runs quilt in DIR; PATCH-DIR is absolute or relative
# to DIR
quilt_in() {
    local dir=$1 patches=$2
    shift 2
    (cd "$dir" && QUILT_PATCHES=$patches QUILT_PC=.pc quilt --quiltrc - "$@")
}

# tree_patch DIR LOG: applies the series; hunks may have an offset but no fuzz
tree_patch() {
    local name count=0
    for name in $(patch_names "$PATCHES/series"); do
        [ -f "$PATCHES/$name" ] || die "$PATCHES/$name: is in the series but does not exist"
        count=$((count + 1))
    done
    [ "$count" != 0 ] || return 0
    say patches "applying $count"
    logged "$2" quilt_in "$1" "../../../$PATCHES" push -a --fuzz=0 && return
    name=$(sed -n 's/^Patch \(.*\) does not apply.*/\1/p; s/^Patch \(.*\) can be reverse.*/\1/p' "$2" | tail -n 1)
    [ -n "$name" ] || die_log "$2" "quilt push failed"
    name=${name##*/}
    die "$PATCHES/$name: does not fit this base ($(sed -n '/^patching file/h; /FAILED at/{G; s/\n/ of /; s/patching file //; p; q; }' "$2")); log: $2"
}

# tree_autoconf DIR LOG: runs autoconf and autoheader; the base's aclocal.m4 has all macros
tree_autoconf() {
    # shellcheck disable=SC2016 # sh expands $1
    logged "$2" sh -c 'cd "$1" && autoconf && autoheader && rm -rf autom4te.cache configure~ pyconfig.h.in~ &&
        touch configure pyconfig.h.in' sh "$1" || die_log "$2" "$1/configure.ac: autoconf failed"
}

# manifest DIR: prints "SUM  PATH" for each file and "link TARGET  PATH" for each link
manifest() {
    (
        cd "$1" || exit
        find . -mindepth 1 \( -name .pc -o -name __pycache__ -o -name autom4te.cache \) -prune -o \
            -type f ! -name '*.py[co]' -printf '%P\0' | xargs -0r sha256sum
    ) | cat - <(manifest_links "$1") | sort
}

manifest_links() {
    find "$1" -name .pc -prune -o -type l -printf 'link %l  %P\n'
}

# manifest_paths: reads lines of a manifest and prints their paths
manifest_paths() {
    sed 's/^link .*  //; s/^[0-9a-f]\{64\}  //'
}
