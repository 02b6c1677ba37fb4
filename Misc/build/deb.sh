#!/bin/bash
# Builds the distribution's packages of its own Python, from its newest source package with
# our files and patches added.
#
#     deb.sh
#
#     build/VERSION-deb/source   the source package of the distribution
#     build/VERSION-deb/tree     unpacked; ours are quilt patches in debian/patches/perf
#     build/VERSION-deb/out      all packages, until the build is complete
#     build/deb                  the result: .deb and .dsc files, .changes, .buildinfo
#
# The quick form has no PGO, no LTO and no tests. DEB=full builds as the distribution does.
# DEB_SRC=FILE.dsc uses this source package instead of a download, DEB_SRC=VERSION downloads
# this version instead of the newest. DEB_OUT is the directory for the result. DEB_REVISION is
# the number in the version, +perf1. DEB_BUILD_OPTIONS has further options for debian/rules.
#
# Root rights are needed only to install build dependencies.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/treelib.sh

: "${DEB:=quick}" "${DEB_OUT:=build/deb}" "${DEB_REVISION:=1}" "${JOBS:=$(nproc)}"
dir=build/$VERSION-deb
tree=$dir/tree
log=$dir/build.log
name=python$VERSION
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null | tr -d '"')
suite=$(suite_of_series)

case $DEB in
# The sizes have a margin: the full builds of Debian 12 and 13 took 2.7 and 3.5 GB.
quick) profiles=nocheck options="nocheck nobench nopgo nolto parallel=$JOBS" types=source,any gigabytes=4 ;;
full) profiles='' options="parallel=$JOBS" types=source,any,all gigabytes=8 ;;
*) die "DEB=$DEB: expected full or nothing" ;;
esac
[ -z "${DEB_BUILD_OPTIONS:-}" ] || options="$options $DEB_BUILD_OPTIONS"
case " $options " in *" nocheck "*) profiles=nocheck ;; esac
case $DEB_REVISION in
'' | *[!0-9]*) die "DEB_REVISION=$DEB_REVISION: expected a number" ;;
esac

# check_room: fails if the disk has too little room for a build
check_room() {
    local room
    mkdir -p "$dir"
    room=$(df --output=avail -k "$dir" | tail -n 1)
    [ "$room" -ge $((gigabytes * 1000000)) ] ||
        die "$dir: the disk has $((room / 1000000)) GB left, and the build needs $gigabytes; make room, or put build on another disk"
}

# failed TEXT: dies with the cause that the build's log shows
failed() {
    if grep -qs 'No space left on device' "$log"; then
        die "$dir: no space left on the disk; the build needs $gigabytes GB; log: $log"
    fi
    grep -E '(: error: | Error [0-9]|^dpkg-[a-z]*: error|^E: )' "$log" | head -n 5 >&2 || true
    die_log "$log" "$1"
}

# fetch_source [VERSION]: downloads the newest source package, or this version
fetch_source() {
    local cause others
    rm -rf "$dir/source"
    say deb "fetching the source of $name in $codename, ${1:-the newest version}"
    if ! Misc/build/apt.sh current "$dir/source" "$codename" "$name${1:+=$1}" 2>build/log/deb.err; then
        cause=$(tail -n 1 build/log/deb.err | sed 's/^apt: //')
        # A mirror may announce a version that it does not have yet.
        others=$(Misc/build/apt.sh versions - "$codename" "$name" 2>build/log/deb.err |
            awk -v tried="${1:-}" 'tried == "" ? NR > 1 : $0 != tried' | paste -sd' ') || true
        die "cannot fetch the source of $name ($cause); try later, or choose another: DEB_SRC=FILE.dsc${others:+ or DEB_SRC=VERSION ($others)}"
    fi
}

# find_source: sets `dsc` to the .dsc of the source package
find_source() {
    case ${DEB_SRC:-} in
    */* | *.dsc)
        dsc=$DEB_SRC
        [ -f "$dsc" ] || die "DEB_SRC: $dsc: no such file"
        ;;
    *)
        fetch_source "${DEB_SRC:-}"
        dsc=$(find "$dir/source" -name "${name}_*.dsc" | head -n 1)
        [ -n "$dsc" ] || die "$dir/source: has no ${name}_*.dsc"
        ;;
    esac
    version=$(sed -n 's/^Version: //p' "$dsc")
    [ "$(sed -n 's/^Source: //p' "$dsc")" = "$name" ] || die "DEB_SRC: $dsc: is not a source package of $name"
    case $version in
    *+perf*) die "DEB_SRC: $dsc: has our patches already; give the distribution's own" ;;
    esac
    new=$version+perf$DEB_REVISION
}

# describe TEXT: puts the header of a patch before its text
describe() {
    printf 'Description: %s\nOrigin: vendor\nForwarded: not-needed\n---\n' "$1"
}

# apply NAME: appends perf/NAME to the series and applies it; returns quilt's exit status
apply() {
    echo "perf/$1" >>"$tree/debian/patches/series"
    logged "$dir/quilt.log" quilt_in "$tree" debian/patches push --fuzz=0
}

# add_files: makes the patch that adds our files and removes those that they replace
add_files() {
    local path before after old_label new_label
    rm -rf "$dir/old"
    mkdir -p "$dir/old"
    replaced_files >"$dir/replaced"
    if [ -s "$dir/replaced" ]; then
        (cd "$tree" && xargs cp --parents -t ../old) <"$dir/replaced" ||
            die "$PATCHES/replaced: names files that $name $version does not have"
        tree_replace "$dir/old"
    fi
    # A patch cannot have pictures, and the documentation uses none of ours. The news are in
    # the changelog of the package.
    our_files | grep -Ev '\.(png|svg)$|^Misc/NEWS\.d/' >"$dir/files"
    {
        describe "native profilers show Python functions: our files"
        sort -u "$dir/files" "$dir/replaced" | while IFS= read -r path; do
            before=/dev/null after=/dev/null old_label=/dev/null new_label=/dev/null
            if grep -qxF "$path" "$dir/replaced"; then
                before=$tree/$path old_label=a/$path
            elif [ -e "$tree/$path" ]; then
                die "$path: is also a file of $name $version; our patches do not fit it"
            fi
            if grep -qxF "$path" "$dir/files"; then
                after=$path new_label=b/$path
            fi
            diff -u --label "$old_label" --label "$new_label" "$before" "$after" || [ $? = 1 ]
        done
    } >"$tree/debian/patches/perf/files.patch"
    apply files.patch || die_log "$dir/quilt.log" "our files do not fit $name $version"
}

# add_patches: applies our patches, each as one of the package
add_patches() {
    local each cause
    for each in $(patch_names "$PATCHES/series"); do
        {
            describe "native profilers show Python functions: ${each%.patch}"
            cat "$PATCHES/$each"
        } >"$tree/debian/patches/perf/$each"
        apply "$each" && continue
        cause=$(sed -n '/^patching file/h; /FAILED at/{G; s/\n/ of /; s/patching file //; p; q; }' "$dir/quilt.log")
        die "$PATCHES/$each: does not fit $name $version${cause:+ ($cause)}; use an older source, DEB_SRC=FILE.dsc, or adapt the patch; log: $dir/quilt.log"
    done
}

# add_header: makes the patch of pyconfig.h.in, because debian/rules runs autoconf only
add_header() {
    # autoheader for the distribution's configure.ac and for ours: the difference is ours.
    (
        cd "$tree"
        cp pyconfig.h.in ../pyconfig.h.in
        cp configure.ac ../configure.ac
        autoheader --force
        cp pyconfig.h.in ../with.h.in
        cp .pc/perf/build.patch/configure.ac configure.ac
        autoheader --force
        cp pyconfig.h.in ../without.h.in
        cp ../configure.ac configure.ac
        cp ../pyconfig.h.in pyconfig.h.in
        rm -rf autom4te.cache pyconfig.h.in~
    ) >"$dir/autoheader.log" 2>&1 </dev/null || die_log "$dir/autoheader.log" "autoheader failed"
    ! cmp -s "$dir/without.h.in" "$dir/with.h.in" || return 0
    {
        describe "native profilers show Python functions: pyconfig.h.in"
        diff -U1 --label a/pyconfig.h.in --label b/pyconfig.h.in "$dir/without.h.in" "$dir/with.h.in" || true
    } >"$tree/debian/patches/perf/pyconfig.patch"
    apply pyconfig.patch || die_log "$dir/quilt.log" "pyconfig.h.in of $name $version: our definitions do not fit"
}

# add_packaging: the changelog, our symbols, and the examples for services
add_packaging() {
    local example symbols=$tree/debian/libpython.symbols.in
    {
        cat <<EOF
$name ($new) $(sed -n '1s/.*) \([^;]*\);.*/\1/p' "$tree/debian/changelog"); urgency=medium

  * Native profilers such as perf show Python functions by their names: -X perf,
    -X perf_jit and PYTHONPERFSUPPORT (debian/patches/perf).
  * The interpreter and its library have frame pointers.

 -- ${DEBFULLNAME:-Local build} <${DEBEMAIL:-nobody@example.org}>  $(date -R)

EOF
        cat "$tree/debian/changelog"
    } >"$dir/changelog"
    cp "$dir/changelog" "$tree/debian/changelog"
    # What uses our symbols needs this version.  The tilde lets a rebuild of it suffice.
    [ -f "$symbols" ] || die "$name $version: has no debian/libpython.symbols.in; our packaging does not fit it"
    allowed_differences | sed -n "s/^symbol \(.*\)/ \1@Base $new~/p" >>"$symbols"
    allowed_differences | sed -n 's/^removed \(.*\)/\/[ )]\1@Base \/d/p' | sed -i -f - "$symbols"
    # `make test` runs our tests, with profilers.  As a part of the training for PGO they would
    # fail, and take longer than all others.
    sed -i '/^TEST_EXCLUDES *=/a TEST_EXCLUDES += test_perf' "$tree/debian/rules"
    grep -qx 'TEST_EXCLUDES += test_perf' "$tree/debian/rules" ||
        die "$name $version: debian/rules has no TEST_EXCLUDES; our packaging does not fit it"
    mkdir -p "$tree/debian/perf"
    for example in Misc/deb/examples/*; do
        cp "$example" "$tree/debian/perf/"
        echo "debian/perf/${example##*/}" >>"$tree/debian/$name.examples"
    done
}

prepare() {
    rm -rf "$tree" "$dir/out"
    logged "$log" dpkg-source --no-check -x "$dsc" "$tree" || failed "$dsc: cannot be unpacked"
    mkdir -p "$tree/debian/patches/perf"
    add_files
    add_patches
    add_header
    add_packaging
    say deb "$name $version: our patches fit, $(grep -c '^perf/' "$tree/debian/patches/series") in debian/patches/perf"
}

# dependencies: installs what the package needs for its build
dependencies() {
    local missing check=() get=(apt-get build-dep -y --no-install-recommends)
    if [ "$DEB" = quick ]; then
        check+=(-B)
        get+=(--arch-only)
    fi
    if [ -n "$profiles" ]; then
        check+=(-P "$profiles")
        get+=(-P "$profiles")
    fi
    get+=("$TOP/$tree")
    missing=$(cd "$tree" && dpkg-checkbuilddeps "${check[@]}" 2>&1 |
        sed -n 's/.*[Uu]nmet build dependencies: //p') || true
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || [ "${PACKAGES:-install}" = skip ]; then
        die "missing packages; run as root: apt-get update && ${get[*]}"
    fi
    say deb "installing packages for the build: $missing"
    export DEBIAN_FRONTEND=noninteractive
    logged "$log" "${get[@]}" && return
    logged "$log" apt-get update || true
    logged "$log" "${get[@]}" || failed "${get[*]} failed"
}

# build: runs dpkg-buildpackage as in a clean session of the user
build() {
    local seconds=$SECONDS site=
    [ "$DEB" = full ] || site=$TOP/Misc/deb/config.site
    say deb "$DEB build of $name $new, DEB_BUILD_OPTIONS=\"$options\""
    # The tree has to be below a directory of its own, because the results are left there.
    mkdir -p "$dir/out"
    find "$(dirname "$dsc")" -name "${name}_*.orig.tar.*" -exec cp -l {} "$dir/" \; 2>/dev/null ||
        find "$(dirname "$dsc")" -name "${name}_*.orig.tar.*" -exec cp {} "$dir/" \;
    (
        cd "$tree"
        as_user env -u GIVEN -u WITH_LINES -u DEB DEB_BUILD_OPTIONS="$options" DEB_BUILD_PROFILES="$profiles" \
            ${site:+CONFIG_SITE="$site"} dpkg-buildpackage -us -uc --build="$types"
    ) >"$log" 2>&1 </dev/null || failed "the build of $name failed"
    find "$dir" -maxdepth 1 -type f \( -name '*.deb' -o -name "${name}_*" \) -exec mv -f {} "$dir/out/" \;
    say deb "built in $(((SECONDS - seconds) / 60)) minutes"
}

# deliver: moves the complete result to DEB_OUT
deliver() {
    mkdir -p "$(dirname "$DEB_OUT")"
    rm -rf "$DEB_OUT"
    mv "$dir/out" "$DEB_OUT"
    stamp >"$dir/deb.stamp"
    say deb "$DEB_OUT: $(find "$DEB_OUT" -name '*.deb' | wc -l) packages, $(du -sm "$DEB_OUT" | cut -f1) MB"
    say deb "as root: apt install ./$DEB_OUT/*.deb installs all; name single files for fewer"
}

# stamp: prints what identifies the result
stamp() {
    echo "$new $DEB $options $(sum <"$dsc")"
    tree_stamp
    our_files | tr '\n' '\0' | xargs -0 cat Misc/deb/examples/* "$0" | sum
}

distribution=$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null | tr -d '"')
[ "$codename" = "$suite" ] ||
    die "VERSION=$VERSION is the Python of Debian's $suite, and this is ${distribution:-not Debian}: run it there, or in a debootstrapped $suite (make test-deb makes one); elsewhere use make install prefix=DIR"
mkdir -p build/log
Misc/build/packages.sh deb
check_room
with_lock "$dir"
find_source
if [ -d "$DEB_OUT" ] && stamp | cmp -s - "$dir/deb.stamp"; then
    say deb "$DEB_OUT is up to date"
    exit 0
fi
rm -f "$dir/deb.stamp"
prepare
dependencies
build
deliver
