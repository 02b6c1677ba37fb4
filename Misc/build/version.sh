#!/bin/bash
# Prints the CPython series to build: VERSION, or by default that of the distribution's
# own python3, if Misc/patches has this series, or 3.11. Fails if there are no patches for
# VERSION.
set -eu
cd "$(dirname "$0")/../.."

# candidates: prints the series that the distribution may have, the best guess first
candidates() {
    local codename
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null | tr -d '"')
    readlink -f /usr/bin/python3 | sed -n 's,.*/python\(3\.[0-9]*\)$,\1,p'
    [ -z "$codename" ] || awk -v suite="$codename" '$2 == suite { print $1 }' Misc/base/suites
    echo 3.11
}

if [ -z "${VERSION:-}" ]; then
    for VERSION in $(candidates); do
        [ ! -f "Misc/patches/$VERSION/series" ] || break
    done
fi
if [ ! -f "Misc/patches/$VERSION/series" ]; then
    echo "VERSION: no Misc/patches/$VERSION/series; versions here: $(cd Misc/patches && echo *)" >&2
    exit 1
fi
echo "$VERSION"
