/* Text that will be written to a file for profilers. */

#ifndef Py_INTERNAL_PERF_TEXT_H
#define Py_INTERNAL_PERF_TEXT_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_output.h"     // struct _PyPerfText

/* A buffer that grows.  It begins with inline space, so a name of ordinary length
   needs no allocation.  When an allocation fails, `failed` becomes true and later calls
   append nothing.  One thread at a time may use it.  No GIL needed. */
struct _PyPerfTextWriter {
    char *bytes;
    size_t length;
    size_t capacity;
    bool failed;
    char inline_bytes[512];
};

/* Make the buffer empty.  The caller calls _PyPerfTextWriter_Fini() in the end. */
extern void _PyPerfTextWriter_Init(struct _PyPerfTextWriter *buffer);

/* Free the memory of the buffer. */
extern void _PyPerfTextWriter_Fini(struct _PyPerfTextWriter *buffer);

/* With `on`, later buffers grow into one static buffer of 32 KiB instead of allocated
   memory.  Then there may be only one buffer at a time, and only one thread. */
extern void _PyPerfTextWriter_UseSpare(bool on);

/* Append `length` bytes as they are. */
extern void _PyPerfTextWriter_Append(struct _PyPerfTextWriter *buffer,
                                     const void *bytes, size_t length);

/* Append `length` bytes that the buffer has at offset `start` once more. */
extern void _PyPerfTextWriter_AppendAgain(struct _PyPerfTextWriter *buffer,
                                          size_t start, size_t length);

/* Append `length` bytes that are 0. */
extern void _PyPerfTextWriter_AppendZeros(struct _PyPerfTextWriter *buffer,
                                          size_t length);

/* Append `value` in decimal, and the character `after`. */
extern void _PyPerfTextWriter_AppendDecimal(struct _PyPerfTextWriter *buffer,
                                            uintptr_t value, char after);

/* Append `value` in lower-case hexadecimal, without "0x", and the character `after`. */
extern void _PyPerfTextWriter_AppendHex(struct _PyPerfTextWriter *buffer,
                                        uintptr_t value, char after);

/* Append `text` as one line of valid UTF-8 from which the original can be recovered.
   Backslashes are doubled.  Controls, line separators, lone surrogates and bytes that
   are not UTF-8 become escapes as in Python's string literals. */
extern void _PyPerfTextWriter_AppendEscaped(struct _PyPerfTextWriter *buffer,
                                            struct _PyPerfText text);

/* Append the name that profilers show, "py::QUALNAME:FILENAME", with escapes. */
extern void _PyPerfTextWriter_AppendSymbol(struct _PyPerfTextWriter *buffer,
                                           const struct _PyPerfRegion *region);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_TEXT_H */
