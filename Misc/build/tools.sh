#!/bin/bash
# Provides profilers and the like as build/tools/bin/NAME. Takes the machine's program if
# it is new enough. Otherwise downloads Debian's package with all its libraries and
# unpacks it below build/tools.
#
#     tools.sh [NAME...]      perf and samply, or those of these that are named:
#
#     perf            6.8 or newer, for jitdump
#     samply
#     flamegraph.pl   draws flame graphs from folded stacks
#     hotspot-perfparser
#                     the program that reads perf.data for hotspot; always Debian 12's
#     python3.13      the peer of `make bench`, with CPython's own perf support; always
#                     Debian's, never the machine's
#
# build/tools/bin/NAME starts a downloaded program with the dynamic loader of its own
# package. Options pass the library path, because programs that it starts would inherit
# an environment variable.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

bin=build/tools/bin
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')

# good_enough TOOL PROGRAM: succeeds if the program runs and is new enough
good_enough() {
    local version
    version=$("$2" --version 2>/dev/null | grep -Eo '[0-9]+(\.[0-9]+)+' | head -n 1)
    case $1 in
    perf) [ -n "$version" ] && printf '6.8\n%s\n' "$version" | sort -CV ;;   # jitdump
    samply) [ -n "$version" ] ;;
    flamegraph.pl) "$2" --help 2>&1 | grep -q -e --colors ;;
    hotspot-perfparser) "$2" --help 2>&1 | grep -q -e --output ;;
    python3.13)
        "$2" -X perf -c 'import os, sys; os.unlink(f"/tmp/perf-{os.getpid()}.map"); sys.is_stack_trampoline_active() or 1/0' 2>/dev/null
        ;;
    esac
}

# suite_of TOOL: prints the Debian suite that has a version new enough
suite_of() {
    case $1 in
    perf) echo "$codename-backports" ;;
    samply) echo testing ;;
    flamegraph.pl) echo "$codename" ;;
    hotspot-perfparser) echo bookworm ;;        # no later suite has one
    python3.13) echo trixie ;;
    esac
}

# fetch TOOL PACKAGES VERSION: downloads the packages, unpacks them to build/tools/TOOL-root
fetch() {
    local tool=$1 packages=$2 root=build/tools/$1-root debs=build/downloads/$1 suite deb
    suite=$(suite_of "$tool")
    if [ ! -f "$debs/complete" ]; then
        say tools "fetching $tool: package ${packages%% *} of $suite, with its libraries"
        rm -rf "$debs"
        # shellcheck disable=SC2086 # a list of names
        Misc/build/apt.sh closure "$debs" "$suite" $packages 2>build/log/tools.err ||
            die "$tool: cannot be fetched ($(tail -n 1 build/log/tools.err)); install $tool $3"
        # hotspot itself needs the libraries of a whole desktop.
        [ "$tool" != hotspot-perfparser ] ||
            Misc/build/apt.sh only "$debs" "$suite" hotspot 2>build/log/tools.err ||
            die "$tool: cannot be fetched ($(tail -n 1 build/log/tools.err)); install hotspot"
        touch "$debs/complete"
    fi
    rm -rf "$root" "$root.new"
    for deb in "$debs"/*.deb; do
        dpkg-deb -x "$deb" "$root.new" || die "$deb: cannot be unpacked; remove $debs and try again"
    done
    mv "$root.new" "$root"
    command_of "$tool" "$root" | wrapper "$tool"
    good_enough "$tool" "$bin/$tool.new" ||
        die "$bin/$tool: does not run: $("$bin/$tool.new" --version 2>&1 | tail -n 1)"
    mv "$bin/$tool.new" "$bin/$tool"
}

# command_of TOOL ROOT: prints shell code that sets "$@" to the tool's command
command_of() {
    local tool=$1 root=$2 loader name=$1 program
    # shellcheck disable=SC2016 # the wrapper expands them
    echo 'root=$(dirname "$(readlink -f "$0")")/../'"${root##*/}"
    if [ "$tool" = flamegraph.pl ]; then
        # shellcheck disable=SC2016
        printf 'set -- perl "$root/%s" "$@"\n' "$(cd "$root" && find . -name "$tool" -print -quit)"
        return
    fi
    loader=$(cd "$root" && find . -name 'ld-linux*.so.*' -print | sort | head -n 1)
    [ -n "$loader" ] || die "$tool: no dynamic loader among its packages"
    # Python finds its library through argv[0].
    [ "$tool" != python3.13 ] || name="\$root/usr/bin/$tool"
    [ "$tool" != perf ] || cat <<'EOF'
if [ "${1:-}" = script ]; then    # "perf script report NAME" runs perf's own scripts, and they run perf
    : "${PERF_EXEC_PATH:=$(readlink -f "$root/usr/lib/perf-core")}"
    PATH=$(dirname "$(readlink -f "$0")"):$PATH
    export PERF_EXEC_PATH PATH
fi
EOF
    program=$(cd "$root" && find usr/bin usr/lib -name "$tool" -print -quit)
    cat <<EOF
path=\$(ls -d "\$root"/lib/*-linux-gnu* "\$root"/usr/lib/*-linux-gnu* 2>/dev/null | tr '\n' ':')
set -- "\$root/${loader#./}" --library-path "\$path" --argv0 "$name" "\$root/$program" "\$@"
EOF
}

# wrapper TOOL: makes the script build/tools/bin/TOOL.new. It runs the shell code from
# standard input, which sets "$@", and then "$@".
wrapper() {
    {
        printf '#!/bin/sh\n# Runs %s. Made by Misc/build/tools.sh.\n' "$1"
        cat
        [ "$1" != samply ] || cat <<'EOF'
# Without hardware counters samply samples by the clock, but only if
# perf_event_paranoid is at most 1. For root this setting changes nothing else, so
# root shows samply the value 1 in a private mount namespace.
paranoid=/proc/sys/kernel/perf_event_paranoid
if [ "$(id -u)" = 0 ] && [ "$(cat $paranoid 2>/dev/null || echo 0)" -gt 1 ] && unshare -m true 2>/dev/null; then
    exec unshare -m sh -c 'echo 1 >"$1"; mount --bind "$1" "$2"; rm -f "$1"; shift 2; exec "$@"' sh \
        "$(mktemp)" $paranoid "$@"
fi
EOF
        printf 'exec "$@"\n'
    } >"$bin/$1.new"
    chmod +x "$bin/$1.new"
}

provide() {
    local tool=$1
    # Wrappers that were made before perf found its own scripts are made again.
    if [ "$tool" = perf ] && grep -qs perf-root "$bin/perf" && ! grep -q PERF_EXEC_PATH "$bin/perf"; then
        rm "$bin/perf"
    fi
    if [ -x "$bin/$tool" ] && good_enough "$tool" "$bin/$tool"; then
        return
    fi
    rm -f "$bin/$tool"
    local own
    own=$(command -v "$tool" || true)
    if [ "$tool" != python3.13 ] && [ -n "$own" ] && good_enough "$tool" "$own"; then
        printf 'set -- "%s" "$@"\n' "$own" | wrapper "$tool"
        mv "$bin/$tool.new" "$bin/$tool"
        say tools "$tool: the machine's own, $own"
        return
    fi
    if [ ! -f /etc/debian_version ] || ! command -v dpkg-deb >/dev/null; then
        die "$tool: not found in PATH or too old; install $tool $3"
    fi
    fetch "$@"
    say tools "$tool: $bin/$tool"
}

mkdir -p "$bin" build/log
with_lock build/tools
[ $# != 0 ] || set -- perf samply
for tool; do
    case $tool in
    perf) provide perf linux-perf "6.8 or newer" ;;
    samply) provide samply samply "0.13 or newer" ;;
    hotspot-perfparser) provide hotspot-perfparser "libqt5network5 libdw1 libelf1" "(package hotspot)" ;;
    flamegraph.pl) provide flamegraph.pl libdevel-nytprof-perl "in PATH" ;;
    python3.13)
        provide python3.13 "python3.13 python3.13-minimal libpython3.13-minimal libpython3.13-stdlib" \
            "or use bench.py by hand"
        ;;
    *) die "unknown tool: $tool" ;;
    esac
done
