#!/bin/bash
# Installs the Debian packages that are missing.
#
#     packages.sh PURPOSE     build, lint, test, ... (see below) or an architecture
#
# Without root rights it prints the command that root must run, and fails.
# PACKAGES=skip installs nothing. A machine without apt-get installs nothing either;
# configure reports what is missing.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

case $1 in
build)
    wanted="autoconf patch quilt pkg-config xz-utils libssl-dev zlib1g-dev libsqlite3-dev
        libffi-dev libbz2-dev liblzma-dev libreadline-dev libncurses-dev uuid-dev"
    if [ -z "${CC:-}" ] && ! command -v gcc >/dev/null && ! command -v clang >/dev/null &&
        ! command -v cc >/dev/null; then
        wanted="gcc libc6-dev $wanted"
    fi
    ;;
lint) wanted="gcc clang shellcheck pyflakes3 python3-sphinx" ;;
test)
    wanted="g++ gdb clang llvm valgrind zstd chromium fonts-dejavu-core"
    # libclang-rt-dev has the fuzzer's runtime.
    echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return p && n; }' |
        clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null ||
        wanted="$wanted libclang-rt-dev"
    ;;
dropin) wanted="gcc g++ libc6-dev" ;;
deb) wanted="build-essential dpkg-dev fakeroot quilt autoconf" ;;
test-deb) wanted="debootstrap" ;;
abi) wanted="abigail-tools binutils gdb" ;;
bench) wanted="valgrind gnuplot-nox" ;;
kernel) wanted="qemu-system-arm cpio" ;;
aarch64 | riscv64) wanted="gcc-$1-linux-gnu g++-$1-linux-gnu qemu-user" ;;
*) die "unknown purpose: $1" ;;
esac

if [ "${PACKAGES:-install}" = skip ] || ! command -v apt-get >/dev/null; then
    exit 0
fi

# A package also counts as installed if there is a program of its name in PATH.
missing=
for package in $wanted; do
    case " $(dpkg-query -W -f '${db:Status-Status} ' "$package" 2>/dev/null)" in
    *" installed "*) ;;
    *) command -v "$package" >/dev/null || missing="$missing $package" ;;
    esac
done
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    die "missing packages; run as root: apt-get update && apt-get install -y --no-install-recommends$missing"
fi
say packages "installing:$missing"
log=build/log/packages.log
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
install() {
    apt-get install -y --no-install-recommends $missing
}
# The machine's package lists may be old or missing: update them and try again.
if ! logged "$log" install; then
    logged "$log" apt-get update || true
    logged "$log" install ||
        die "apt-get install$missing failed: $(grep "^E:" "$log" | tail -n 1); log: $log"
fi
