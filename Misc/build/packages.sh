#!/bin/bash
# Installs the Debian packages that are missing. Argument: for what, `build`, `lint`,
# `test`, `bench`, `kernel` or the name of an architecture. As root it says what it
# installs; otherwise it prints the one command to run as root and fails.
# PACKAGES=skip goes on without; so does a machine without apt-get, where configure
# tells what is missing.
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
lint) wanted="gcc clang shellcheck pyflakes3" ;;
test)
    wanted="g++ gdb clang llvm"
    # The fuzzer's runtime is in a package that is named by clang's version.
    echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return p && n; }' |
        clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null ||
        wanted="$wanted libclang-rt-14-dev"
    ;;
bench) wanted="valgrind gnuplot-nox" ;;
kernel) wanted="qemu-system-arm cpio" ;;
aarch64 | riscv64) wanted="gcc-$1-linux-gnu g++-$1-linux-gnu qemu-user" ;;
*) die "unknown purpose: $1" ;;
esac

if [ "${PACKAGES:-install}" = skip ] || ! command -v apt-get >/dev/null; then
    exit 0
fi

# A program counts wherever it comes from; of libraries dpkg knows.
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
# The lists on the machine may be old or not be there: fetch them and try again.
if ! logged "$log" install; then
    logged "$log" apt-get update || true
    logged "$log" install ||
        die "apt-get install$missing failed: $(grep "^E:" "$log" | tail -n 1); log: $log"
fi
