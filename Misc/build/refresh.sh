#!/bin/bash
# Copies edits from build/VERSION/src to the repository:
#
#   our file, whose link an editor replaced   is copied to the repository, linked again
#   a new file in one of our directories      is moved to the repository, linked
#   an edited file of the base                the patch of this file gets the edit
#
# If no patch or several patches change the file, PATCH=NAME.patch names the one that
# gets the edit. A new name is appended to the series. The script writes all patches
# again, with one line of context and without dates. It changes nothing if an edit does
# not fit.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/treelib.sh

work=$SRC.refresh           # the base, to which the patches are applied one by one
patches=$SRC.refresh.patches
was=$SRC.refresh.was        # the edited files, as they were before the edit
log=build/$VERSION/refresh.log

# edits KIND: prints the paths that were removed or added
edits() {
    case $1 in
    removed) comm -23 "$work.before" "$work.after" ;;
    added) comm -13 "$work.before" "$work.after" ;;
    esac | grep -Ev "$GENERATED" || true
}

refresh_ours() {
    local path
    our_files | while IFS= read -r path; do
        if [ -L "$SRC/$path" ]; then
            continue
        elif [ ! -e "$SRC/$path" ]; then
            say refresh "$path: was removed in $SRC and is linked again; to remove it, remove it here"
        elif ! cmp -s "$SRC/$path" "$path"; then
            [ ! "$path" -nt "$SRC/$path" ] || die "$path: was edited here and in $SRC; make both equal first"
            cat "$SRC/$path" >"$path"
            say refresh "$path: taken from $SRC"
        fi
        mkdir -p "$(dirname "$SRC/$path")"
        ln -sf "$(relative_top "$path")$path" "$SRC/$path"
    done
}

take_new_files() {
    local path
    edits added | while IFS= read -r path; do
        [ ! -L "$SRC/$path" ] || continue
        # shellcheck disable=SC2086 # a list of names
        if printf '%s\n' $OURS | grep -qxF "$(printf '%s' "$path" | grep -Eo '^(Misc/NEWS\.d|[^/]*)')"; then
            mkdir -p "$(dirname "$path")"
            mv "$SRC/$path" "$path"
            ln -s "$(relative_top "$path")$path" "$SRC/$path"
            say refresh "$path: new, moved to the repository"
        else
            say refresh "$SRC/$path: new, ignored: not in one of our directories"
        fi
    done
}

# patch_of FILE: prints the name of the patch that gets its edits
patch_of() {
    local name found=()
    for name in $(patch_names "$PATCHES/series"); do
        ! grep -qxF -e "+++ b/$1" -e "--- a/$1" "$PATCHES/$name" || found+=("$name")
    done
    if [ ${#found[@]} = 1 ]; then
        echo "${found[0]}"
    elif [ -n "${PATCH:-}" ]; then
        echo "${PATCH##*/}"
    else
        die "$1: is changed by ${found[*]:-no patch}; name the patch that gets the edit: make refresh PATCH=NAME.patch"
    fi
}

quilt_here() {
    quilt_in "$work" "../../../$patches" "$@" >>"$log" 2>&1
}

# fold FILE PATCH: adds the edit of FILE to PATCH, which is the topmost
fold() {
    quilt_in "$work" "../../../$patches" files 2>/dev/null | grep -qxF "$1" || quilt_here add "$1"
    if [ ! -e "$SRC/$1" ]; then
        rm "$work/$1"
    elif cmp -s "$work/$1" "$was/$1"; then
        cat "$SRC/$1" >"$work/$1"
    elif diff3 -m "$work/$1" "$was/$1" "$SRC/$1" >"$work.merged" 2>>"$log"; then
        cat "$work.merged" >"$work/$1"
    else
        die "$1: the edit overlaps with a different patch than $2; try PATCH=NAME.patch with that one"
    fi
}

save_originals() {
    local path applied="../../../$SRC.patches"
    if [ -n "$(patch_names "$SRC.patches/series")" ]; then
        quilt_in "$work" "$applied" push -a --fuzz=0 >>"$log" 2>&1 ||
            die_log "$log" "the patches that were applied before do not fit the base any more"
    fi
    while IFS= read -r path; do
        mkdir -p "$(dirname "$was/$path")"
        cp "$work/$path" "$was/$path"
    done < <(cut -f1 "$work.plan")
    [ ! -d "$work/.pc" ] || quilt_in "$work" "$applied" pop -a >>"$log" 2>&1
    rm -rf "$work/.pc"
}

refresh_patches() {
    local path name options=(-p ab -U1 --no-timestamps --no-index)
    : >"$log"
    Misc/build/base.sh unpack "$work" >/dev/null
    # The originals are the base with the patches that were applied before.
    [ ! -s "$work.plan" ] || save_originals
    cp -r "$PATCHES" "$patches"
    for name in $(patch_names "$PATCHES/series"; cut -f2 "$work.plan" | sort -u); do
        if ! patch_names "$patches/series" | grep -qxF "$name"; then
            quilt_here new "$name"
        elif quilt_in "$work" "../../../$patches" applied 2>/dev/null | grep -qxF "$name"; then
            continue
        else
            quilt_here push --fuzz=0 || die "$PATCHES/$name: does not fit after the edits; nothing was changed; log: $log"
        fi
        while IFS= read -r path; do
            fold "$path" "$name"
        done < <(awk -F '\t' -v name="$name" '$2 == name { print $1 }' "$work.plan")
        quilt_here refresh "${options[@]}" || die_log "$log" "$name: quilt refresh failed"
    done

    while IFS= read -r path; do
        cmp -s "$work/$path" "$SRC/$path" || [ ! -e "$SRC/$path" ] || ! diff -rq "$PATCHES" "$SRC.patches" >/dev/null ||
            die "$path: the patches would not produce the edited file; nothing was changed; see $log"
    done < <(cut -f1 "$work.plan")
    for name in series $(patch_names "$patches/series"); do
        cmp -s "$patches/$name" "$PATCHES/$name" && continue
        cp "$patches/$name" "$PATCHES/$name"
        say refresh "$PATCHES/$name: written"
    done
}

cleanup() {
    rm -rf "$work" "$patches" "$was" "$work.before" "$work.after" "$work.plan" "$work.merged" "$work.edited"
}

[ -f "$SRC.stamp" ] || die "$SRC: does not exist or is incomplete; run make first"
with_lock "build/$VERSION"
cleanup
trap cleanup EXIT
refresh_ours

manifest "$SRC" >"$work.edited"
manifest_paths <"$SRC.manifest" | sort >"$work.before"
manifest_paths <"$work.edited" | sort >"$work.after"
take_new_files
{
    edits removed
    comm -23 <(sort "$SRC.manifest") "$work.edited" | grep -v '^link ' | manifest_paths | grep -Ev "$GENERATED"
} | sort -u >"$work.edited.paths" || true
while IFS= read -r path; do
    grep -q "^link .*  $path\$" "$SRC.manifest" && continue
    name=$(patch_of "$path")
    printf '%s\t%s\n' "$path" "$name"
done <"$work.edited.paths" >"$work.plan"
rm "$work.edited.paths"
cut -f1 "$work.plan" | while IFS= read -r path; do say refresh "$path: edited"; done

refresh_patches
exec 9>&-
rm -f "$SRC.stamp"          # make the tree again; only files that differ change
Misc/build/tree.sh >/dev/null
say refresh "done"
