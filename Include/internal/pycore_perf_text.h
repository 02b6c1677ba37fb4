/* Bytes on their way into a file that profilers read. */

#ifndef Py_INTERNAL_PERF_TEXT_H
#define Py_INTERNAL_PERF_TEXT_H
#ifdef __cplusplus
extern "C" {
#endif

#include "pycore_perf_output.h"     // struct _PyPerfText

/* A growing buffer that starts in its own inline space, so that ordinary names
   cost no allocation.  After a failed allocation it takes nothing more and
   says so in `failed`.  No GIL needed; one thread at a time. */
struct _PyPerfTextWriter {
    char *bytes;
    size_t length;
    size_t capacity;
    bool failed;
    char inline_bytes[512];
};

extern void _PyPerfTextWriter_Init(struct _PyPerfTextWriter *buffer);
extern void _PyPerfTextWriter_Fini(struct _PyPerfTextWriter *buffer);

extern void _PyPerfTextWriter_Append(struct _PyPerfTextWriter *buffer,
                                 const void *bytes, size_t length);

/* Append `value` in lower-case hexadecimal, without "0x". */
extern void _PyPerfTextWriter_AppendHex(struct _PyPerfTextWriter *buffer,
                                    uintptr_t value);

/* Append `text` as one line of valid UTF-8 from which the original can be
   told: backslashes are doubled; controls, line separators, lone surrogates
   and bytes that are no UTF-8 become Python's escapes. */
extern void _PyPerfTextWriter_AppendEscaped(struct _PyPerfTextWriter *buffer,
                                        struct _PyPerfText text);

/* Append the name that profilers show: "py::QUALNAME:FILENAME", escaped. */
extern void _PyPerfTextWriter_AppendSymbol(struct _PyPerfTextWriter *buffer,
                                       const struct _PyPerfRegion *region);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_TEXT_H */
