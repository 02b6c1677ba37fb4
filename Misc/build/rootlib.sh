# shellcheck shell=bash
# Functions that make a system of the distribution in a directory and run commands in it,
# for test_deb.sh. Source this file after lib.sh. They need root rights.

ROOTS=build/deb-root

# root_base SUITE: makes $ROOTS/SUITE-base, a minimal system of SUITE
root_base() {
    local base=$ROOTS/$1-base uri
    [ ! -f "$base.complete" ] || return 0
    say root "debootstrap of $1 in $base"
    uri=$(Misc/build/apt.sh mirror - "$1")
    rm -rf "$base"
    mkdir -p "$ROOTS/cache"
    logged "$ROOTS/$1.log" debootstrap --variant=minbase --cache-dir="$TOP/$ROOTS/cache" \
        "$1" "$base" "$uri" || die_log "$ROOTS/$1.log" "debootstrap of $1 failed"
    # Without the security updates.
    printf 'deb %s %s main\ndeb %s %s-updates main\n' "$uri" "$1" "$uri" "$1" >"$base/etc/apt/sources.list"
    touch "$base.complete"
}

# root_copy SUITE NAME: makes $ROOTS/SUITE-NAME, a copy of the minimal system
root_copy() {
    root_base "$1"
    rm -rf "${ROOTS:?}/$1-$2"
    cp -a --reflink=auto "$ROOTS/$1-base" "$ROOTS/$1-$2"
}

# in_root ROOT COMMAND...: runs the command as root in the system, with its own mounts, /tmp
# and process ids, like a container. The network is the machine's. BIND lists directories
# that are mounted at the same path.
in_root() {
    local root=$1
    shift
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    # The inner shell expands the variables; ROOT_ENV is a list.
    # shellcheck disable=SC2016,SC2086
    unshare --mount --pid --fork --kill-child -- bash -c '
        set -e
        root=$1 bind=$2
        shift 2
        mount --make-rprivate /
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
        for each in $bind; do
            mkdir -p "$root$each"
            mount --bind "$each" "$root$each"
        done
        cd "$root"
        pivot_root . mnt
        cd /
        umount -l /mnt
        exec "$@"
    ' bash "$root" "${BIND:-}" env -i PATH="${ROOT_PATH:-/usr/sbin:/usr/bin:/sbin:/bin}" HOME=/root LANG=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive ${ROOT_ENV:-} "$@"
}
