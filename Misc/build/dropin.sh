#!/bin/bash
# Runs packages that Debian compiled for its own interpreter. Runs them with that
# interpreter and with ours: off, with -X perf, -X perf_jit, -X perf=calls and
# -X perf=lines. Compares the results (Misc/dropin/dropin.py). TESTS names packages, all by default.
#
# Downloads the packages, Debian's interpreter and all libraries, and unpacks them below
# build/dropin. The packages that the machine has installed stay unchanged. Programs that
# embed the interpreter get the library of a build with --enable-shared, which this script
# makes in build/$VERSION-shared.
#
#     build/downloads/dropin     packages
#     build/dropin/root          unpacked
#     build/dropin/work          extension modules, reports, logs
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

# The packages to be tested, and the packages that they need. apt.sh adds the libraries.
PACKAGES_WANTED="python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
    libpython3.11 libpython3.11-dev python3-distutils python3-lib2to3 python3-setuptools
    python3-pkg-resources python3-pytest python3-iniconfig python3-packaging python3-pluggy
    python3-attr python3-hypothesis python3-sortedcontainers
    python3-greenlet python3-objgraph python3-graphviz python3-psutil
    python3-gevent python3-zope.event python3-zope.interface
    python3-numpy python3-lxml cython3 python3-coverage
    python3-cffi python3-cffi-backend python3-pycparser python3-ply
    pybind11-dev python3-pybind11
    uwsgi-core uwsgi-plugin-python3 uwsgi-plugin-gevent-python3
    libapache2-mod-wsgi-py3 apache2-bin"
debs=build/downloads/dropin root=build/dropin/root
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')

# fetch: downloads the packages, and the source of lxml, because only that has the tests
fetch() {
    say dropin "fetching packages of $codename with their libraries"
    rm -rf "$debs"
    # shellcheck disable=SC2086 # a list of names
    Misc/build/apt.sh closure "$debs" "$codename" $PACKAGES_WANTED ||
        die "the packages cannot be fetched"
    Misc/build/apt.sh source "$debs/source" "$codename" lxml ||
        say dropin "no source of lxml: its tests are skipped"
    echo "$PACKAGES_WANTED" >"$debs/complete"
}

# unpack: unpacks the packages, except for the C library: programs use the machine's
unpack() {
    local deb tests
    rm -rf "$root" "$root.new"
    for deb in "$debs"/*.deb; do
        case ${deb##*/} in
        libc6_* | libc6-dev_*) continue ;;
        esac
        dpkg-deb -x "$deb" "$root.new" || die "$deb: cannot be unpacked; remove $debs and try again"
    done
    for tests in "$debs"/source/lxml_*.orig.tar.*; do
        [ -f "$tests" ] || continue
        tar -xf "$tests" -C "$root.new" --wildcards '*/src/lxml/tests' '*/src/lxml/html/tests' '*/doc/*.txt'
        cp -r "$root.new"/lxml-*/src/lxml "$root.new/usr/lib/python3/dist-packages/"
        # The tests run the examples in the documents, which they expect next to src.
        mkdir "$root.new/usr/lib/python3/doc"
        cp "$root.new"/lxml-*/doc/*.txt "$root.new/usr/lib/python3/doc/"
        rm -rf "$root.new"/lxml-*
    done
    mv "$root.new" "$root"
    cp "$debs/complete" "$root.stamp"
}

[ "$codename" = bookworm ] || die "the packages are those of Debian 12, bookworm; this is ${codename:-unknown}"
[ "$(uname -m)" = x86_64 ] || die "runs on x86_64 only"
command -v dpkg-deb >/dev/null || die "dpkg-deb: not found in PATH"
Misc/build/packages.sh dropin
mkdir -p build/log build/dropin
with_lock build/dropin
if ! cmp -s <(echo "$PACKAGES_WANTED") "$debs/complete"; then
    rm -f "$root.stamp"
    fetch
fi
cmp -s "$debs/complete" "$root.stamp" || unpack

shared=build/$VERSION-shared
BUILD=$shared GIVEN=CONFIGURE_ARGS CONFIGURE_ARGS=--enable-shared Misc/build/build.sh

command=("$TOP/$BUILD/python" -E Misc/dropin/dropin.py "$root" build/dropin/work
    "$TOP/$BUILD/python" "$shared")
# Mount a private /tmp: no other process writes perf maps to it, and Apache's user may.
find_private_tmp
if [ ${#private_tmp[@]} -gt 0 ]; then
    export DROPIN_PRIVATE_TMP=1
    command=("${private_tmp[@]}" "${command[@]}")
fi
# shellcheck disable=SC2086 # a list of names
as_user "${command[@]}" ${TESTS:-} </dev/null
