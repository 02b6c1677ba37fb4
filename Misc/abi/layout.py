"""Print the layout of the types that CPython's headers define, one fact a line.

gdb runs this file, on an object file whose source includes all headers:

    gdb -nx -batch -x layout.py headers.o

    struct _frame size 56
    struct _frame.f_back offset 16 size 8 PyFrameObject *
    PyASCIIObject.state.kind offset 32 bit 2 width 3 unsigned int
    enum _framestate.FRAME_CREATED value -2
    PyFrameObject is struct _frame

An unnamed type has the name of its typedef. The members of an unnamed struct or union
inside a type are named as C code names them.
"""

import re

import gdb

COMPOUND = {gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION}


def members(prefix, type_, start):
    """Facts of the members of a struct or union that begins at bit `start`."""
    for field in type_.fields():
        offset, bit = divmod(start + field.bitpos, 8)
        name = f'{prefix}.{field.name}' if field.name else prefix
        if field.type.code in COMPOUND and not field.type.tag:
            if field.name:
                yield f'{name} offset {offset} size {field.type.sizeof}'
            yield from members(name, field.type, start + field.bitpos)
        elif field.bitsize:
            yield f'{name} offset {offset} bit {bit} width {field.bitsize} {field.type}'
        else:
            yield f'{name} offset {offset} size {field.type.sizeof} {field.type}'


def facts(name):
    type_ = gdb.lookup_type(name)
    bare = type_.strip_typedefs()
    has_own_name = type_.code != gdb.TYPE_CODE_TYPEDEF or bare.tag in (None, name)
    if bare.code in COMPOUND | {gdb.TYPE_CODE_ENUM} and has_own_name:
        yield f'{name} size {bare.sizeof}'
        if bare.code == gdb.TYPE_CODE_ENUM:
            for field in bare.fields():
                yield f'{name}.{field.name} value {field.enumval}'
        else:
            yield from members(name, bare, 0)
    else:
        yield f'{name} is {bare}'


def names():
    for line in gdb.execute('info types', to_string=True).splitlines():
        if match := re.match(r'\d+:\s+(.*);$', line):
            is_typedef = match[1].startswith('typedef ')
            yield match[1].split()[-1] if is_typedef else match[1]


for name in sorted(set(names())):
    print(*facts(name), sep='\n')
