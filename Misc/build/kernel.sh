#!/bin/bash
# Runs tests with perf on the distribution's arm64 kernel, which then walks the stacks.
# Boots the kernel in qemu-system-aarch64. The initramfs contains the interpreter from
# cross.sh, perf and the libraries of both.
#
#     kernel.sh [TEST...]       TEST is a test module or a test, as for run_tests.py
#
# All files are in build/kernel-aarch64. KERNEL_SECONDS limits the time.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

BUILD=build/$VERSION-aarch64${CROSS_CFLAGS:+-cflags}
dir=build/kernel-aarch64
root=$dir/root
debs=build/downloads/kernel-aarch64
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
lib=$root/usr/lib/python$VERSION

# closure NAME SUITE PACKAGE...: downloads the packages to $debs/NAME, only once
closure() {
    local name=$1
    shift
    [ ! -f "$debs/$name/complete" ] || return 0
    say kernel "fetching for arm64, from $1:$(printf ' %s' "${@:2}")"
    rm -rf "${debs:?}/$name"
    ARCH=arm64 Misc/build/apt.sh closure "$debs/$name" "$@" 2>build/log/kernel.err ||
        die "arm64 packages cannot be fetched: $(tail -n 1 build/log/kernel.err)"
    touch "$debs/$name/complete"
}

unpack() {
    local deb
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,root,etc}
    for deb in "$debs"/*/*.deb; do
        dpkg-deb -x "$deb" "$dir/package" || die "$deb: cannot be unpacked; remove $debs and try again"
    done
    # Keep the libraries, perf and busybox.
    mv "$dir"/package/boot/vmlinuz-* "$dir/vmlinuz"
    mkdir -p "$root/usr/bin"
    cp -a "$dir/package/lib" "$root/"
    cp -a "$dir"/package/usr/lib/*-linux-gnu "$root/usr/lib-gnu"
    mkdir "$root/usr/lib"
    mv "$root/usr/lib-gnu" "$root/usr/lib/aarch64-linux-gnu"
    rm -rf "$root/lib/modules" "$root"/usr/lib/*/perl "$root"/usr/lib/*/gconv "$dir/package/boot"
    cp "$dir/package/usr/bin/perf" "$root/usr/bin/"
    cp "$dir/package/bin/busybox" "$root/bin/"
    rm -rf "$dir/package"
}

# install_python: copies the interpreter and the part of its library that the tests need
install_python() {
    local built
    mkdir -p "$lib/lib-dynload" "$lib/test"
    cp "$BUILD/python" "$root/usr/bin/python$VERSION"
    tar -C "$SRC/Lib" -h --exclude=__pycache__ --exclude=./test --exclude=./idlelib --exclude=./lib2to3 \
        --exclude=./tkinter --exclude=./turtledemo --exclude=./ensurepip --exclude=./distutils -cf - . |
        tar -C "$lib" -xf -
    tar -C "$SRC/Lib/test" -h --exclude=__pycache__ -cf - __init__.py support | tar -C "$lib/test" -xf -
    cp -r Lib/test/test_perf "$lib/test/"
    built=$BUILD/$(cat "$BUILD/pybuilddir.txt")
    cp "$built"/*.so "$lib/lib-dynload/"
    cp "$built"/_sysconfigdata*.py "$lib/"
    cp Misc/build/run_tests.py "$root/"
}

write_init() {
    cat >"$root/init" <<EOF
#!/bin/busybox sh
# Made by Misc/build/kernel.sh.
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin HOME=/root PERF=/usr/bin/perf PYTHON_PERF_TESTS_REQUIRE_TOOLS=1
export SECONDS_PER_FILE=${KERNEL_SECONDS:-1800}
export LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu:/lib/aarch64-linux-gnu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
echo "kernel     \$(uname -srm), \$(perf --version)"
cd /tmp
python$VERSION -E /run_tests.py $*
poweroff -f
EOF
    chmod +x "$root/init"
}

mkdir -p build/log "$dir"
Misc/build/packages.sh kernel
with_lock "$dir"
# The kernel is that of the release. perf is from the same suite as in tools.sh.
closure kernel "$codename" linux-image-cloud-arm64 busybox-static libffi8 zlib1g
closure perf "$codename-backports" linux-perf
unpack
install_python
write_init "$@"
(cd "$root" && find . -print0 | cpio --null --quiet -o -H newc) >"$dir/initrd"

say kernel "booting $dir/vmlinuz, log: $dir/console.log"
# -no-reboot: qemu ends after a panic too. sve=off: with --call-graph dwarf perf requests
# the SVE registers if the processor has them, but software events do not provide them.
timeout --kill-after=10 "${KERNEL_SECONDS:-1800}" \
    qemu-system-aarch64 -machine virt -cpu max,pauth-impdef=on,sve=off -smp 2 -m 2048 -nographic -no-reboot -nic none \
    -kernel "$dir/vmlinuz" -initrd "$dir/initrd" -append "console=ttyAMA0 panic=-1 quiet rdinit=/init" \
    </dev/null 2>&1 | sed -u 's,\r,,g' | tee "$dir/console.log" |
    grep -E --line-buffered '^(kernel |== |skipped |FAIL|ERROR|[0-9]+ passed)' || true
grep -q '^[1-9][0-9]* passed, 0 failed, ' "$dir/console.log" || die_log "$dir/console.log" "tests failed or did not finish"
