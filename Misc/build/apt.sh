#!/bin/bash
# Downloads Debian packages with a private apt configuration, which uses the machine's
# mirror and keyring. The machine's own package state stays unchanged.
#
#     apt.sh source DIR SUITE PACKAGE      downloads the source of PACKAGE to DIR
#     apt.sh current DIR SUITE PACKAGE     the same: the newest source in SUITE, SUITE-updates
#                                          and SUITE-security, as far as the machine uses them;
#                                          PACKAGE=VERSION is that version
#     apt.sh versions - SUITE PACKAGE      prints the versions that "current" can take, newest first
#     apt.sh closure DIR SUITE PACKAGE...  downloads the packages to DIR, with all
#                                          libraries that they need, the C library too
#     apt.sh only DIR SUITE PACKAGE...     downloads the packages alone
#     apt.sh mirror - SUITE                prints the URI from which the machine gets SUITE
#
# SUITE is a suite of the distribution's archive, for example bookworm-backports. apt
# checks the signature and the checksum of each file. ARCH=arm64 in the environment
# selects the packages of another architecture.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

what=$1 dir=$2 suite=$3
shift 3
packages=("$@")
: "${ARCH:=}"
command -v apt-get >/dev/null || die "apt-get: not found in PATH"
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')

# Both functions print the deb822 fields (URIs, Signed-By, ...) of the distribution's
# archive: the first entry of the machine's sources that has the suite $1 with the
# component main and the distribution's own key.
mirror_of_sources() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -r "$file" ] || grep -v '^#' "$file"
        echo
    done | awk -v RS= -v FS='\n' -v suite="$1" '
        {   # join continuation lines to their field
            n = 0
            for (i = 1; i <= NF; i++)
                if ($i ~ /^[ \t]/) field[n] = field[n] "\n" $i
                else field[++n] = $i
            wanted = out = ""
            for (i = 1; i <= n; i++) {
                name = tolower(field[i]); sub(/:.*/, "", name)
                value = field[i]; sub(/^[^:]*:[ \t]*/, "", value)
                gsub(/\n/, " ", value)
                if (name == "suites" && (" " value " ") ~ ("[ \t]" suite "/?[ \t]")) wanted = wanted "s"
                if (name == "components" && (" " value " ") ~ /[ \t]main[ \t]/) wanted = wanted "c"
                if (name == "uris") { split(value, uri, /[ \t]+/); out = out "URIs: " uri[1] "\n" }
                if (name ~ /^(signed-by|trusted|check-valid-until)$/) out = out field[i] "\n"
                if (name == "signed-by" && value !~ /-archive-/) wanted = "no"
                if (name == "enabled" && tolower(value) == "no") wanted = "no"
            }
            if ((wanted == "sc" || wanted == "cs") && out ~ /URIs: [a-z+]+:/ && out !~ /URIs: cdrom:/) {
                printf "%s", out
                exit
            }
        }'
}

mirror_of_list() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        awk -v suite="$1" '
        $1 == "deb" || $1 == "deb-src" {
            options = ""
            if (match($0, /\[[^]]*\]/)) {
                options = substr($0, RSTART + 1, RLENGTH - 2)
                $0 = substr($0, 1, RSTART - 1) substr($0, RSTART + RLENGTH)
            }
            if (options ~ /signed-by=/ && options !~ /signed-by=[^ ]*-archive-/) next
            if ($3 != suite || (" " $0 " ") !~ / main / || $2 ~ /^cdrom:/) next
            print "URIs: " $2
            n = split(options, option, /[ \t]+/)
            for (i = 1; i <= n; i++) {
                value = option[i]; sub(/^[^=]*=/, "", value)
                if (option[i] ~ /^signed-by=/) print "Signed-By: " value
                if (option[i] ~ /^trusted=/) print "Trusted: " value
                if (option[i] ~ /^check-valid-until=/) print "Check-Valid-Until: " value
            }
            exit
        }'
}

# mirror_of SUITE: prints the fields of the archive that has SUITE, or nothing
mirror_of() {
    local fields
    fields=$(mirror_of_sources "$1")
    [ -n "$fields" ] || fields=$(mirror_of_list "$1")
    [ -z "$fields" ] || printf '%s\n' "$fields"
}

mirror=$(mirror_of "$codename")
[ -n "$mirror" ] ||
    die "no entry for $codename main in /etc/apt/sources.list or /etc/apt/sources.list.d"
if [ "$what" = mirror ]; then
    # The suites of all releases of a distribution are in the same place.
    printf '%s\n' "$mirror" | sed -n 's/^URIs: //p'
    exit
fi

case $what in
versions) id=current-$suite ;;
*) id=$what-$suite${ARCH:+-$ARCH} && mkdir -p "$dir" ;;
esac
state=$TOP/build/apt/$id
mkdir -p "$state/sources.list.d" "$state/lists/partial" "$state/cache/archives/partial"
: >"$state/status"
# A backport uses the libraries of its release.
case $what in
closure | only) types=deb suites="$suite $(printf '%s' "$suite" | sed -n 's/-backports$//p')" ;;
source | current | versions) types=deb-src suites=$suite ;;
*) die "unknown request: $what" ;;
esac
printf 'Types: %s\nSuites: %s\nComponents: main\n%s\n' "$types" "$suites" "$mirror" \
    >"$state/sources.list.d/mirror.sources"
if [ "$types" = deb-src ] && [ "$what" != source ]; then
    for more in "$suite-updates" "$suite-security"; do
        rm -f "$state/sources.list.d/$more.sources"
        fields=$(mirror_of "$more")
        [ -z "$fields" ] ||
            printf 'Types: %s\nSuites: %s\nComponents: main\n%s\n' "$types" "$more" "$fields" \
                >"$state/sources.list.d/$more.sources"
    done
fi

apt() {
    "$@" -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$state/sources.list.d" \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State="$state" -o Dir::State::lists="$state/lists" \
        -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
        -o APT::Sandbox::User="$(id -un)" -o APT::Get::AllowUnauthenticated=false \
        -o Acquire::Languages=none ${ARCH:+-o APT::Architecture=$ARCH -o APT::Architectures=$ARCH}
}

log=$TOP/build/log/apt-$id.log
failed() {
    die "$1 failed: $(grep -m 1 '^E:' "$log" || grep -m 1 '^W:' "$log"); log: build/log/${log##*/}"
}

logged "$log" apt apt-get update --error-on=any || failed "apt-get update for $suite"
if [ "$what" = versions ]; then
    apt apt-cache madison "${packages[@]}" | awk -F ' *[|] *' '{ print $2 }'
    exit
fi
cd "$dir"
case $what in
source | current)
    logged "$log" apt apt-get source --download-only --only-source "${packages[@]}" ||
        failed "apt-get source ${packages[*]} from $suite"
    ;;
only)
    logged "$log" apt apt-get download "${packages[@]/%//$suite}" ||
        failed "apt-get download ${packages[*]} from $suite"
    ;;
closure)
    apt apt-get install --print-uris -qq -y --no-install-recommends "${packages[@]/%//$suite}" \
        >"$state/uris" 2>"$log" || failed "apt-get install ${packages[*]} from $suite"
    # Take the libraries. The other programs and the data are not needed.
    asked="^($(printf '%s|' "${packages[@]}")linux-image-[0-9].*)\$"
    names=$(awk '{ sub(/_.*/, "", $2); print $2 }' "$state/uris" | awk -v asked="$asked" '
        $0 ~ asked || /^(lib|zlib1g$)/ && !/-(common|minimal|stdlib|data|bin)$/')
    # shellcheck disable=SC2046 # a list of names
    logged "$log" apt apt-get download $(
        for name in $names; do
            awk -v name="$name" '{ split($2, part, "_") }
                part[1] == name { gsub(/%3a/, ":", part[2]); print name "=" part[2] }' "$state/uris"
        done
    ) || failed "apt-get download ${packages[*]} from $suite"
    ;;
esac
