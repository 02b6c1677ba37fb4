#!/bin/bash
# Tries the packages of `make deb` in a new system of the distribution: a container made by
# debootstrap, without the security updates, which could be newer than the source.
#
#   - builds them, by `make deb` in a copy of this repository
#   - lintian must report no error that it does not report of the distribution's packages
#   - installs the distribution's Python, numpy, lxml, greenlet, gunicorn and Flask, and runs
#     tests of the first three (Misc/deb/test/programs.py)
#   - installs our packages with apt; runs the tests again, with profiling off and in each mode
#   - runs a service with three workers and PYTHONPERFSUPPORT=1 as a user of its own, asks it
#     from this machine, records it with perf from outside: in the samples, the functions of
#     the application, of Flask and of gunicorn must be there, in this order, of each worker
#   - goes back to the distribution's packages with apt; runs the tests again
#
# TESTS names steps: build, lintian, programs, service, back (all). Results are in
# build/deb-root; the systems are kept and used again, except for the one that is installed
# to. CCACHE_DIR is used if it is set. DEB_SRC and DEB are those of deb.sh.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/perflib.sh
. Misc/build/rootlib.sh

suite=$(suite_of_series)
name=python$VERSION
builder=$ROOTS/$suite-build fresh=$ROOTS/$suite-fresh debs=$ROOTS/$suite-debs out=$ROOTS/$suite-results
log=$out/log
passed=0

pass() {
    passed=$((passed + 1))
    say test-deb "$1"
}

# copy_repository ROOT: copies this repository to /src in the system
copy_repository() {
    mkdir -p "$1/src"
    find "$1/src" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    tar --exclude=./build --exclude=./.git --exclude=./autom4te.cache --exclude='./config.*' \
        --exclude=./Makefile --exclude=./configure -cf - . | tar -C "$1/src" --no-same-owner -xf -
}

# get ROOT PACKAGE...: installs packages in the system
get() {
    local root=$1
    shift
    logged "$log.apt" in_root "$root" apt-get install -y --no-install-recommends "$@" ||
        die_log "$log.apt" "apt-get install failed in $root"
}

build() {
    local source=${DEB_SRC:-} file
    if [ ! -d "$builder" ]; then
        root_copy "$suite" build
        in_root "$builder" apt-get -qq update
        get "$builder" make
    fi
    copy_repository "$builder"
    case $source in
    */* | *.dsc)
        file=${source%.dsc}
        rm -rf "$builder/dsc"
        mkdir -p "$builder/dsc"
        cp "$file".* "${file%-*}".orig.* "$builder/dsc/" || die "DEB_SRC: $source: not complete"
        source=/dsc/${source##*/}
        ;;
    esac
    if [ -n "${CCACHE_DIR:-}" ]; then
        get "$builder" ccache
        export BIND=$CCACHE_DIR ROOT_PATH=/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin
        export ROOT_ENV="CCACHE_DIR=$CCACHE_DIR CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=/src"
    fi
    in_root "$builder" make --no-print-directory -C /src deb VERSION="$VERSION" DEB="${DEB:-}" JOBS="$JOBS" \
        ${source:+DEB_SRC="$source"} || die "make deb failed in $builder"
    unset BIND ROOT_PATH ROOT_ENV
    rm -rf "$debs"
    cp -r "$builder/src/build/deb" "$debs"
    pass "$(find "$debs" -name '*.deb' | wc -l) packages built in a new system of $suite"
}

# our_packages: prints the names of the packages that were built
our_packages() {
    local deb
    for deb in "$debs"/*.deb; do
        basename "$deb" | cut -d_ -f1
    done
}

# lintian_errors DIR: prints PACKAGE: TAG DETAILS of each error in the packages of DIR
lintian_errors() {
    # shellcheck disable=SC2016 # sh expands $1
    in_root "$builder" sh -c 'lintian --no-cfg --fail-on none --tag-display-limit 0 "$1"/*.deb' sh "$1" \
        2>"$out/lintian.err" | sed -n 's/^E: //p' | sort -u
}

check_lintian() {
    local packages bad
    get "$builder" lintian
    mkdir -p "$builder/stock"
    packages=$(our_packages)
    # shellcheck disable=SC2086 # a list of names
    logged "$log.apt" in_root "$builder" sh -c 'cd /stock && rm -f ./*.deb && apt-get download "$@"' sh $packages ||
        die_log "$log.apt" "the distribution's packages cannot be downloaded"
    rm -rf "$builder/debs"
    cp -r "$debs" "$builder/debs"
    lintian_errors /stock >"$out/lintian.stock"
    lintian_errors /debs >"$out/lintian.ours"
    bad=$(comm -13 "$out/lintian.stock" "$out/lintian.ours")
    [ -z "$bad" ] || die "lintian reports errors that the distribution's packages do not have: $bad"
    pass "lintian: no error that the distribution's packages do not have ($(wc -l <"$out/lintian.stock") and $(wc -l <"$out/lintian.ours"))"
}

# versions: prints the installed packages of the source package with their versions
versions() {
    # shellcheck disable=SC2016 # dpkg-query expands them
    in_root "$fresh" dpkg-query -W -f '${source:Package} ${db:Status-Status} ${Package} ${Version}\n' |
        awk -v source="$name" '$1 == source && $2 == "installed" { print $3, $4 }'
}

# python ARGUMENT...: runs the system's python3
python() {
    in_root "$fresh" python3 "$@"
}

install_stock() {
    root_copy "$suite" fresh
    copy_repository "$fresh"
    mkdir -p "$fresh/debs" "$fresh/results"
    cp "$debs"/*.deb "$fresh/debs/"
    logged "$log.apt" in_root "$fresh" apt-get update || die_log "$log.apt" "apt-get update failed"
    get "$fresh" python3 "$name-dev" python3-numpy python3-lxml python3-greenlet python3-pytest \
        python3-hypothesis gunicorn python3-flask
    versions >"$out/versions.stock"
    python /src/Misc/deb/test/programs.py stock /results || die "programs.py failed with the distribution's packages"
}

install_ours() {
    local begin=$SECONDS
    logged "$log.install" in_root "$fresh" sh -c 'apt-get install -y ./debs/*.deb' ||
        die_log "$log.install" "apt install of our packages failed"
    versions >"$out/versions.ours"
    # Some of ours depend on packages for all architectures, which the quick form does not build.
    ! grep -v '+perf[0-9]*$' "$out/versions.ours" | cut -d' ' -f1 | grep -xFf <(our_packages) ||
        die "these packages are still the distribution's"
    [ -z "$(logged "$log.audit" in_root "$fresh" sh -c 'dpkg --audit; apt-get check'; grep -v '^Reading\|^Building' "$log.audit")" ] ||
        die_log "$log.audit" "the system's packages are not complete"
    python -X perf -c 'import sys, sysconfig
assert sys.is_stack_trampoline_active()
assert "-fno-omit-frame-pointer" in sysconfig.get_config_var("CFLAGS")'
    pass "apt installed $(grep -c '+perf[0-9]*$' "$out/versions.ours") packages of ours in $((SECONDS - begin)) s; python3 -X perf works"
}

programs() {
    python /src/Misc/deb/test/programs.py ours /results || die "programs.py failed with our packages"
    pass "numpy, lxml and greenlet behave as with the distribution's packages, off and in each mode"
}

# processes PORT: prints the ids, here, of the server's processes in the system
processes() {
    local status
    for status in /proc/[0-9]*/status; do
        ! grep -qs $'^NSpid:\t[0-9]*\t[0-9]' "$status" ||
            ! tr '\0' ' ' <"${status%/status}/cmdline" 2>/dev/null | grep -q "gunicorn.*127.0.0.1:$1 " ||
            { echo "$status" | cut -d/ -f3; }
    done
}

# free_port: prints a port that nobody listens to
free_port() {
    local port=18700
    while grep -qi ": [0-9A-F]*:$(printf %04X "$port") " /proc/net/tcp /proc/net/tcp6; do
        port=$((port + 1))
    done
    echo "$port"
}

# The callers of the application's innermost function, up to the server's main function.
ORDER="total report page Flask.dispatch_request Flask.full_dispatch_request Flask.wsgi_app Flask.__call__
    SyncWorker.handle_request SyncWorker.handle SyncWorker.accept SyncWorker.run_for_one SyncWorker.run
    Arbiter.spawn_worker"

service() {
    local port server pids answers pattern each worker
    port=$(free_port)
    say test-deb "gunicorn and Flask on 127.0.0.1:$port, PYTHONPERFSUPPORT=1, three workers, user www-data"
    ROOT_ENV=PYTHONPERFSUPPORT=1 in_root "$fresh" setpriv --reuid www-data --regid www-data --clear-groups \
        gunicorn --chdir /src/Misc/deb/test --workers 3 --bind "127.0.0.1:$port" app:app </dev/null >"$out/gunicorn.log" 2>&1 &
    server=$!
    # shellcheck disable=SC2064 # the id of now
    trap "kill $server 2>/dev/null || true" EXIT
    for _ in $(seq 100); do
        ! in_root "$fresh" python3 /src/Misc/deb/test/load.py "$port" 0.5 >/dev/null 2>&1 || break
        sleep 0.3
    done
    pids=$(processes "$port")
    [ "$(echo "$pids" | wc -w)" = 4 ] || die_log "$out/gunicorn.log" "gunicorn has no three workers: $pids"
    in_root "$fresh" python3 /src/Misc/deb/test/load.py "$port" 14 >"$out/load" 2>&1 &
    answers=$!
    sleep 1
    logged "$out/record.log" perf_run record --no-buildid-cache -F 999 -g -p "$(echo "$pids" | paste -sd,)" \
        -o "$out/service.data" -- sleep 10 || die_log "$out/record.log" "perf record failed"
    wait "$answers" || die "$(cat "$out/load")"
    # The service must be running still: perf reads the maps in its /tmp.
    perf_run script -i "$out/service.data" -F pid,ip,sym >"$out/service.script" 2>"$out/script.log"
    # $server is a shell of ours; the service ends by itself when all its processes are told.
    # shellcheck disable=SC2086 # a list of ids
    kill $pids
    wait "$server" || true
    trap - EXIT
    pattern=$(for each in $ORDER; do printf 'py::%s:.*' "$each"; done)
    awk -v RS= -v pattern="$pattern" '
        /py::total:/ { all[$1]++; if ($0 ~ pattern) nested[$1]++ }
        END { for (pid in all) print pid, nested[pid] + 0, all[pid] }' "$out/service.script" >"$out/service.counts"
    worker=$(wc -l <"$out/service.counts")
    [ "$worker" = 3 ] || die "samples of $worker workers have the application's function, not of 3; see $out/service.script"
    awk '$3 < 100 || $2 < 0.95 * $3 { exit 1 }' "$out/service.counts" ||
        die "too few samples have the functions in order: worker, in order, all: $(paste -sd';' "$out/service.counts")"
    pass "$(cat "$out/load") answers; application, Flask and gunicorn in order in $(awk '{ a += $2; b += $3 } END { print a " of " b }' \
        "$out/service.counts") samples of three workers"
}

go_back() {
    logged "$log.back" in_root "$fresh" sh -c "
        apt-get install -y --allow-downgrades \$(dpkg-query -W -f '\${db:Status-Status} \${Package} \${Version}\\n' |
            sed -n 's/^installed \\([^ ]*\\) \\(.*\\)+perf[0-9]*\$/\\1=\\2/p')" ||
        die_log "$log.back" "apt did not go back to the distribution's packages"
    versions >"$out/versions.back"
    ! grep '+perf' "$out/versions.back" || die "these packages are still ours"
    # apt had no reason to install others than these before.
    [ -z "$(comm -23 <(sort "$out/versions.stock") <(sort "$out/versions.back"))" ] || die "versions differ from those before; see $out"
    # shellcheck disable=SC2046 # a list of names
    logged "$log.verify" in_root "$fresh" dpkg --verify $(cut -d' ' -f1 "$out/versions.back") || true
    ! grep . "$log.verify" || die "these files are not those of the distribution's packages"
    python /src/Misc/deb/test/programs.py back /results || die "programs.py failed after going back"
    pass "apt went back; all is as before"
}

[ "$(id -u)" = 0 ] || die "debootstrap and chroot need root rights: run it as root"
[ -n "$suite" ] || die "Misc/base/suites has no suite for VERSION=$VERSION"
Misc/build/packages.sh test-deb
: "${JOBS:=$(nproc)}"
with_lock "$out"
mkdir -p build/log
steps=${TESTS:-build lintian programs service back}
case " $steps " in *" build "*) build ;; esac
[ -d "$debs" ] || die "$debs: build first: TESTS=build"
case " $steps " in *" lintian "*) check_lintian ;; esac
case " $steps " in
*" programs "* | *" service "* | *" back "*)
    install_stock
    install_ours
    ;;
esac
case " $steps " in *" programs "*) programs ;; esac
case " $steps " in *" service "*) service ;; esac
case " $steps " in *" back "*) go_back ;; esac
echo "$passed passed, 0 failed, 0 skipped"
