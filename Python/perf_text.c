/* Names, in a form that profilers can read.

   A Python name may contain anything: newlines, NULs, lone surrogates, a hundred
   thousand characters.  The files that profilers read cannot:

   - A newline in a perf map ends the entry, and the rest of the name could pass as a
     further entry.
   - A byte that is not UTF-8 makes some readers drop the whole file.
   - Control characters reach the terminal of the person who reads the report.

   So every name passes through this file and becomes one line of valid UTF-8.  A
   character that cannot remain is written as Python writes it in a string literal.
   A backslash is doubled, so the original name can be recovered:

       newline, tab, return        \n \t \r
       U+0000..1F, U+007F..9F      \x1b
       U+2028, U+2029              \u2028      (line ends to some readers)
       lone surrogates             \udc80
       bytes that are not UTF-8    \xff

   No name is cut, because the buffer grows.  In a child that C code has just forked,
   malloc() and its hooks may wait for locks of threads that the child does not have.
   There the buffer grows into a static one, which one buffer at a time can have.  */

#include "Python.h"
#include "pycore_perf_text.h"


// --- The buffer ------------------------------------------------------------

static bool uses_spare;
static bool spare_is_taken;
static char spare[32 * 1024];

void
_PyPerfTextWriter_UseSpare(bool on)
{
    uses_spare = on;
    spare_is_taken = false;
}

/* Return memory for *size bytes or more, and store in *size for how many.  Returns NULL
   if there is none. */
static char *
buffer_allocate(size_t *size)
{
    if (!uses_spare) {
        return PyMem_RawMalloc(*size);
    }
    if (*size > sizeof(spare) || spare_is_taken) {
        return NULL;
    }
    *size = sizeof(spare);
    spare_is_taken = true;
    return spare;
}

void
_PyPerfTextWriter_Init(struct _PyPerfTextWriter *buffer)
{
    buffer->bytes = buffer->inline_bytes;
    buffer->length = 0;
    buffer->capacity = sizeof(buffer->inline_bytes);
    buffer->failed = false;
}

void
_PyPerfTextWriter_Fini(struct _PyPerfTextWriter *buffer)
{
    if (buffer->bytes == spare) {
        spare_is_taken = false;
    }
    else if (buffer->bytes != buffer->inline_bytes) {
        PyMem_RawFree(buffer->bytes);
    }
}

/* Make the buffer larger.  Returns false if there is no memory. */
static bool
buffer_grow(struct _PyPerfTextWriter *buffer, size_t more)
{
    size_t wanted = buffer->capacity;
    while (wanted - buffer->length < more) {
        if (buffer->failed || wanted > PY_SSIZE_T_MAX / 2) {
            buffer->failed = true;
            return false;
        }
        wanted *= 2;
    }
    char *grown = buffer_allocate(&wanted);
    if (grown == NULL) {
        buffer->failed = true;
        return false;
    }
    memcpy(grown, buffer->bytes, buffer->length);
    _PyPerfTextWriter_Fini(buffer);
    buffer->bytes = grown;
    buffer->capacity = wanted;
    return true;
}

/* Make room for `more` bytes.  Returns false if there is no memory. */
static inline bool
buffer_reserve(struct _PyPerfTextWriter *buffer, size_t more)
{
    return more <= buffer->capacity - buffer->length ? !buffer->failed
                                                     : buffer_grow(buffer, more);
}

void
_PyPerfTextWriter_Append(struct _PyPerfTextWriter *buffer, const void *bytes,
                         size_t length)
{
    if (buffer_reserve(buffer, length)) {
        memcpy(buffer->bytes + buffer->length, bytes, length);
        buffer->length += length;
    }
}

void
_PyPerfTextWriter_AppendAgain(struct _PyPerfTextWriter *buffer, size_t start,
                              size_t length)
{
    if (buffer_reserve(buffer, length)) {
        memcpy(buffer->bytes + buffer->length, buffer->bytes + start, length);
        buffer->length += length;
    }
}

void
_PyPerfTextWriter_AppendZeros(struct _PyPerfTextWriter *buffer, size_t length)
{
    if (buffer_reserve(buffer, length)) {
        memset(buffer->bytes + buffer->length, 0, length);
        buffer->length += length;
    }
}

/* Append `value` in the given base and the character `after`. */
static inline void
buffer_append_number(struct _PyPerfTextWriter *buffer, uintptr_t value,
                     unsigned int base, char after)
{
    char text[3 * sizeof(value) + 1];
    char *const end = text + sizeof(text);
    char *first = end;
    *--first = after;
    do {
        *--first = Py_hexdigits[value % base];
        value /= base;
    } while (value != 0);
    _PyPerfTextWriter_Append(buffer, first, (size_t)(end - first));
}

void
_PyPerfTextWriter_AppendDecimal(struct _PyPerfTextWriter *buffer, uintptr_t value,
                                char after)
{
    buffer_append_number(buffer, value, 10, after);
}

void
_PyPerfTextWriter_AppendHex(struct _PyPerfTextWriter *buffer, uintptr_t value,
                            char after)
{
    buffer_append_number(buffer, value, 16, after);
}


// --- Escapes ---------------------------------------------------------------

/* Decode the UTF-8 character at `p` (RFC 3629, section 3).  Surrogates are accepted.
   Reads no byte at `end` or after it.  Returns the number of bytes and stores the code
   point in *point.  Returns 0 if the bytes are not such a character. */
static int
utf8_decode(const unsigned char *p, const unsigned char *end, uint32_t *point)
{
    static const struct {
        unsigned char mask, lead, length;
        uint32_t least;             // a smaller code point has a shorter form
    } forms[] = {
        {0x80, 0x00, 1, 0},
        {0xe0, 0xc0, 2, 0x80},
        {0xf0, 0xe0, 3, 0x800},
        {0xf8, 0xf0, 4, 0x10000},
    };
    for (size_t form = 0; form < Py_ARRAY_LENGTH(forms); form++) {
        if ((p[0] & forms[form].mask) != forms[form].lead) {
            continue;
        }
        int length = forms[form].length;
        if (end - p < length) {
            return 0;
        }
        uint32_t value = p[0] & (unsigned char)~forms[form].mask;
        for (int i = 1; i < length; i++) {
            if ((p[i] & 0xc0) != 0x80) {
                return 0;
            }
            value = value << 6 | (p[i] & 0x3f);
        }
        if (value < forms[form].least || value > 0x10ffff) {
            return 0;
        }
        *point = value;
        return length;
    }
    return 0;
}

/* Write the escape for `point` to `escape`, which has room for 7 bytes.  Returns its
   length, or 0 if the character needs no escape. */
static int
escape_format(char *escape, uint32_t point)
{
    switch (point) {
    case '\n': return sprintf(escape, "\\n");
    case '\t': return sprintf(escape, "\\t");
    case '\r': return sprintf(escape, "\\r");
    case '\\': return sprintf(escape, "\\\\");
    }
    if (point < 0x20 || (point >= 0x7f && point < 0xa0)) {
        return sprintf(escape, "\\x%02x", (unsigned int)point);
    }
    if (point == 0x2028 || point == 0x2029
            || (point >= 0xd800 && point <= 0xdfff)) {
        return sprintf(escape, "\\u%04x", (unsigned int)point);
    }
    return 0;
}

static inline bool
byte_is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '\\';
}

/* Return whether all eight bytes at `p` are plain.  Such a byte has its highest bit
   clear, and none of three subtractions sets it: each one borrows where a byte is a
   control, a backslash or DEL. */
static inline bool
word_is_plain(const unsigned char *p)
{
    const uint64_t every = 0x0101010101010101u;
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    const uint64_t not_backslash = word ^ every * '\\';
    const uint64_t not_delete = word ^ every * 0x7f;
    return ((word | (word - every * 0x20) | (not_backslash - every)
             | (not_delete - every)) & every * 0x80) == 0;
}

void
_PyPerfTextWriter_AppendEscaped(struct _PyPerfTextWriter *buffer,
                                struct _PyPerfText text)
{
    const unsigned char *p = (const unsigned char *)text.bytes;
    const unsigned char *end = p + text.length;
    const unsigned char *plain = p;     // not copied yet, needs no escape
    const bool ends_plainly = text.length >= 8 && word_is_plain(end - 8);
    while (p < end) {
        if (end - p >= 8 && word_is_plain(p)) {
            p += 8;
            continue;
        }
        if (end - p < 8 && ends_plainly) {
            p = end;
            break;
        }
        if (byte_is_plain(*p)) {
            p++;
            continue;
        }
        uint32_t point;
        char escape[8];
        int escape_length;
        int length = utf8_decode(p, end, &point);
        if (length == 0) {
            length = 1;
            escape_length = sprintf(escape, "\\x%02x", *p);
        }
        else {
            escape_length = escape_format(escape, point);
        }
        if (escape_length > 0) {
            _PyPerfTextWriter_Append(buffer, plain, (size_t)(p - plain));
            _PyPerfTextWriter_Append(buffer, escape, (size_t)escape_length);
            plain = p + length;
        }
        p += length;
    }
    _PyPerfTextWriter_Append(buffer, plain, (size_t)(p - plain));
}

void
_PyPerfTextWriter_AppendSymbol(struct _PyPerfTextWriter *buffer,
                               const struct _PyPerfRegion *region)
{
    _PyPerfTextWriter_Append(buffer, "py::", 4);
    _PyPerfTextWriter_AppendEscaped(buffer, region->qualname);
    _PyPerfTextWriter_Append(buffer, ":", 1);
    _PyPerfTextWriter_AppendEscaped(buffer, region->filename);
}
