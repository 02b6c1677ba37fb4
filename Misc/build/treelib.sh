# shellcheck shell=bash
# Functions that make a patched tree, shared by tree.sh and refresh.sh.
# To be sourced after lib.sh.

PATCHES=Misc/patches/$VERSION

# Directories of this repository whose files have their place in CPython.
OURS="Doc Include Lib Misc/NEWS.d Modules Python"

# Paths in src that a build or an editor leaves there.
# shellcheck disable=SC2034
GENERATED='(^|/)(__pycache__|autom4te\.cache|\.pc|build)/|^(configure|pyconfig\.h\.in)$|\.py[co]$|\.pickle$|~$|\.orig$|\.rej$|\.sw[a-p]$|/@test_|^core'

# our_files: their paths, sorted
our_files() {
    local dir
    for dir in $OURS; do
        [ ! -d "$dir" ] || find "$dir" -name __pycache__ -prune -o -type f \
            ! -name '*.py[co]' ! -name '*~' ! -name '.*.sw?' ! -name '*.orig' ! -name '*.rej' -print
    done | sort
}

# tree_stamp: what, besides the base, a tree is made of
tree_stamp() {
    local name
    echo "patches $({
        cat "$PATCHES/series"
        patch_names "$PATCHES/series" | while read -r name; do
            cat "$PATCHES/$name" 2>/dev/null || echo "missing $name"
        done
    } | sum)"
    echo "ours $(our_files | sum)"
}

# relative_top PATH: from the directory of PATH, relative to a src, to the top
relative_top() {
    printf '../../../%s' "$(printf '%s' "$1" | sed 's,[^/]*/,../,g; s,[^/]*$,,')"
}

# tree_link DIR: puts our files into the unpacked base as symbolic links
tree_link() {
    local path
    our_files | while IFS= read -r path; do
        [ ! -L "$1/$path" ] || continue
        [ ! -e "$1/$path" ] ||
            die "$path: is in the base as well; change the base with a patch in $PATCHES"
        mkdir -p "$(dirname "$1/$path")"
        ln -s "$(relative_top "$path")$path" "$1/$path"
    done
}

# quilt_in DIR PATCH-DIR COMMAND...: PATCH-DIR is absolute or relative to DIR
quilt_in() {
    local dir=$1 patches=$2
    shift 2
    (cd "$dir" && QUILT_PATCHES=$patches QUILT_PC=.pc quilt --quiltrc - "$@")
}

# tree_patch DIR LOG: applies the series; hunks may be offset but not fuzzy
tree_patch() {
    local name count=0
    for name in $(patch_names "$PATCHES/series"); do
        [ -f "$PATCHES/$name" ] || die "$PATCHES/$name: named in series, but is not there"
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

# tree_autoconf DIR LOG: the base's aclocal.m4 holds all macros needed
tree_autoconf() {
    # shellcheck disable=SC2016 # $1 is that of sh
    logged "$2" sh -c 'cd "$1" && autoconf && autoheader && rm -rf autom4te.cache configure~ pyconfig.h.in~ &&
        touch configure pyconfig.h.in' sh "$1" || die_log "$2" "$1/configure.ac: autoconf failed"
}

# manifest DIR: "SUM  PATH" of each file and "link TARGET  PATH" of each link
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

# manifest_paths: the paths of the manifest's lines on standard input
manifest_paths() {
    sed 's/^link .*  //; s/^[0-9a-f]\{64\}  //'
}
