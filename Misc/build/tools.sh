#!/bin/bash
# Provides the tools that profile and measure as build/tools/bin/NAME: the machine's
# own if they are good enough, else Debian's, downloaded with all their libraries and
# unpacked below build/tools. What is compiled is started through its own dynamic
# loader (by an option, not by the environment, so that the programs they start run
# as ever).
#
#     tools.sh [NAME...]      perf and samply if none is named; else of these:
#
#     perf            6.8 or newer, for jitdump
#     samply
#     flamegraph.pl   draws flame graphs from folded stacks
#     python3.13      the CPython with a perf support of its own that ours is compared
#                     with; never the machine's
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

bin=build/tools/bin
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')

# good_enough TOOL PROGRAM: whether it starts and is new enough
good_enough() {
    local version
    version=$("$2" --version 2>/dev/null | grep -Eo '[0-9]+(\.[0-9]+)+' | head -n 1)
    case $1 in
    perf) [ -n "$version" ] && printf '6.8\n%s\n' "$version" | sort -CV ;;   # jitdump
    samply) [ -n "$version" ] ;;
    flamegraph.pl) "$2" --help 2>&1 | grep -q -e --colors ;;
    python3.13)
        "$2" -X perf -c 'import os, sys; os.unlink(f"/tmp/perf-{os.getpid()}.map"); sys.is_stack_trampoline_active() or 1/0' 2>/dev/null
        ;;
    esac
}

# suite_of TOOL: where Debian has a version that is new enough
suite_of() {
    case $1 in
    perf) echo "$codename-backports" ;;
    samply) echo testing ;;
    flamegraph.pl) echo "$codename" ;;
    python3.13) echo trixie ;;
    esac
}

# fetch TOOL PACKAGES VERSION: downloads and unpacks them below build/tools/TOOL-root
fetch() {
    local tool=$1 packages=$2 root=build/tools/$1-root debs=build/downloads/$1 suite deb
    suite=$(suite_of "$tool")
    if [ ! -f "$debs/complete" ]; then
        say tools "fetching $tool: package ${packages%% *} of $suite, with its libraries"
        rm -rf "$debs"
        # shellcheck disable=SC2086 # a list of names
        Misc/build/apt.sh closure "$debs" "$suite" $packages 2>build/log/tools.err ||
            die "$tool: cannot be fetched ($(tail -n 1 build/log/tools.err)); install $tool $3"
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

# command_of TOOL ROOT: lines of shell that set its command as "$@"
command_of() {
    local tool=$1 root=$2 loader name=$1
    # shellcheck disable=SC2016 # the wrapper's
    echo 'root=$(dirname "$(readlink -f "$0")")/../'"${root##*/}"
    if [ "$tool" = flamegraph.pl ]; then
        # shellcheck disable=SC2016
        printf 'set -- perl "$root/%s" "$@"\n' "$(cd "$root" && find . -name "$tool" -print -quit)"
        return
    fi
    loader=$(cd "$root" && find . -name 'ld-linux*.so.*' -print | sort | head -n 1)
    [ -n "$loader" ] || die "$tool: no dynamic loader among its packages"
    # Python finds its library from there.
    [ "$tool" != python3.13 ] || name="\$root/usr/bin/$tool"
    cat <<EOF
path=\$(ls -d "\$root"/lib/*-linux-gnu* "\$root"/usr/lib/*-linux-gnu* 2>/dev/null | tr '\n' ':')
set -- "\$root/${loader#./}" --library-path "\$path" --argv0 "$name" "\$root/usr/bin/$tool" "\$@"
EOF
}

# wrapper TOOL: makes build/tools/bin/TOOL.new, a script that runs the command
# which standard input, lines of shell, sets as "$@"
wrapper() {
    {
        printf '#!/bin/sh\n# Runs %s. Made by Misc/build/tools.sh.\n' "$1"
        cat
        [ "$1" != samply ] || cat <<'EOF'
# Where there are no hardware counters, samply takes the clock only if the
# kernel is set to less than paranoid; for root it makes no other difference,
# so root shows it another setting, in a mount namespace of its own.
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
    flamegraph.pl) provide flamegraph.pl libdevel-nytprof-perl "in PATH" ;;
    python3.13)
        provide python3.13 "python3.13 python3.13-minimal libpython3.13-minimal libpython3.13-stdlib" \
            "or use bench.py by hand"
        ;;
    *) die "unknown tool: $tool" ;;
    esac
done
