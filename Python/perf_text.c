/* Names, as profilers can bear them.

   A Python name may hold anything: newlines, NULs, lone surrogates, a hundred
   thousand characters.  The files that profilers read are less patient.  A
   newline in a perf map ends the entry and lets the rest of the name pose as
   another one; one byte that is no UTF-8 makes some readers drop the whole
   file; control characters reach the terminal of whoever reads the report.

   So every name passes through here and leaves as one line of valid UTF-8.
   What cannot stay is written the way Python writes it in a string literal,
   and a backslash is doubled, so that the original name can be had back:

       newline, tab, return        \n \t \r
       U+0000..1F, U+007F..9F      \x1b
       U+2028, U+2029              \u2028      (line ends to some readers)
       lone surrogates             \udc80
       bytes that are no UTF-8     \xff

   Nothing is ever cut: the buffer grows.  */

#include "Python.h"
#include "pycore_perf_text.h"


// --- The buffer ------------------------------------------------------------

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
    if (buffer->bytes != buffer->inline_bytes) {
        PyMem_RawFree(buffer->bytes);
    }
}

/* Make room for `more` bytes.  Returns false when there is no memory. */
static bool
buffer_reserve(struct _PyPerfTextWriter *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->length) {
        return !buffer->failed;
    }
    size_t wanted = buffer->capacity;
    while (wanted - buffer->length < more) {
        if (buffer->failed || wanted > PY_SSIZE_T_MAX / 2) {
            buffer->failed = true;
            return false;
        }
        wanted *= 2;
    }
    char *grown = PyMem_RawMalloc(wanted);
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
_PyPerfTextWriter_AppendHex(struct _PyPerfTextWriter *buffer, uintptr_t value)
{
    char digits[2 * sizeof(value)];
    char *first = digits + sizeof(digits);
    do {
        *--first = Py_hexdigits[value & 15];
        value >>= 4;
    } while (value != 0);
    _PyPerfTextWriter_Append(buffer, first, (size_t)(digits + sizeof(digits) - first));
}


// --- Escapes ---------------------------------------------------------------

/* Decode the character at `p`, which ends before `end`: its code point goes to
   *point, its number of bytes is returned.  0 means that the first byte does
   not start a character of UTF-8 (RFC 3629, section 3); surrogates pass. */
static int
utf8_decode(const unsigned char *p, const unsigned char *end, uint32_t *point)
{
    static const struct {
        unsigned char mask, lead, length;
        uint32_t least;             // shorter encodings are forged ones
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

/* Write the escape for `point` to `escape`, which has room for 7 bytes, and
   return its length, or 0 if the character may stand as it is. */
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

/* Whether all eight bytes are plain: none has its highest bit set, and none of
   three subtractions that tell them borrows into it. */
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
    const unsigned char *plain = p;     // what has yet to be copied as it is
    while (p < end) {
        if (end - p >= 8 && word_is_plain(p)) {
            p += 8;
            continue;
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
