"""Compare the machine code of a function in two ELF programs.

    make compare-loop
    python Misc/build/compare_loop.py [--function NAME] [--allow REGEX] BASE OTHER
    python Misc/build/compare_loop.py --count NAME=NAME BASE OTHER

The function is _PyEval_EvalFrameDefault, with its cold part, which gcc puts in another
section (NAME.cold). Both programs must be built by the same compiler with the same flags.
Prints each hunk that differs. The exit status is 0 if there is none or if all hunks
are allowed, 1 if another hunk differs, 2 if the comparison is not possible.

A program's addresses depend on everything that is linked before the function. So the
instructions are compared in this form:

- The address and the bytes of an instruction are left out, and so are instructions
  that only fill up (nop).
- A code address outside the function is the name of the symbol there. Suffixes with a
  number (".constprop.0", ".4") are left out.
- A data address is the symbol and the offset in it. Where no symbol is, it is the
  string or the constant that the program holds there. An entry of the GOT is the symbol
  that it leads to. On aarch64 the two instructions that form an address are put
  together again.
- x86-64: the offset of a thread-local variable is its name.
- A jump inside the function has no target at first. After `diff` has paired the
  instructions of both programs, the target of each jump must be the partner of the
  other's target.
- Tables of code addresses (the opcode targets, the jump tables of switch statements)
  are compared in the same way, entry by entry.

--allow REGEX allows a hunk of at most 20 instructions if one of the instructions that
it adds matches. Jumps into an allowed hunk are allowed too.

--count NAME=NAME only counts. It is for functions in which the compiler has allocated other
registers everywhere, because a call has one more argument. Calls of the first name in BASE
are calls of the second in OTHER. The number of calls of each other function must be the
same in both programs, and the number of instructions of each kind, but for at most three
more instructions for each of these calls.
"""

import argparse
import bisect
import collections
import itertools
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

FUNCTION = "_PyEval_EvalFrameDefault"
ALLOWED_SIZE = 20       # instructions of an allowed hunk
NEAR = 3                # hunks with fewer equal instructions between are one hunk
CONTEXT = 2             # instructions printed before and after a hunk

# Constants of the ELF format, System V ABI, chapters 4 and 5.
SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_DYNSYM = 2, 4, 8, 11
SHF_ALLOC = 2
STB_GLOBAL = 1
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_TLS, STT_GNU_IFUNC = 0, 1, 2, 6, 10
PT_TLS = 7
ARCHITECTURES = {62: "x86_64", 183: "aarch64", 243: "riscv64"}

Symbol = collections.namedtuple("Symbol", "name binding kind section address size")

# `targets` are the addresses in the function that a jump or a table entry leads to.
# `text` does not contain them.
Instruction = collections.namedtuple("Instruction", "address text targets")


class Error(Exception):
    pass


# --- The program -----------------------------------------------------------

class Program:
    """An ELF program: its symbols, relocations and contents."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.image = file.read()
        if self.image[:6] != b"\x7fELF\2\1":
            raise Error(f"{path}: is not a 64-bit little-endian ELF file")
        machine, = struct.unpack_from("<H", self.image, 18)
        if machine not in ARCHITECTURES:
            raise Error(f"{path}: unknown architecture {machine}")
        self.architecture = ARCHITECTURES[machine]
        self.sections = self.read_sections()
        self.named = [symbol for symbol in self.symbol_table(SHT_SYMTAB)
                      if symbol.section and symbol.name and symbol.name[0] != "$"
                      and symbol.kind in (STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC)]
        if not self.named:
            raise Error(f"{path}: has no symbols")
        self.symbols = self.symbols_by_address()
        self.starts = sorted(self.symbols)
        self.relocations = self.read_relocations()
        self.thread_locals = self.read_thread_locals()

    def read_sections(self):
        """(type, flags, address, offset, size, link) of each section."""
        offset, = struct.unpack_from("<Q", self.image, 40)
        size, count = struct.unpack_from("<HH", self.image, 58)
        return [struct.unpack_from("<4xIQQQQI", self.image, offset + i * size)
                for i in range(count)]

    def symbol_table(self, wanted):
        """Yield a Symbol for each symbol in the sections of a type."""
        for kind, _, _, offset, size, link in self.sections:
            if kind != wanted:
                continue
            names = self.sections[link][3]
            for at in range(offset, offset + size, 24):
                name, info, _, section, address, length = struct.unpack_from(
                    "<IBBHQQ", self.image, at)
                end = self.image.index(b"\0", names + name)
                yield Symbol(self.image[names + name:end].decode(), info >> 4, info & 15,
                             section, address, length)

    def symbols_by_address(self):
        """{address: (size, name)}; of several the largest, then the first name."""
        symbols = {}
        for symbol in self.named:
            key = (-symbol.size, symbol.name)
            if symbol.address not in symbols or key < symbols[symbol.address]:
                symbols[symbol.address] = key
        return {address: (-size, name) for address, (size, name) in symbols.items()}

    def read_relocations(self):
        """{address: symbol name or address} for the dynamic loader's relocations."""
        names = [symbol.name for symbol in self.symbol_table(SHT_DYNSYM)]
        found = {}
        for kind, _, _, offset, size, _ in self.sections:
            if kind == SHT_RELA:
                for at in range(offset, offset + size, 24):
                    address, info, addend = struct.unpack_from("<QQq", self.image, at)
                    symbol = info >> 32
                    found[address] = names[symbol] if symbol else addend
        return found

    def read_thread_locals(self):
        """{offset from the thread pointer, modulo 2**64: name}, as x86-64 has them."""
        offset, = struct.unpack_from("<Q", self.image, 32)
        size, count = struct.unpack_from("<HH", self.image, 54)
        for i in range(count):
            kind, _, _, _, _, _, length, align = struct.unpack_from(
                "<IIQQQQQQ", self.image, offset + i * size)
            if kind == PT_TLS:
                end = -(-length // align) * align
                return {(symbol.address - end) % 2**64: symbol.name
                        for symbol in self.symbol_table(SHT_SYMTAB) if symbol.kind == STT_TLS}
        return {}

    def part(self, function):
        """(name, start, end) of the function.

        The second eval loop has a local symbol of the same name and one more name.
        """
        found = [symbol for symbol in self.named if symbol.name == function and symbol.size]
        if len(found) > 1:
            names = collections.Counter(symbol.address for symbol in self.named)
            found = ([symbol for symbol in found if symbol.binding == STB_GLOBAL]
                     or [symbol for symbol in found if names[symbol.address] == 1])
        if len(found) != 1:
            raise Error(f"{self.path}: has {len(found)} symbols {function}")
        return found[0].name, found[0].address, found[0].address + found[0].size

    def cold_parts(self, function):
        """(name, start, end) of each cold part of functions with this name."""
        pattern = re.compile(re.escape(function) + r"\.cold(\.\d+)?")
        return sorted(("cold part", symbol.address, symbol.address + symbol.size)
                      for symbol in self.named
                      if symbol.size and pattern.fullmatch(symbol.name))

    def read(self, address, size):
        """The bytes at the address; None if the file does not hold them."""
        for kind, flags, start, offset, length, _ in self.sections:
            if flags & SHF_ALLOC and kind != SHT_NOBITS and start <= address < start + length:
                size = min(size, start + length - address)
                at = offset + address - start
                return self.image[at:at + size]
        return None

    def symbol_at(self, address):
        """SYMBOL or SYMBOL+OFFSET if the address lies in a symbol, or None."""
        index = bisect.bisect_right(self.starts, address) - 1
        if index < 0:
            return None
        start = self.starts[index]
        size, name = self.symbols[start]
        if not start <= address < start + max(size, 1):
            return None
        name = plain_name(name)
        return name if start == address else f"{name}+{address - start:#x}"


def plain_name(name):
    """The symbol's name without the numbers that the compiler appends."""
    return re.sub(r"\.(constprop|isra|part|lto_priv|llvm)\.\d+|\.\d+$", "", name)


# --- The disassembly -------------------------------------------------------

def find_objdump(architecture):
    if os.environ.get("OBJDUMP"):
        return os.environ["OBJDUMP"]
    names = [f"{architecture}-linux-gnu-objdump", "llvm-objdump"]
    if os.uname().machine == architecture:
        names.insert(0, "objdump")
    for name in names:
        if shutil.which(name):
            return name
    raise Error(f"objdump for {architecture}: not found in PATH")


LINE = re.compile(r"\s*([0-9a-f]+):\s+(.*?)\s*$")
PADDING = re.compile(r"((data16|cs|addr32|repz|ds|es) )*(nop[wlq]?|unimp|udf)\b"
                     r"|xchg +%ax,%ax$|\.word\b|int3")
# An offset from the thread pointer, and the register that it is loaded into.
THREAD_LOCAL = re.compile(r"(?:\$|%fs:)(0xf{4}[0-9a-f]{12})\b(?:,(%\w+))?")
# A code address as objdump prints it: 0x, the number, <symbol+offset>.
CODE_ADDRESS = re.compile(r"\b(?:0x)?([0-9a-f]+) <([^>]+)>")
# A call or a jump to another function, in the compared form.
CALL = re.compile(r"(?:call|jmp|bl|b|jal|j|tail) (?:\w+, ?)?(?!LABEL)([A-Za-z_][\w.@]*)$")
RIP = re.compile(r"-?(?:0x[0-9a-f]+)?\(%rip\)")


def disassemble(program, objdump, start, end):
    """Yield (address, text, comment) of each instruction that does something."""
    command = [objdump, "-d", "--no-show-raw-insn", f"--start-address={start:#x}",
               f"--stop-address={end:#x}", program.path]
    output = subprocess.run(command, capture_output=True, text=True, check=True,
                            env={**os.environ, "LC_ALL": "C"}).stdout
    for line in output.splitlines():
        match = LINE.match(line)
        if match is None or match[2].startswith("<"):
            continue
        text, _, comment = re.sub(r"\s+", " ", match[2]).partition(" # ")
        if program.architecture != "x86_64":
            text = text.partition(" // ")[0]
        if not PADDING.match(text):
            yield int(match[1], 16), text.strip(), comment


def code_addresses(text):
    return [int(match[1], 16) for match in CODE_ADDRESS.finditer(text)]


def constant(program, address, text):
    """What stands for data without a symbol."""
    width = 16 if re.match(r"\w*(dqa|dqu|ap[sd]|up[sd]|pd|ps|pand|pxor|por|pshufb)\b", text) else \
        4 if re.match(r"\w*(ss|ss2\w+)\b|\w+l\b", text) else 8
    content = program.read(address, 256)
    if content is None:
        return "data"
    if is_address_of(text):
        string = content.partition(b"\0")[0]
        if b"\0" in content or len(string) == 256:
            try:
                return repr(string.decode("utf-8"))
            except UnicodeDecodeError:
                pass
        return "data"
    return "data " + content[:width].hex()


def is_address_of(text):
    """Does the instruction take the address, and not what is there?"""
    return re.match(r"lea|add\b|adr|addi\b", text) is not None


class Function:
    """The comparable form of a function: a list of Instruction."""

    def __init__(self, program, name, objdump):
        self.program = program
        self.parts = [program.part(name)]
        raw = self.disassemble(self.parts[0], objdump)
        if not raw:
            raise Error(f"{program.path}: {objdump} shows no instruction of {name}")
        self.data = set()       # addresses of data that the function refers to
        self.pages = {}         # aarch64: {register: the page that adrp put there}
        self.instructions = []
        self.cold = program.cold_parts(name)    # also those of other functions
        self.addresses = {address for _, address, _, _ in raw}
        self.ordered = sorted(self.addresses)
        for part in self.own_cold_parts(raw):
            self.parts.append(part)
            raw += self.disassemble(part, objdump)
        self.addresses = {address for _, address, _, _ in raw}
        self.ordered = sorted(self.addresses)
        self.cold = []
        previous = None
        for part, address, text, comment in raw:
            if part != previous:
                self.instructions.append(Instruction(None, f"{part}:", ()))
                previous = part
            self.instructions.append(self.normalize(address, text, comment))
        self.instructions += list(self.tables())
        self.index = {line.address: number
                      for number, line in enumerate(self.instructions)
                      if line.address is not None}

    def own_cold_parts(self, raw):
        """The cold parts that a jump or a table of the function leads to."""
        targets = {target for _, _, text, _ in raw for target in code_addresses(text)}
        for _, address, text, comment in raw:       # finds the tables
            self.normalize(address, text, comment)
        for address in self.data:
            targets.update(self.entries(address))
        return [part for part in self.cold
                if any(part[1] <= target < part[2] for target in targets)]

    def disassemble(self, part, objdump):
        name, start, end = part
        lines = list(disassemble(self.program, objdump, start, end))
        found = []
        for i, (address, text, comment) in enumerate(lines):
            match = THREAD_LOCAL.search(text)
            # An offset in a register is used by one of the next instructions.
            if match and ("%fs:" in text or any(
                    f"%fs:({match[2]})" in following for _, following, _ in lines[i + 1:i + 8])):
                variable = self.program.thread_locals.get(int(match[1], 16))
                if variable is not None:
                    text = text.replace(match[1], f"<{variable}>")
            found.append((name, address, text, comment))
        return found

    def inside(self, address):
        return any(start <= address < end for _, start, end in self.parts)

    def target(self, address):
        """The address of the next instruction that is no padding; None at the end."""
        for _, start, end in self.parts:
            if start <= address < end:
                index = bisect.bisect_left(self.ordered, address)
                if index < len(self.ordered) and self.ordered[index] < end:
                    return self.ordered[index]
        return None

    def normalize(self, address, text, comment):
        if self.program.architecture == "aarch64":
            if (new := self.resolve_page(text)) is not None:
                return Instruction(address, new, ())
        if RIP.search(text):
            match = re.search(r"\b([0-9a-f]+)\b", comment)
            if match is None:
                raise Error(f"{self.program.path}: {text}: no address in {comment!r}")
            name, targets = self.data_name(int(match[1], 16), text)
            return Instruction(address, RIP.sub(lambda _: f"<{name}>", text), targets)
        match = CODE_ADDRESS.search(text)
        if match is None:
            return Instruction(address, text, ())
        target = int(match[1], 16)
        if self.inside(target) and not re.match(r"call|bl\b", text):
            return Instruction(address, text[:match.start()] + "LABEL" + text[match.end():],
                               (self.target(target),))
        name = self.program.symbol_at(target) or match[2]
        return Instruction(address, text[:match.start()] + name + text[match.end():], ())

    def data_name(self, address, text):
        """How a data address is shown, and the code addresses that it stands for."""
        if self.inside(address):
            return "LABEL", (self.target(address),)
        name = self.program.symbol_at(address)
        if name is not None:
            if is_address_of(text):
                self.data.add(address)
            return name, ()
        value = self.program.relocations.get(address)
        if isinstance(value, str):
            return f"GOT {value}", ()
        if value is not None:
            return "GOT " + (self.program.symbol_at(value) or "?"), ()
        if is_address_of(text):
            self.data.add(address)
            if self.entries(address):
                return "jump table", ()
        return constant(self.program, address, text), ()

    def resolve_page(self, text):
        """aarch64: the instruction with the data that it and an adrp before name."""
        if match := re.match(r"adrp (x\d+), (?:0x)?([0-9a-f]+)", text):
            self.pages[match[1]] = int(match[2], 16)
            return f"adrp {match[1]}, page"
        new = None
        for pattern in (r"add x\d+, (x\d+), #0x([0-9a-f]+)$", r"ld\w+ .*\[(x\d+), #(\d+)\]$",
                        r"st\w+ .*\[(x\d+), #(\d+)\]$", r"ldr\w* \w+, \[(x\d+)()\]$",
                        r"str\w* \w+, \[(x\d+)()\]$", r"ld\w+ .*\[(x\d+), #0x([0-9a-f]+)\]$"):
            match = re.match(pattern, text)
            if match and match[1] in self.pages:
                base = 16 if text.startswith("add") or "#0x" in text else 10
                address = self.pages[match[1]] + int(match[2] or "0", base)
                name, _ = self.data_name(address, text)
                end = "]" if text.endswith("]") else ""
                new = f"{text[:match.start(1)]}{match[1]} <{name}>{end}"
                break
        if re.match(r"blr?\b", text):
            for number in range(19):
                self.pages.pop(f"x{number}", None)
        elif not re.match(r"st|cmp|cmn|tst|cb|tb|b\b|b\.|br\b|ret", text):
            # The first operand is overwritten; a load of a pair has two.
            for register in re.findall(r"[xw]\d+", text.partition("[")[0])[
                    :2 if text.startswith("ldp") else 1]:
                self.pages.pop("x" + register[1:], None)
        return new

    # Tables

    def is_code(self, address):
        # A label of code that is never reached can be at the end of the function.
        return (address in self.addresses or address == self.parts[0][2]
                or any(start <= address < end for _, start, end in self.cold))

    def entries(self, address):
        """The code addresses in the table there; an empty list if it is no table.

        Entries are 64-bit addresses, which the dynamic loader relocates in a
        position-independent program, or 32-bit distances from the table.
        """
        content = self.program.read(address, self.size_of_table(address)) or b""
        pointers = (self.program.relocations.get(address + 8 * i, value)
                    for i, (value,) in enumerate(
                        struct.iter_unpack("<Q", content[:len(content) & -8])))
        found = list(itertools.takewhile(self.is_code, pointers))
        if not found:
            distances = struct.iter_unpack("<i", content[:len(content) & -4])
            found = list(itertools.takewhile(
                self.is_code, (address + distance for distance, in distances)))
        return found

    def size_of_table(self, address):
        """At most so many bytes belong to what begins at the address."""
        following = [other for other in self.data if other > address]
        limit = min(following, default=address + 4096) - address
        size, _ = self.program.symbols.get(address, (0, ""))
        return min(size or limit, limit, 4096)

    def tables(self):
        """An Instruction for each entry of each table that the function refers to."""
        for address in sorted(self.data):
            name = plain_name(self.program.symbols.get(address, (0, "jump table"))[1])
            entries = self.entries(address)
            if entries:
                yield Instruction(None, f"{name}:", ())
            for target in entries:
                yield Instruction(None, f"entry of {name}: LABEL", (self.target(target),))


# --- The comparison --------------------------------------------------------

def differing_ranges(a, b):
    """Ranges (a1, a2, b1, b2) in which the texts of the instructions differ."""
    with tempfile.NamedTemporaryFile("w") as one, tempfile.NamedTemporaryFile("w") as two:
        for file, lines in (one, a), (two, b):
            file.writelines(line.text + "\n" for line in lines)
            file.flush()
        result = subprocess.run(["diff", "-a", "-U0", one.name, two.name],
                                capture_output=True, text=True, errors="replace")
    if result.returncode > 1:
        raise Error(f"diff: {result.stderr}")
    for match in re.finditer(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@",
                             result.stdout, re.MULTILINE):
        a1, a_size, b1, b_size = (1 if group is None else int(group)
                                  for group in match.groups())
        a1 -= a_size > 0        # an empty range names the line before it
        b1 -= b_size > 0
        yield a1, a1 + a_size, b1, b1 + b_size


def merge(ranges):
    """Join the ranges that are near each other."""
    merged = []
    for this in sorted(ranges):
        if merged and this[0] - merged[-1][1] < NEAR and this[2] - merged[-1][3] < NEAR:
            last = merged.pop()
            this = (last[0], max(last[1], this[1]), last[2], max(last[3], this[3]))
        merged.append(this)
    return merged


def pair(ranges, a_size, b_size):
    """{index in a: index in b} of the instructions outside the ranges."""
    partner = {}
    a = b = 0
    for a1, a2, b1, b2 in [*ranges, (a_size, a_size, b_size, b_size)]:
        partner.update(zip(range(a, a1), range(b, b1)))
        a, b = a2, b2
    return partner


def wrong_targets(a, b, ranges, partner):
    """Yield a range for each pair of jumps that lead to different instructions."""
    for i, j in partner.items():
        for one, other in zip(a.instructions[i].targets, b.instructions[j].targets):
            one, other = a.index.get(one), b.index.get(other)
            if (one is None and other is None
                    or one is not None and other is not None and partner.get(one) == other):
                continue
            # Into a hunk: to its place in both, or to what follows it in one.
            if any(one is not None and other is not None
                   and a1 <= one <= a2 and b1 <= other <= b2
                   for a1, a2, b1, b2 in ranges):
                continue
            yield i, i + 1, j, j + 1


def is_allowed(b, hunk, allowed):
    a1, a2, b1, b2 = hunk
    return (max(a2 - a1, b2 - b1) <= ALLOWED_SIZE
            and any(pattern.search(line.text)
                    for line in b.instructions[b1:b2] for pattern in allowed))


def show(a, b, hunk, verdict):
    a1, a2, b1, b2 = hunk

    def line(mark, function, index, instruction):
        targets = ", ".join(function.program.symbol_at(target) or "?"
                            for target in instruction.targets if target is not None)
        print(f"{mark} {instruction.address or 0:x}: {instruction.text}"
              + (f" ({targets})" if targets else ""))

    print(f"@@ {verdict}: instructions {a1}-{a2} and {b1}-{b2} @@")
    for index in range(max(a1 - CONTEXT, 0), a1):
        line(" ", a, index, a.instructions[index])
    for index in range(a1, a2):
        line("-", a, index, a.instructions[index])
    for index in range(b1, b2):
        line("+", b, index, b.instructions[index])
    for index in range(a2, min(a2 + CONTEXT, len(a.instructions))):
        line(" ", a, index, a.instructions[index])


def compare(a, b, allowed):
    """Print the hunks; return the number of those that are not allowed."""
    texts = merge(differing_ranges(a.instructions, b.instructions))
    partner = pair(texts, len(a.instructions), len(b.instructions))
    jumps = list(wrong_targets(a, b, texts, partner))
    bad = 0
    hunks = merge([*texts, *jumps])
    for hunk in hunks:
        good = is_allowed(b, hunk, allowed)
        bad += not good
        show(a, b, hunk, "allowed" if good else "differs")
    print(f"{len(a.instructions)} and {len(b.instructions)} instructions, "
          f"{len(hunks)} hunks differ, {len(hunks) - bad} of them allowed")
    return bad


def counts_of(function):
    """Counter of the functions that are called by name, and of the kinds of instructions."""
    calls, kinds = collections.Counter(), collections.Counter()
    for line in function.instructions:
        if line.address is not None:
            kinds[line.text.split()[0]] += 1
            match = CALL.match(line.text)
            if match:
                calls[match[1]] += 1
    return calls, kinds


def compare_counts(a, b, names):
    """Print what differs in number; return whether that is too much."""
    old, new = names
    (old_calls, old_kinds), (new_calls, new_kinds) = counts_of(a), counts_of(b)
    replaced = old_calls[old]
    if not replaced or new_calls[old]:
        raise Error(f"{old} is called {replaced} and {new_calls[old]} times")
    old_calls[new] += old_calls.pop(old)
    bad = False
    for name in sorted({*old_calls, *new_calls}):
        if old_calls[name] != new_calls[name]:
            bad = True
            print(f"calls of {name}: {old_calls[name]} and {new_calls[name]}")
    changed = 0
    for kind in sorted({*old_kinds, *new_kinds}):
        difference = new_kinds[kind] - old_kinds[kind]
        if difference:
            changed += abs(difference)
            print(f"{kind}: {old_kinds[kind]} and {new_kinds[kind]} ({difference:+})")
    bad |= changed > 3 * replaced
    print(f"{sum(old_kinds.values())} and {sum(new_kinds.values())} instructions of "
          f"{len(old_kinds)} kinds; {changed} more or less; {sum(old_calls.values())} and "
          f"{sum(new_calls.values())} calls by name, {replaced} of {new} instead of {old}")
    return bad


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("other")
    parser.add_argument("--function", default=FUNCTION)
    parser.add_argument("--allow", metavar="REGEX", action="append", default=[],
                        type=re.compile, help="allow hunks that add such an instruction")
    parser.add_argument("--count", metavar="NAME=NAME", type=lambda names: names.split("="),
                        help="compare numbers only, of which calls")
    arguments = parser.parse_args()
    programs = [Program(arguments.base), Program(arguments.other)]
    if programs[0].architecture != programs[1].architecture:
        raise Error("the programs are for different architectures")
    objdump = find_objdump(programs[0].architecture)
    functions = [Function(program, arguments.function, objdump) for program in programs]
    if arguments.count:
        return 1 if compare_counts(*functions, arguments.count) else 0
    return 1 if compare(*functions, arguments.allow) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Error, OSError, subprocess.CalledProcessError) as error:
        print(f"compare_loop: {error}", file=sys.stderr)
        sys.exit(2)
