#!/bin/bash
# Prepares the repository's own configuration.
#
#     configure.sh configure        installs missing packages and makes `configure`
#     configure.sh config.status    runs `configure`
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

log=build/log/$1.log
case $1 in
configure)
    Misc/build/packages.sh build
    command -v autoconf >/dev/null || die "autoconf: not found in PATH; install it"
    say configure "autoconf"
    logged "$log" autoconf || die_log "$log" "autoconf configure.ac failed"
    ;;
config.status)
    say configure "probing this machine"
    # VERSION is a setting of one command. The Makefile has the default.
    if ! logged "$log" env -u VERSION ./configure; then
        rm -f config.status
        reason=$(sed -n 's/^configure: error: //p' "$log" | tail -n 1)
        [ -z "$reason" ] || die "$reason"
        die_log "$log" "./configure failed"
    fi
    sed -n 's/^configure: WARNING: /configure  note: /p' "$log"
    ;;
esac
