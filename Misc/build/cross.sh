#!/bin/bash
# Builds the patched interpreter for another architecture.
#
#     cross.sh ARCH           builds for aarch64 or riscv64, in build/VERSION-ARCH
#     cross.sh ARCH test      the same, and runs our tests (TESTS) under qemu-user
#
# The native interpreter serves as build-python. The script python-qemu in the build
# directory runs the new interpreter under qemu-user. sys.executable names this script.
#
# The cross compiler gets CROSS_CFLAGS. A build with CROSS_CFLAGS is in
# build/VERSION-ARCH-cflags. build/sysroot-ARCH has the headers and libraries of the
# architecture that are not in the compiler's packages.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

arch=$1
host=$arch-linux-gnu
native=$TOP/$BUILD
BUILD=build/$VERSION-$arch${CROSS_CFLAGS:+-cflags}
CFLAGS=${CROSS_CFLAGS:-}
# On the other architectures gcc 12 makes unwind information by default.
[ "$arch" != riscv64 ] || CFLAGS="-fasynchronous-unwind-tables${CFLAGS:+ $CFLAGS}"
sysroot=$TOP/build/sysroot-$arch
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
export BUILD CFLAGS

# provide_sysroot: unpacks libffi and zlib, for the modules ctypes and zlib, the C++
# library, for extensions of the tests, and libatomic, which 3.13 needs on riscv64.
# bookworm has no packages for riscv64, so they come from trixie with trixie's C library,
# which also runs programs that were linked with an older one.
provide_sysroot() {
    local debs=build/downloads/sysroot-$arch deb debian suite=$codename wanted
    local packages=(libffi-dev zlib1g-dev libstdc++6 libatomic1)
    case $arch in
    aarch64) debian=arm64 ;;
    riscv64) debian=riscv64; [ "$codename" != bookworm ] || suite=trixie ;;
    *) die "$arch: unknown architecture; expected aarch64 or riscv64" ;;
    esac
    wanted="$suite ${packages[*]}"
    [ "$(cat "$sysroot/complete" 2>/dev/null)" != "$wanted" ] || return 0
    say cross "fetching headers and libraries for $debian, from $suite"
    rm -rf "$debs" "$sysroot"
    ARCH=$debian Misc/build/apt.sh closure "$debs" "$suite" "${packages[@]}" 2>build/log/sysroot.err ||
        die "libraries for $debian cannot be fetched: $(tail -n 1 build/log/sysroot.err)"
    rm -f "$debs"/libc6-dev_*.deb       # the C compiler's package has these headers
    for deb in "$debs"/*.deb; do
        dpkg-deb -x "$deb" "$sysroot" || die "$deb: cannot be unpacked; remove $debs and try again"
    done
    [ -e "$sysroot/lib" ] || ln -s usr/lib "$sysroot/lib"
    cp "$sysroot/usr/include/$host"/ffi*.h "$sysroot/usr/include/"     # setup.py searches here
    # Make configure run again, because it searches for these libraries.
    [ ! -f "$BUILD/configure.args" ] || echo >>"$BUILD/configure.args"
    echo "$wanted" >"$sysroot/complete"
}

wrapper() {
    local cpu=
    # Signed return addresses, with an algorithm that qemu computes fast.
    [ "$arch" != aarch64 ] || cpu="-cpu max,pauth-impdef=on"
    mkdir -p "$BUILD"
    cat >"$BUILD/python-qemu.new" <<EOF
#!/bin/sh
# Runs the interpreter of this directory under qemu-user, or the program that
# PYTHON_QEMU_PROGRAM names. Made by Misc/build/cross.sh.
program=\${PYTHON_QEMU_PROGRAM:-\$(dirname "\$0")/python}
unset PYTHON_QEMU_PROGRAM
exec qemu-$arch $cpu -L "$sysroot" -0 "\$0" "\$program" "\$@"
EOF
    chmod +x "$BUILD/python-qemu.new"
    mv "$BUILD/python-qemu.new" "$BUILD/python-qemu"
}

mkdir -p build/log
Misc/build/packages.sh "$arch"
(
    with_lock build/sysroot
    provide_sysroot
)
wrapper

export PYTHON=$TOP/$BUILD/python-qemu CC=$host-gcc CXX=$host-g++ GIVEN=cross CONFIGURE_ARGS
CONFIGURE_ARGS="--host=$host --build=$(uname -m)-linux-gnu --with-build-python=$native/python"
CONFIGURE_ARGS+=" --without-ensurepip ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no"
CONFIGURE_ARGS+=" ac_cv_computed_gotos=yes"     # configure would have to run a program
export CPPFLAGS="-I$sysroot/usr/include -I$sysroot/usr/include/$host"
export LDFLAGS="-L$sysroot/usr/lib/$host -Wl,-rpath-link,$sysroot/usr/lib/$host"
export PKG_CONFIG_LIBDIR=$sysroot/usr/lib/$host/pkgconfig PKG_CONFIG_SYSROOT_DIR=$sysroot
case ${2:-build} in
build) Misc/build/build.sh ;;
test) Misc/build/test.sh ;;
*) die "$2: unknown request; expected test or nothing" ;;
esac
