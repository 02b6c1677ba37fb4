"""A reader of jitdump files, written from the specification.

    from test.test_perf import jitdump
    dump = jitdump.read('/tmp/jit-42.dump')
    for function in dump.functions():
        print(function.load.name, function.lines())

It is strict: it raises FormatError where a profiler would carry on.  It knows
nothing of Python's trampolines.  This file has no tests.

Formats: Linux source tree, tools/perf/Documentation/jitdump-specification.txt;
Linux Standard Base 5.0, Core, chapter "Exception Frames" (.eh_frame and
.eh_frame_hdr); DWARF 4, sections 6.4 and 7.23.

If the specification and perf's own reader differ, this reader follows perf: in
the unwinding data .eh_frame is first and .eh_frame_hdr last.  perf makes an
ELF image from them and unwinds by it; see Image.
"""

import collections
import itertools
import operator
import struct

MAGIC = 0x4A695444                      # "JiTD"

LOAD = 0
MOVE = 1
DEBUG_INFO = 2
CLOSE = 3
UNWINDING_INFO = 4

FLAG_ARCH_TIMESTAMP = 1


class FormatError(ValueError):
    """The bytes are not what the specification says."""


def check(condition, message, *arguments):
    if not condition:
        raise FormatError(message.format(*arguments))


class Reader:
    """Takes values from bytes, one after the other, and never beyond the end.
    """

    def __init__(self, data, order='<'):
        self.data = data
        self.order = order
        self.position = 0

    @property
    def rest(self):
        return len(self.data) - self.position

    def take(self, size):
        check(0 <= size <= self.rest, '{} bytes wanted at {}, there are {}',
              size, self.position, self.rest)
        self.position += size
        return bytes(self.data[self.position - size:self.position])

    def numbers(self, codes):
        """Take numbers of fixed size, unaligned; codes are those of struct."""
        codes = self.order + codes
        return struct.unpack(codes, self.take(struct.calcsize(codes)))

    def number(self, code):
        return self.numbers(code)[0]

    def string(self):
        """Take the bytes up to a NUL byte, and that byte."""
        end = self.data.find(b'\0', self.position)
        check(end >= 0, 'a string at {} does not end', self.position)
        return self.take(end + 1 - self.position)[:-1]

    def unsigned(self):
        """Take an unsigned LEB128 number (DWARF 4, section 7.6)."""
        value = 0
        for shift in itertools.count(0, 7):
            byte = self.number('B')
            value |= (byte & 0x7f) << shift
            if not byte & 0x80:
                return value

    def signed(self):
        """Take a signed LEB128 number."""
        start = self.position
        value = self.unsigned()
        bits = 7 * (self.position - start)
        return value - (1 << bits) if value >> (bits - 1) else value

    def finish(self, what):
        check(not self.rest, '{} bytes too many in {}', self.rest, what)


# ---------------------------------------------------------------------------
# Records
#
# All have: offset and size in the file, bytes; timestamp, nanoseconds.

Header = collections.namedtuple(
    'Header', 'order version size machine pid timestamp flags')

Load = collections.namedtuple(
    'Load', 'offset size timestamp pid tid vma code_addr code_index name code')

DebugInfo = collections.namedtuple(
    'DebugInfo', 'offset size timestamp code_addr entries')

DebugEntry = collections.namedtuple(
    'DebugEntry', 'code_addr line discriminator filename')

UnwindingInfo = collections.namedtuple(
    'UnwindingInfo', 'offset size timestamp eh_frame eh_frame_hdr mapped_size')

Close = collections.namedtuple('Close', 'offset size timestamp')


def parse_header(data):
    check(len(data) >= 40, 'a header has 40 bytes, not {}', len(data))
    [order] = [order for order in '<>'
               if struct.unpack_from(order + 'I', data)[0] == MAGIC] or [None]
    check(order, 'no jitdump begins with {}', bytes(data[:4]))
    reader = Reader(data[:40], order)
    (magic, version, size, machine, padding, pid, timestamp,
     flags) = reader.numbers('IIIIIIQQ')
    check(version == 1, 'version {}', version)
    check(size == 40, 'a header of {} bytes', size)
    check(padding == 0, 'header padding {:#x}', padding)
    check(flags & ~FLAG_ARCH_TIMESTAMP == 0, 'unknown flags {:#x}', flags)
    return Header(order, version, size, machine, pid, timestamp, flags)


def parse_text(reader):
    data = reader.string()
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError:
        raise FormatError(f'no UTF-8: {data!r}') from None


def parse_load(reader, *head):
    pid, tid, vma, code_addr, code_size, code_index = reader.numbers('IIQQQQ')
    name = parse_text(reader)
    check(code_size > 0, 'no code')
    code = reader.take(code_size)
    return Load(*head, pid, tid, vma, code_addr, code_index, name, code)


def parse_debug_info(reader, *head):
    code_addr, count = reader.numbers('QQ')
    entries = []
    for _ in range(count):
        addr, line, discriminator = reader.numbers('QII')
        same = entries and reader.data[reader.position:].startswith(b'\xff\0')
        if same:
            reader.string()
        entries.append(DebugEntry(
            addr, line, discriminator,
            entries[-1].filename if same else parse_text(reader)))
    return DebugInfo(*head, code_addr, entries)


def parse_unwinding_info(reader, *head):
    size, header_size, mapped_size = reader.numbers('QQQ')
    check(header_size <= size, '.eh_frame_hdr of {} bytes in {}',
          header_size, size)
    check(mapped_size in (0, size), '{} of {} bytes are mapped',
          mapped_size, size)
    data = reader.take(size)
    padding = reader.take(reader.rest)
    check(padding == bytes(-size % 8), 'padding {}', padding)
    return UnwindingInfo(*head, data[:size - header_size],
                         data[size - header_size:], mapped_size)


def parse_close(reader, *head):
    return Close(*head)


PARSERS = {
    LOAD: parse_load,
    DEBUG_INFO: parse_debug_info,
    CLOSE: parse_close,
    UNWINDING_INFO: parse_unwinding_info,
}


# ---------------------------------------------------------------------------
# The file

class Function:
    """The records of one function.  `unwinding` may be None."""

    def __init__(self, unwinding, debug, load):
        self.unwinding = unwinding
        self.debug = debug
        self.load = load

    def __repr__(self):
        return f'<{self.load.name} at {self.load.code_addr:#x}>'

    @property
    def start(self):
        return self.load.code_addr

    @property
    def end(self):
        return self.load.code_addr + len(self.load.code)

    def lines(self):
        """Return (filename, line, start, end) for each range."""
        return [(entry.filename, entry.line, entry.code_addr, next.code_addr)
                for entry, next in zip(self.debug.entries,
                                       self.debug.entries[1:])]

    def image(self):
        return Image(self.unwinding, len(self.load.code))


class Dump:
    """A parsed jitdump.

    header      None if the header is cut off
    records     the complete records, in their order
    incomplete  the number of bytes of an incomplete record at the end
    """

    def __init__(self, header, records, incomplete):
        self.header = header
        self.records = records
        self.incomplete = incomplete

    @property
    def loads(self):
        return [record for record in self.records if isinstance(record, Load)]

    @property
    def names(self):
        return [load.name for load in self.loads]

    def functions(self):
        """Return the functions.

        A function is three records, in the order that perf expects: unwinding
        information, debugging information, code.  The first may be missing.
        Incomplete groups at the end are left out.
        """
        kinds = (UnwindingInfo, DebugInfo, Load)
        functions = []
        start = 0
        while start < len(self.records):
            described = isinstance(self.records[start], UnwindingInfo)
            expected = kinds if described else kinds[1:]
            group = self.records[start:start + len(expected)]
            if len(group) < len(expected):
                break
            check(tuple(map(type, group)) == expected,
                  'these records do not make a function: {}',
                  [type(record).__name__ for record in group])
            start += len(group)
            *unwinding, debug, load = group
            unwinding = unwinding[0] if described else None
            check(debug.code_addr == load.code_addr,
                  'lines of {:#x} before the code at {:#x}',
                  debug.code_addr, load.code_addr)
            functions.append(Function(unwinding, debug, load))
        return functions


def parse(data):
    """Parse a jitdump. An incomplete last record is left out."""
    data = memoryview(data).tobytes()
    if len(data) < 40:
        return Dump(None, [], len(data))
    header = parse_header(data)
    records = []
    position = header.size
    timestamp = header.timestamp
    while len(data) - position >= 16:
        kind, size, time = struct.unpack_from(header.order + 'IIQ', data,
                                              position)
        check(kind in PARSERS, 'record {} at {}', kind, position)
        check(size >= 16, 'a record of {} bytes at {}', size, position)
        check(time >= timestamp, 'time goes back from {} to {} at {}',
              timestamp, time, position)
        if size > len(data) - position:
            break
        reader = Reader(data[position + 16:position + size], header.order)
        try:
            records.append(PARSERS[kind](reader, position, size, time))
            reader.finish('the record')
        except FormatError as error:
            raise FormatError(
                f'record {kind} at {position}: {error}') from None
        position += size
        timestamp = time
    return Dump(header, records, len(data) - position)


def read(path):
    with open(path, 'rb') as file:
        return parse(file.read())


# ---------------------------------------------------------------------------
# Unwinding information

PE_OMIT = 0xff
POINTER_FORMATS = {0x00: 'Q', 0x02: 'H', 0x03: 'I', 0x04: 'Q',
                   0x0a: 'h', 0x0b: 'i', 0x0c: 'q'}
POINTER_BASES = {0x00: 'absolute', 0x10: 'field', 0x30: 'header'}

Cie = collections.namedtuple(
    'Cie', 'address end version augmentation code_alignment data_alignment '
           'return_register pointer_encoding instructions')

Fde = collections.namedtuple('Fde', 'address end cie start size instructions')

# A row of the table that DWARF makes from the instructions.  From `offset` in
# the code on, the CFA is register + cfa_offset.  The caller's value of a
# register is at CFA + saved[register].
Row = collections.namedtuple('Row', 'offset register cfa_offset saved')


class Image:
    """The ELF image that perf makes around a piece of code.

    The code is at 0. After it, aligned to 8, is .eh_frame, then .eh_frame_hdr.
    All addresses are addresses in this image.
    """

    def __init__(self, unwinding, code_size, order='<'):
        self.order = order
        self.code_size = code_size
        self.eh_frame_address = (code_size + 7) // 8 * 8
        self.eh_frame = unwinding.eh_frame
        self.header_address = self.eh_frame_address + len(self.eh_frame)
        self.header = unwinding.eh_frame_hdr
        self.entries = self.parse_eh_frame()
        self.table = self.parse_header()

    @property
    def mapped_size(self):
        """The size of the image where perf maps it, in bytes."""
        return self.header_address + len(self.header)

    @property
    def fdes(self):
        return [entry for entry in self.entries if isinstance(entry, Fde)]

    def pointer(self, reader, base, encoding):
        """Take an encoded pointer.  base: the address of what `reader` reads.
        """
        here = base + reader.position
        check(encoding & 0x0f in POINTER_FORMATS
              and encoding & 0xf0 in POINTER_BASES,
              'pointer encoding {:#x}', encoding)
        value = reader.number(POINTER_FORMATS[encoding & 0x0f])
        return value + {'absolute': 0, 'field': here,
                        'header': self.header_address,
                        }[POINTER_BASES[encoding & 0xf0]]

    def parse_eh_frame(self):
        reader = Reader(self.eh_frame, self.order)
        entries = {}
        while True:
            address = self.eh_frame_address + reader.position
            length = reader.number('I')
            if not length:
                break
            check(length < 0xfffffff0, 'a length of 64 bits')
            check((length + 4) % 4 == 0, 'an entry of {} bytes', length + 4)
            body = Reader(reader.take(length), self.order)
            back = body.number('I')
            if not back:
                entries[address] = self.parse_cie(body, address)
            else:
                cie = entries.get(address + 4 - back)
                check(isinstance(cie, Cie), 'the FDE at {} has no CIE {} '
                      'bytes before it', address, back)
                entries[address] = self.parse_fde(body, address, cie)
        check(not any(reader.take(reader.rest)), 'bytes after the end mark')
        check(reader.position == len(self.eh_frame), 'more after the end')
        return list(entries.values())

    def parse_cie(self, reader, address):
        version = reader.number('B')
        check(version in (1, 3), 'CIE of version {}', version)
        augmentation = reader.string().decode('ascii')
        code_alignment = reader.unsigned()
        data_alignment = reader.signed()
        return_register = (reader.number('B') if version == 1
                           else reader.unsigned())
        encoding = 0
        check(augmentation[:1] == 'z', 'augmentation {!r}', augmentation)
        data = Reader(reader.take(reader.unsigned()), self.order)
        for letter in augmentation[1:]:
            check(letter in 'RSB', 'augmentation {!r}', augmentation)
            if letter == 'R':
                encoding = data.number('B')
        data.finish('the augmentation of the CIE')
        return Cie(address, address + 4 + len(reader.data), version,
                   augmentation, code_alignment, data_alignment,
                   return_register, encoding, reader.take(reader.rest))

    def parse_fde(self, reader, address, cie):
        start = self.pointer(reader, address + 4, cie.pointer_encoding)
        size = reader.number(POINTER_FORMATS[cie.pointer_encoding & 0x0f])
        check(not any(reader.take(reader.unsigned())), 'augmentation of FDE')
        return Fde(address, address + 4 + len(reader.data), cie, start, size,
                   reader.take(reader.rest))

    def parse_header(self):
        """Return the table: (address of code, address of FDE)."""
        reader = Reader(self.header, self.order)
        version, frame, count, table = reader.numbers('BBBB')
        check(version == 1, '.eh_frame_hdr of version {}', version)
        eh_frame = self.pointer(reader, self.header_address, frame)
        check(eh_frame == self.eh_frame_address,
              '.eh_frame_hdr takes {} for .eh_frame, which is at {}',
              eh_frame, self.eh_frame_address)
        # perf and libunwind search no others.
        check((count, table) == (0x03, 0x3b), 'encodings {:#x} {:#x}',
              count, table)
        count = self.pointer(reader, self.header_address, count)
        entries = []
        for _ in range(count):
            entries.append((self.pointer(reader, self.header_address, table),
                            self.pointer(reader, self.header_address, table)))
        check(not any(reader.take(reader.rest)), 'bytes after the table')
        check(entries == sorted(entries), 'the table is not sorted')
        return entries

    def rows(self, fde):
        """Return the rows that the instructions of CIE and FDE make."""
        [initial] = self.run(fde.cie, fde.cie.instructions, 0, None, {}, {})
        return self.run(fde.cie, fde.instructions, fde.size,
                        (initial.register, initial.cfa_offset),
                        initial.saved, initial.saved)

    def run(self, cie, instructions, size, cfa, saved, initial):
        reader = Reader(instructions, self.order)
        saved = dict(saved)
        rows = []
        stack = []
        offset = 0

        def save(register, factored):
            saved[register] = factored * cie.data_alignment

        def advance(by):
            nonlocal offset
            rows.append(Row(offset, *cfa, dict(saved)))
            offset += by * cie.code_alignment
            check(by > 0 and offset < size, 'instructions beyond the code')

        while reader.rest:
            opcode = reader.number('B')
            high, low = opcode & 0xc0, opcode & 0x3f
            if high == 0x40:                                # advance_loc
                advance(low)
            elif high == 0x80:                              # offset
                save(low, reader.unsigned())
            elif high == 0xc0:                              # restore
                saved.pop(low, None)
                if low in initial:
                    saved[low] = initial[low]
            elif opcode == 0x00:                            # nop
                pass
            elif opcode in (0x02, 0x03, 0x04):              # advance_loc1...
                advance(reader.number({2: 'B', 3: 'H', 4: 'I'}[opcode]))
            elif opcode == 0x05:                            # offset_extended
                save(reader.unsigned(), reader.unsigned())
            elif opcode == 0x0a:                            # remember_state
                stack.append((cfa, dict(saved)))
            elif opcode == 0x0b:                            # restore_state
                check(stack, 'nothing was remembered')
                cfa, saved = stack.pop()
            elif opcode == 0x0c:                            # def_cfa
                cfa = reader.unsigned(), reader.unsigned()
            elif opcode == 0x0d:                            # def_cfa_register
                # The assembler for riscv64 sets no offset before this.
                cfa = reader.unsigned(), cfa[1] if cfa else 0
            elif opcode == 0x0e:                            # def_cfa_offset
                cfa = cfa[0], reader.unsigned()
            elif opcode == 0x2d:                            # negate_ra_state
                pass
            else:
                raise FormatError(f'call frame instruction {opcode:#x}')
        check(cfa is not None, 'no CFA')
        rows.append(Row(offset, *cfa, saved))
        return rows

    def row_at(self, fde, offset):
        """Return the row that holds before the instruction at this offset."""
        return max((row for row in self.rows(fde) if row.offset <= offset),
                   key=operator.attrgetter('offset'))
