#!/bin/bash
# Checks the sources without running them:
#
#   - gcc and clang compile our C files and assembly; each warning is an error
#   - pyflakes3 checks Python files, shellcheck checks shell scripts
#   - lint_docs.py checks README.md and the documentation
#   - no tabs, no blanks at the end of a line, no long lines of C
#   - the series lists all patches; the patches have one line of context
#   - no file names a download host
set -eu
cd "$(dirname "$0")/../.."
. Misc/build/lib.sh
. Misc/build/treelib.sh

Misc/build/packages.sh lint
bad=0
complain() {
    echo "lint: $1" >&2
    bad=1
}

# -isystem: the base's headers may cause warnings.
flags=(-std=c11 -Wall -Wextra -Werror -O2 -fno-omit-frame-pointer -DPy_BUILD_CORE
    -IInclude -IInclude/internal -isystem "$BUILD"
    -isystem "$SRC/Include" -isystem "$SRC/Include/internal" -isystem "$SRC/Python")
count=0
for compiler in gcc clang; do
    if ! command -v "$compiler" >/dev/null; then
        say lint "$compiler: not found, left out"
        continue
    fi
    while IFS= read -r file; do
        case $file in
        # test_assembly.py has the other architectures.
        *.S) [ "$file" = "Python/asm_trampoline_$(uname -m).S" ] || continue ;;
        esac
        "$compiler" "${flags[@]}" -c "$file" -o /dev/null || complain "$file: warnings from $compiler"
        count=$((count + 1))
    done < <(our_files | grep -E '\.[cS]$' | grep -v '^Doc/')
done
say lint "$count compilations of C and assembly files"

for tool in shellcheck pyflakes3 sphinx-build; do
    command -v $tool >/dev/null || die "$tool: not found in PATH; install it"
done
shellcheck -x Misc/build/*.sh .ci/run || complain "shellcheck reports errors"

mapfile -t python_files < <(find . -path ./build -prune -o -name '*.py' -print)
pyflakes3 "${python_files[@]}" || complain "pyflakes reports errors"

python3 Misc/build/lint_docs.py "$SRC" || complain "lint_docs.py reports errors"

while IFS= read -r file; do
    case $file in *.svg | *.png) continue ;; esac
    awk -v file="$file" '
        /[ \t]$/ { print file ":" FNR ": blanks at the end"; bad = 1 }
        file !~ /Makefile|\.S$/ && /\t/ { print file ":" FNR ": a tab"; bad = 1 }
        file ~ /\.[chS]$/ && length > 88 { print file ":" FNR ": more than 88 columns"; bad = 1 }
        END { exit bad }' "$file" >&2 || bad=1
done < <(our_files; find Misc/build Misc/abi Misc/bench Misc/dropin Makefile.pre.in configure.ac -type f ! -name '*.py[co]')

# quilt does not notice a patch that is not in the series, or one that was edited later.
for name in "$PATCHES"/*.patch; do
    patch_names "$PATCHES/series" | grep -qx "${name##*/}" || complain "$name: is not in $PATCHES/series"
done
diff -r "$PATCHES" "$SRC.patches" >&2 || complain "$PATCHES: differs from the patches that are applied in $SRC"
quilt_in "$SRC" "../../../$PATCHES" applied >/dev/null || complain "quilt: no patch is applied in $SRC"
if [ -n "$(quilt_in "$SRC" "../../../$PATCHES" unapplied 2>/dev/null)" ]; then
    complain "quilt: not all patches are applied in $SRC"
fi

# Each change has at most one line of context before and after it.
for name in $(patch_names "$PATCHES/series"); do
    awk '
        left <= 0 && /^@@/ {
            match($0, /-[0-9]+(,[0-9]+)?/); split(substr($0, RSTART, RLENGTH), old, ",")
            match($0, /\+[0-9]+(,[0-9]+)?/); split(substr($0, RSTART, RLENGTH), new, ",")
            left = (2 in old ? old[2] : 1) + (2 in new ? new[2] : 1)
            context = changed = 0
            delete old; delete new
            next
        }
        left > 0 && /^[-+]/ { left--; context = 0; changed = 1 }
        left > 0 && /^( |$)/ { left -= 2; if (++context > (changed && left > 0 ? 2 : 1)) bad = 1 }
        END { exit bad }' "$PATCHES/$name" ||
        complain "$PATCHES/$name: more than one line of context; \`make refresh\` corrects this"
done

hosts='(deb|security|archive|ftp[.a-z]*|snapshot)\.(debian|ubuntu)\.(org|com)'
if git rev-parse --git-dir >/dev/null 2>&1; then
    found=$(git grep -lE "$hosts" || true)
else
    found=$(grep -rlE --exclude-dir=build --exclude-dir=.git "$hosts" . || true)
fi
[ -z "$found" ] || complain "names a mirror: $found"

[ "$bad" = 0 ] || die "failed"
say lint "ok"
