"""Checks README.md and the documentation.

    python3 Misc/build/lint_docs.py [--whole] SOURCE

SOURCE is the patched tree, build/3.11/src. Prints one line for each fault, FILE:LINE:
TEXT, and returns 1 if there are any. The checks are:

links     Links and pictures of README.md exist. Paths, test modules and targets of
          make that README.md or our pages name exist, here or in SOURCE. In a path
          {NAME} and * stand for any text.
layout    perf_internals.rst names each source file and each test module of ours.
figures   A table of figures follows a comment that says which command they come from
          and when: ".. figures: make bench, 2026-11-21", or the same in <!-- -->.
sphinx    Our pages build without a warning: alone, and in SOURCE with the pages that
          our patches change. Only warnings about these count. --whole builds all pages
          of SOURCE instead of those that ours refer to, which takes four minutes. If
          SOURCE needs a newer Sphinx (3.13 needs 8.2), a line says so, and they are built
          alone only.
"""

import argparse
import fnmatch
import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys

README = pathlib.Path("README.md")
LAYOUT = pathlib.Path("Doc/howto/perf_internals.rst")
NEWS = pathlib.Path("Misc/NEWS.d")
OUTPUT = pathlib.Path("build/docs")

# Names of files that are ours if a page names them without their directory.
OURS = re.compile(r"(perf|pycore_perf|asm_trampoline|test_|_testinternalcapi_perf)[\w{}*]*"
                  r"\.(c|h|S|py|cpp)|\w+\.patch")
TOP = ("Doc/", "Include/", "Lib/", "Misc/", "Modules/", "Python/", ".ci/")

# What our pages refer to and CPython's pages define, for the build without them.
BASE_PAGE = """\
:orphan:

.. _stable:

Pages of CPython
================

.. _debug-build:

Debug build
-----------

.. option:: -E

.. option:: -I

.. option:: -X

.. option:: --without-frame-pointers

.. glossary::

   GIL
      Lock.

   qualified name
      Name.
"""


def our_pages():
    """Return the paths of our reStructuredText files, NEWS entries apart."""
    return sorted(pathlib.Path("Doc").rglob("*.rst"))


# --- Links and paths ---------------------------------------------------------

def exists(path, source):
    """Say whether a path is that of a file, here or in the patched tree."""
    pattern = re.sub(r"\{[^}]*\}|\b3\.N\b", "*", path).rstrip("/")
    return any(glob.glob(os.path.join(top, pattern)) for top in (".", source))


def name_exists(name):
    """Say whether one of our files has this name, in whatever directory."""
    pattern = re.sub(r"\{[^}]*\}", "*", name)
    return any(path for top in TOP for path in pathlib.Path(top).rglob(pattern))


def slugs(path):
    """Return the anchors that readers of a repository make of headings."""
    lines = path.read_text().splitlines()
    titles = [line.lstrip("# ") for line in lines if line.startswith("#")]
    titles += [line for line, rule in zip(lines, lines[1:]) if re.match(r"([=-])\1{3,}$", rule)]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def check_links(path, line):
    """Yield what is wrong with the Markdown links of a line."""
    for target in re.findall(r"\]\(([^)]+)\)", line):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists():
            yield f"links to {name}, which does not exist"
        elif anchor and anchor not in slugs(file):
            yield f"links to {target}, but {file} has no such heading"


def named_paths(line):
    """Return what a line names as a path: in backquotes, in roles, after a dot-dot."""
    names = re.findall(r":file:`([^`]+)`|``([^`]+)``|(?<![`:])`([^`<>]+)`(?!`)", line)
    return [word for groups in names for word in re.split(r"[\s,;]+", "".join(groups))]


def check_paths(line, source):
    """Yield the paths, modules of tests and targets of make that do not exist."""
    for name in named_paths(line):
        if name.startswith(TOP):
            if not exists(name, source):
                yield f"names {name}, which does not exist"
        elif OURS.fullmatch(name) and not name_exists(name) \
                and not glob.glob(f"{source}/*/{name}"):
            yield f"names {name}, and there is no file of that name"
    for path in re.findall(r"(?<![\w/.-])(?:Misc|Doc|Lib|Python)/[\w./-]+\.\w+", line):
        if not exists(path, source):
            yield f"names {path}, which does not exist"
    for names in re.findall(r"\bTESTS=(?:\"([^\"]+)\"|(\w[\w.]*))", line):
        for name in "".join(names).split():
            if not name_exists(name.split(".")[0] + ".py"):
                yield f"names the test {name}, which does not exist"


def make_targets():
    """Return the targets that Makefile.pre.in and GNUmakefile define."""
    targets = set()
    for path in "Makefile.pre.in", "GNUmakefile":
        for names in re.findall(r"^([a-z][\w %-]*):", pathlib.Path(path).read_text(), re.M):
            targets.update(names.split())
    return targets


def check_make(line, targets):
    """Yield the targets of make that are not defined."""
    commands = re.findall(r"(?:^ {3,}(?:\$ )?|`)make ([a-z][\w-]*)", line)
    for name in commands:
        if name not in targets:
            yield f"names make {name}, and there is no such target"


def check_layout():
    """Yield the source files and test modules that the page for maintainers omits."""
    names = [name for line in LAYOUT.read_text().splitlines() for name in named_paths(line)]
    for path in sorted([*pathlib.Path("Python").iterdir(),
                        *pathlib.Path("Lib/test/test_perf").glob("test_*.py")]):
        if not any(fnmatch.fnmatchcase(path.name, pathlib.PurePath(name).name)
                   for name in names if name[:1].isalpha()):
            yield LAYOUT, 1, f"does not name {path}"


# --- Figures -----------------------------------------------------------------

FIGURE = re.compile(r"\d[\d,]*(\.\d+)?( \w+)?( ?\([\d., -]+\))?")
MARK = re.compile(r"(\.\.|<!--) figures: (?P<command>.+), \d{4}-\d\d-\d\d( -->)?$")


def tables(lines):
    """Yield the number of the first line, and the lines, of each table."""
    number = 0
    while number < len(lines):
        begin = number
        if lines[number].startswith("|"):
            while number < len(lines) and lines[number].startswith("|"):
                number += 1
            yield begin, lines[begin:number]
        elif re.match(r" *=+( +=+)+$", lines[number]):
            rule = lines[number]
            number += 1
            rules = 1
            while number < len(lines) and rules < 3:
                rules += lines[number] == rule
                number += 1
            yield begin, lines[begin:number]
        else:
            number += 1


def check_figures(lines):
    """Yield the number of each table of figures that does not say where they are from."""
    for begin, table in tables(lines):
        cells = [cell.strip() for line in table for cell in re.split(r" {2,}|\|", line)]
        if sum(bool(FIGURE.fullmatch(cell)) for cell in cells) < 2:
            continue
        above = [line.strip() for line in lines[max(begin - 2, 0):begin] if line.strip()]
        if not above or not MARK.match(above[-1]):
            yield begin, "a table of figures without the comment \"figures: COMMAND, DATE\""


def check_text(source):
    """Yield (path, line number, fault) for all faults that need no Sphinx."""
    targets = make_targets()
    for path in [README, *our_pages(), *sorted(NEWS.rglob("*.rst"))]:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            faults = [*check_paths(line, source), *check_make(line, targets)]
            if path == README:
                faults += check_links(path, line)
            for fault in dict.fromkeys(faults):
                yield path, number, fault
        for begin, fault in check_figures(lines):
            yield path, begin + 1, fault
    yield from check_layout()


# --- Sphinx ------------------------------------------------------------------

def sphinx(name, directory, configuration):
    """Build the pages in a directory; yield (path, line or None, text) of each warning."""
    log = OUTPUT / f"{name}.log"
    shutil.rmtree(OUTPUT / f"{name}.out", ignore_errors=True)
    command = ["sphinx-build", "-b", "dummy", "-q", "-E", "-w", log, "-c", configuration,
               "-d", OUTPUT / f"{name}.out" / "doctrees", directory, OUTPUT / f"{name}.out"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"lint_docs: sphinx-build {name}: exit status {run.returncode}\n{run.stderr}")
    for path, line, text in re.findall(
            r"^(/[^:\n]+?\.rst):(?:(\d+):)? ((?:WARNING|ERROR|SEVERE|CRITICAL): .*)", log.read_text(), re.M):
        yield (pathlib.Path(path).relative_to(directory.absolute()),
               int(line) if line else None, text)


def fresh(name):
    directory = OUTPUT / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def link(directory, path, target):
    (directory / path).parent.mkdir(parents=True, exist_ok=True)
    (directory / path).symlink_to(target.absolute())


def check_alone():
    """Yield the warnings of a build of our pages only."""
    directory = fresh("alone")
    pages = [page.relative_to("Doc") for page in our_pages()]
    for page in pages:
        link(directory, page, "Doc" / page)
    link(directory, "includes", pathlib.Path("Doc/includes"))
    (directory / "conf.py").write_text("project = 'perf'\n")
    (directory / "base.rst").write_text(BASE_PAGE)
    (directory / "index.rst").write_text(
        "Index\n=====\n\n.. toctree::\n\n" + "".join(f"   {page}\n" for page in pages))
    for path, line, text in sphinx("alone", directory, directory):
        yield "Doc" / path, line, f"Sphinx, alone: {text}"


def changed_pages(source):
    """Return the base's pages that our patches change, below Doc."""
    patches = pathlib.Path("Misc/patches", source.parent.name)      # build/3.11/src
    return {pathlib.Path(path) for patch in patches.glob("*.patch")
            for path in re.findall(r"^\+\+\+ b/Doc/(\S+\.rst)$", patch.read_text(), re.M)}


def pages_referred_to(texts, source):
    """Return the pages of the base that define the labels in the texts."""
    labels = {label for text in texts
              for label in re.findall(r":ref:`(?:[^`<]*<)?([\w-]+)>?`", text)}
    pages = set()
    for page in (source / "Doc").rglob("*.rst"):
        defined = re.findall(r"^\.\. _([\w-]+):", page.read_text(), re.M)
        if labels & set(defined):
            pages.add(page.relative_to(source / "Doc"))
    return pages


# Warnings about pages of the base that Sphinx prints only because other pages are left out.
INCOMPLETE = re.compile(r"WARNING: (toctree contains reference to nonexisting document"
                        r"|document isn't included in any toctree|unknown keyword)")


def version(text):
    return tuple(map(int, re.search(r"\d+(\.\d+)*", text)[0].split(".")))


def sphinx_is_too_old(source):
    """Return whether the base's pages need a newer Sphinx; says so if they do."""
    needed = re.search(r"^needs_sphinx = (.*)", (source / "Doc/conf.py").read_text(), re.M)
    there = subprocess.run(["sphinx-build", "--version"], capture_output=True, text=True).stdout
    if needed is None or version(there) >= version(needed[1]):
        return False
    print(f"lint       {source}/Doc needs Sphinx {needed[1]}, {there.strip()} is here: our pages "
          "are built alone only")
    return True


def check_in_tree(source, whole):
    """Yield the warnings of a build with the base's pages."""
    if sphinx_is_too_old(source):
        return
    ours = {page.relative_to("Doc") for page in our_pages()}
    changed = changed_pages(source)
    if whole:
        directory = source / "Doc"
    else:
        directory = fresh("tree")
        texts = [(source / "Doc" / page).read_text() for page in ours | changed]
        pages = ours | changed | pages_referred_to(texts, source)
        # The last one is what the directive "availability" refers to.
        pages |= set(map(pathlib.Path, ["contents.rst", "glossary.rst", "library/intro.rst"]))
        for page in pages:
            link(directory, page, source / "Doc" / page)
        for name in "includes", "data", "tools":
            link(directory, name, source / "Doc" / name)
    for path, line, text in sphinx("tree", directory, source / "Doc"):
        if path in ours or path in changed and not INCOMPLETE.match(text):
            yield "Doc" / path, line, f"Sphinx, in {source}: {text}"


# --- The command -------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    os.chdir(pathlib.Path(__file__).resolve().parents[2])
    OUTPUT.mkdir(parents=True, exist_ok=True)
    faults = dict.fromkeys([*check_text(arguments.source), *check_alone(),
                            *check_in_tree(arguments.source, arguments.whole)])
    for path, line, text in faults:
        print(f"{path}:{line}: {text}" if line else f"{path}: {text}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
