#!/bin/bash
# Checks that extension modules, embedding programs and debuggers that were compiled for
# the unpatched interpreter run with the patched one. Builds both as shared libraries with
# debug information, in build/VERSION-abi and build/VERSION-base-abi, and compares
#
#     headers    every declaration and inline function, every macro, and the layout of
#                every type, internal headers included
#     symbols    those that the shared library exports and those that the interpreter of
#                BUILD exports, with the sizes of variables
#     abidiff    the library's debug information: types of functions and variables
#
# Then an embedding program that was built for the unpatched library runs with ours.
# Misc/abi/allowed.txt lists the additions that are allowed. The script prints each other
# difference in one line. The files that it compares are in build/abi.
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh

patched=build/$VERSION-abi
base=build/$VERSION-base-abi
work=build/abi
allowed=$work/allowed.txt                # what Misc/abi/allowed.txt has for this series
library=libpython$VERSION.so.1.0
bad=0

# headers_source: prints a C file that includes all headers of the base
headers_source() {
    printf '#include "%s"\n' Python.h expat.h
    (cd "build/$VERSION-base/src/Include" && printf '#include "%s"\n' ./*.h internal/*.h)
}

# headers_of SRC BUILD OUT: writes the macros, declarations and layouts of the headers of
# SRC to the directory OUT
headers_of() {
    local flags=(-std=c11 -DNDEBUG -DPy_BUILD_CORE -I"$2" -I"$1/Include" -I"$1/Include/internal" -I"$1/Modules/expat")
    # Leave out the macros of the system's headers.
    "$CC" "${flags[@]}" -E -dD "$work/headers.c" | awk '
        /^# [0-9]/ { wanted = $3 ~ /\/Include\/|\/pyconfig\.h"/ }
        wanted && sub(/^#define /, "")' | sort >"$3/macros.txt"
    "$CC" "${flags[@]}" -E -P "$work/headers.c" | tr '\n' ' ' | sed 's/[;{}]/&\n/g' |
        sed 's/^ *//; s/ *$//; s/  */ /g' | sort >"$3/headers.txt"
    "$CC" "${flags[@]}" -g -fno-eliminate-unused-debug-types -c "$work/headers.c" -o "$3/headers.o"
    gdb -nx -batch -x Misc/abi/layout.py "$3/headers.o" >"$3/layout.txt" 2>"$3/layout.err" ||
        die_log "$3/layout.err" "gdb failed"
    grep -q '^struct _PyInterpreterFrame\.owner offset' "$3/layout.txt" ||
        die "$3/layout.txt: gdb shows no struct _PyInterpreterFrame"
}

# symbols_of FILE: prints the symbols that FILE exports, and the sizes of variables
symbols_of() {
    nm --dynamic --defined-only --portability "$1" | awk '
        $1 ~ /@|^(_init|_fini|_start|_IO_stdin_used|__bss_start|_?edata|_?end|data_start|__data_start|main)$/ { next }
        $2 ~ /[TtWi]/ { print $1, "function"; next }
        { print $1, "variable of", $4, "bytes" }' | sort
}

# suppressions: prints a file for abidiff with the additions that are allowed
suppressions() {
    local kind name
    sed 's/#.*//' "$allowed" | while read -r kind name; do
        case $kind in
        symbol) printf '[suppress_function]\nsymbol_name = %s\nchange_kind = added-function\n\n' "$name" ;;
        member)
            # The offset of the member, in bits.
            printf '[suppress_type]\nname = %s\nhas_data_member_inserted_at = %s\n\n' "${name%.*}" \
                "$(($(sed -n "s/^\(struct \)\{0,1\}${name%.*}\.${name##*.} offset \([0-9]*\) .*/\2/p" "$work/ours/layout.txt") * 8))"
            ;;
        esac
    done
    # These contain PyConfig, and abidiff reports them because it has a new member.
    # layout.txt has the offset, size and type of each of their members.
    for name in _is pyruntimestate; do
        grep -q "^struct $name size " "$work/base/layout.txt" ||
            die "$work/base/layout.txt: no struct $name"
        printf '[suppress_type]\nname = %s\n\n' "$name"
    done
}

Misc/build/packages.sh abi
CC=$(sed -n 's/^CC=//p' "$BUILD/configure.args")
export CC CFLAGS="-O0 -g" GIVEN="CC CFLAGS CONFIGURE_ARGS" TARGETS="python pybuilddir.txt"
# The second configure uses the results of the first.
export CONFIGURE_ARGS="--enable-shared --cache-file=../abi/configure-${CC//[!a-z0-9]/_}.cache"
unset LDFLAGS CPPFLAGS
mkdir -p "$work/base" "$work/ours"
allowed_differences >"$allowed"
BUILD=$base Misc/build/build.sh plain "$base"
BUILD=$patched Misc/build/build.sh

headers_source >"$work/headers.c"
headers_of "build/$VERSION-base/src" "$base" "$work/base"
headers_of "$SRC" "$patched" "$work/ours"
symbols_of "$base/$library" >"$work/base/symbols.txt"
symbols_of "$patched/$library" >"$work/ours/symbols.txt"
cp "$work/base/symbols.txt" "$work/base/program.txt"
symbols_of "$BUILD/python" >"$work/ours/program.txt"
"$BUILD/python" -E Misc/abi/compare.py "$allowed" "$work/base" "$work/ours" || bad=1
say abi "compared: $(wc -l <"$work/base/layout.txt") facts of types, $(wc -l <"$work/base/macros.txt") macros, $(wc -l <"$work/base/headers.txt") statements, $(wc -l <"$work/base/symbols.txt") symbols"

suppressions >"$work/suppressions.ini"
abidiff --leaf-changes-only --impacted-interfaces --suppressions "$work/suppressions.ini" \
    "$base/$library" "$patched/$library" >"$work/abidiff.txt" 2>&1 || {
    grep -E "^ *\[[ACD]\]|^'|rror" "$work/abidiff.txt" | sed 's/^ */abidiff: /' || true
    echo "abidiff: $(head -n 1 "$work/abidiff.txt"); report: $work/abidiff.txt"
    bad=1
}

"$CC" -I"build/$VERSION-base/src/Include" -I"$base" Misc/abi/embed.c -L"$base" "-lpython$VERSION" -o "$work/embed"
for mode in '' 1; do
    PYTHONPERFSUPPORT=$mode LD_LIBRARY_PATH=$patched "$work/embed" "$patched/python" \
        "import sys; assert sys.is_stack_trampoline_active() == bool('$mode')" || {
        echo "embed: a program built for the unpatched library fails with ours, PYTHONPERFSUPPORT=$mode"
        bad=1
    }
done
[ "$bad" = 0 ] || die "the differences above; additions that are meant go to Misc/abi/allowed.txt"
say abi "nothing else has changed"
