/* What writes maps and jitdumps, given whatever a fuzzer thinks of.

   libFuzzer calls LLVMFuzzerTestOneInput() with bytes that it changes so that
   more and more of the code is reached.  They are read as a list of steps:

       one byte: what to do; two bytes: how long the first name is (and for a
       function one byte for the second); the names

   A step may be a function announced in the map or in the jitdump, an entry of
   somebody else's by the public function, a copy of another map, a file that
   disappears, the beginning or the end of gathering, an allocation or a write
   that fails.  Afterwards both files must be what their formats say.

   Compiled from the sources of the interpreter, with what they need of it stood
   in for below.  test_perf_fuzz.py builds and runs it.  */

#include "Python.h"
#include "pycore_perf_file.h"
#include "pycore_perf_jitdump.h"
#include "pycore_perf_map.h"
#include "pycore_perf_trampoline.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>


// --- In place of the interpreter -------------------------------------------

static int allocations_left = -1;       // -1: no end

static bool
allocation_fails(void)
{
    if (allocations_left < 0) {
        return false;
    }
    return allocations_left-- <= 0;
}

void *
PyMem_RawMalloc(size_t size)
{
    return allocation_fails() ? NULL : malloc(size);
}

void
PyMem_RawFree(void *block)
{
    free(block);
}

int
PyOS_snprintf(char *text, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, size, format, arguments);
    va_end(arguments);
    return length;
}

const char *Py_hexdigits = "0123456789abcdef";

/* The assembled base refers to it and is never run. */
PyObject *
_PyEval_EvalFrameDefault(PyThreadState *Py_UNUSED(tstate),
                         struct _PyInterpreterFrame *Py_UNUSED(frame),
                         int Py_UNUSED(throwflag))
{
    abort();
}

int
_PyPerfError_Set(struct _PyPerfError *error, const char *action,
                 const char *path, const char *reason, int number)
{
    error->action = action;
    PyOS_snprintf(error->path, sizeof(error->path), "%s", path);
    error->reason = reason;
    error->number = number;
    return -1;
}


// --- Writing ---------------------------------------------------------------

/* The sources are compiled with -Dwrite=fuzz_write. */
extern ssize_t fuzz_write(int fd, const void *bytes, size_t length);

static int writes_left = -1;            // -1: no end

#undef write
extern ssize_t write(int fd, const void *bytes, size_t length);

ssize_t
fuzz_write(int fd, const void *bytes, size_t length)
{
    if (writes_left >= 0 && writes_left-- == 0) {
        // Half of it, and no room for the rest.
        writes_left = 0;
        if (length < 2) {
            errno = ENOSPC;
            return -1;
        }
        ssize_t written = write(fd, bytes, length / 2);
        return written;
    }
    return write(fd, bytes, length);
}


// --- What a step reads -----------------------------------------------------

struct input {
    const uint8_t *bytes;
    size_t length;
};

static unsigned int
input_byte(struct input *input)
{
    if (input->length == 0) {
        return 0;
    }
    input->length--;
    return *input->bytes++;
}

/* A copy at the very end of an allocation, so that each byte too far is seen. */
static struct _PyPerfText
input_text(struct input *input, size_t length)
{
    length = Py_MIN(length, input->length);
    char *copy = malloc(length + 1);
    memcpy(copy, input->bytes, length);
    input->bytes += length;
    input->length -= length;
    char *exact = malloc(length);
    if (length > 0) {
        memcpy(exact, copy, length);
    }
    free(copy);
    return (struct _PyPerfText){.bytes = exact, .length = length};
}


// --- What the files must be ------------------------------------------------

#define REQUIRE(CONDITION) \
    do { \
        if (!(CONDITION)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, \
                    #CONDITION); \
            abort(); \
        } \
    } while (0)

struct content {
    char *bytes;
    size_t length;
};

static struct content
content_read(const char *path)
{
    struct content content = {.bytes = malloc(1), .length = 0};
    int fd = open(path, O_RDONLY);
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0) {
        content.bytes = realloc(content.bytes, (size_t)status.st_size + 1);
        ssize_t got = read(fd, content.bytes, (size_t)status.st_size);
        content.length = got < 0 ? 0 : (size_t)got;
    }
    if (fd >= 0) {
        close(fd);
    }
    return content;
}

/* One line of UTF-8 without controls, surrogates and separators of lines. */
static void
require_clean(const unsigned char *p, const unsigned char *end)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    while (p < end) {
        uint32_t point = *p;
        int more = point < 0x80 ? 0 : point < 0xe0 ? 1 : point < 0xf0 ? 2 : 3;
        REQUIRE(point < 0x80 || (point >= 0xc2 && point <= 0xf4));
        REQUIRE(end - p > more);
        point &= more == 0 ? 0x7f : 0x3fu >> more;
        for (int i = 1; i <= more; i++) {
            REQUIRE((p[i] & 0xc0) == 0x80);
            point = point << 6 | (p[i] & 0x3f);
        }
        REQUIRE(point >= least[more]);
        REQUIRE(point <= 0x10ffff && (point < 0xd800 || point > 0xdfff));
        REQUIRE(point >= 0x20 && (point < 0x7f || point >= 0xa0));
        REQUIRE(point != 0x2028 && point != 0x2029);
        if (point == '\\') {
            REQUIRE(end - p >= 2 && strchr("\\ntrxu", p[1]) != NULL);
            p++;
        }
        p += more + 1;
    }
}

static const char *
hex_skip(const char *p, const char *end)
{
    const char *start = p;
    while (p < end && memchr("0123456789abcdef", *p, 16) != NULL) {
        p++;
    }
    REQUIRE(p > start && p < end && *p == ' ');
    return p + 1;
}

/* Returns how many entries it has. */
static size_t
require_map(const char *path)
{
    struct content map = content_read(path);
    const char *p = map.bytes, *end = map.bytes + map.length;
    size_t count = 0;
    for (; p < end; count++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        REQUIRE(newline != NULL);
        p = hex_skip(hex_skip(p, newline), newline);
        require_clean((const unsigned char *)p, (const unsigned char *)newline);
        p = newline + 1;
    }
    free(map.bytes);
    return count;
}

static uint32_t
number(const char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

/* Returns how many functions it has. */
static size_t
require_jitdump(const char *path)
{
    struct content dump = content_read(path);
    const char *p = dump.bytes, *end = dump.bytes + dump.length;
    size_t count = 0;
    if (p < end) {
        REQUIRE(dump.length >= 40 && number(p) == 0x4A695444);
        p += 40;
    }
    for (; p < end; count++) {
        for (const uint32_t *id = (uint32_t[]){4, 2, 0, 9}; *id != 9; id++) {
            REQUIRE(end - p >= 16 && number(p) == *id);
            const uint32_t size = number(p + 4);
            REQUIRE(size >= 16 && (size_t)(end - p) >= size);
            if (*id == 0) {
                const char *name = p + 56;
                const char *nul = memchr(name, '\0', size - 56);
                REQUIRE(nul != NULL);
                REQUIRE(nul + 1 + _PyPerfTrampoline_CodeSize == p + size);
                require_clean((const unsigned char *)name,
                              (const unsigned char *)nul);
            }
            p += size;
        }
    }
    free(dump.bytes);
    return count;
}


/* How many descriptors are open. */
static size_t
count_descriptors(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    REQUIRE(directory != NULL);
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}


// --- The steps -------------------------------------------------------------

static char map_path[64];
static char dump_path[512];
static char other_path[512];

static struct {
    size_t in_map;                      // entries that must be in the files
    size_t in_dump;
    bool map_is_open;
    bool dump_is_open;
    bool gathers;
    bool exact;                         // nothing has failed or disappeared
} now;

static void
step_announce(struct input *input, const struct _PyPerfOutput *output,
              bool *is_open, size_t *count)
{
    struct _PyPerfError error;
    _PyPerfEdition edition;
    size_t length = input_byte(input) << 8;
    length += input_byte(input);
    struct _PyPerfText qualname = input_text(input, length);
    struct _PyPerfText filename = input_text(input, input_byte(input));
    struct _PyPerfRegion region = {
        .address = _PyPerfTrampoline_Code,
        .size = _PyPerfTrampoline_CodeSize,
        .qualname = qualname,
        .filename = filename,
        .first_line = (int)length - 1000,
    };
    if ((*is_open || output->open(&edition, &error) == 0)
            && output->announce(&region, &edition, &error) == 0) {
        *is_open = true;
        ++*count;
    }
    else {
        output->close();
        *is_open = false;
        now.exact = false;
    }
    free((char *)qualname.bytes);
    free((char *)filename.bytes);
}

static void
step_entry(struct input *input)
{
    size_t length = input_byte(input) << 8;
    length += input_byte(input);
    struct _PyPerfText text = input_text(input, length);
    char *name = malloc(text.length + 1);
    memcpy(name, text.bytes, text.length);
    name[text.length] = '\0';
    if (PyUnstable_WritePerfMapEntry(text.bytes, (unsigned int)length, name) == 0) {
        now.in_map++;
    }
    else {
        now.exact = false;
    }
    free(name);
    free((char *)text.bytes);
}

/* A map of well-formed lines, for another's lines are copied as they are. */
static void
step_copy(struct input *input)
{
    const unsigned int lines = input_byte(input);
    FILE *file = fopen(other_path, "w");
    REQUIRE(file != NULL);
    for (unsigned int i = 0; i < lines; i++) {
        fprintf(file, "%x %x other%*u%s", i + 1, 16, (int)input_byte(input), i,
                i + 1 < lines || (lines & 1) ? "\n" : "");
    }
    fclose(file);
    if (PyUnstable_CopyPerfMapFile(other_path) == 0) {
        now.in_map += lines;
    }
    else {
        now.exact = false;
    }
}

static void
gather(bool start)
{
    struct _PyPerfError error;
    _PyPerfEdition edition;
    now.gathers = start;
    if (_PyPerfMap_Output.gather(start, &edition, &error) < 0) {
        now.exact = false;
    }
    if (_PyPerfJitdump_Output.gather(start, &edition, &error) < 0) {
        now.exact = false;
    }
}

static void
step(struct input *input)
{
    switch (input_byte(input) % 12) {
    case 0: case 1: case 2:
        step_announce(input, &_PyPerfMap_Output, &now.map_is_open,
                      &now.in_map);
        break;
    case 3: case 4: case 5:
        step_announce(input, &_PyPerfJitdump_Output, &now.dump_is_open,
                      &now.in_dump);
        break;
    case 6:
        step_entry(input);
        break;
    case 7:
        step_copy(input);
        break;
    case 8:
        gather(!now.gathers);
        break;
    case 9:
        _PyPerfMap_Output.close();
        _PyPerfJitdump_Output.close();
        now.map_is_open = now.dump_is_open = false;
        break;
    case 10:
        unlink(input_byte(input) & 1 ? map_path : dump_path);
        _PyPerf_DescriptorsChanged();   // so that it is looked for
        now.exact = false;
        break;
    case 11:
        *(input_byte(input) & 1 ? &allocations_left : &writes_left) =
            (int)input_byte(input) % 8;
        now.exact = false;
        break;
    }
}

extern int LLVMFuzzerInitialize(int *, char ***);
extern int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerInitialize(int *Py_UNUSED(argc), char ***Py_UNUSED(argv))
{
    const char *directory = getenv("JITDUMPDIR");
    REQUIRE(directory != NULL);
    snprintf(map_path, sizeof(map_path), "/tmp/perf-%ld.map", (long)getpid());
    snprintf(dump_path, sizeof(dump_path), "%s/jit-%ld.dump", directory,
             (long)getpid());
    snprintf(other_path, sizeof(other_path), "%s/other.map", directory);
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {.bytes = bytes, .length = length};
    const size_t descriptors = count_descriptors();
    memset(&now, 0, sizeof(now));
    now.exact = true;
    unlink(map_path);
    unlink(dump_path);
    _PyPerf_DescriptorsChanged();
    while (input.length > 0) {
        step(&input);
    }
    allocations_left = writes_left = -1;
    gather(false);
    _PyPerfMap_Output.close();
    _PyPerfJitdump_Output.close();
    REQUIRE(count_descriptors() == descriptors);
    const size_t in_map = require_map(map_path);
    const size_t in_dump = require_jitdump(dump_path);
    if (now.exact) {
        REQUIRE(in_map == now.in_map);
        REQUIRE(in_dump == now.in_dump);
    }
    return 0;
}
