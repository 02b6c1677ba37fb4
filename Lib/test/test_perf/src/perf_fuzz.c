/* Fuzzes the code that writes maps and jitdumps.

   libFuzzer calls LLVMFuzzerTestOneInput() with bytes.  It changes them to
   reach more and more of the code.  The bytes are read as a list of steps:

       one byte: what to do; two bytes: the length of the first name (for a
       function one more byte, for the length of the second); the names

   A step writes a function to the map or to the jitdump, with lines or without,
   writes an entry by the public function, copies another map, makes a file
   disappear, starts or ends buffering, looks for the addresses of bytecode, or
   sets a fault.  After a fault is set, some call of a kind fails, once or until
   another step clears the fault.

   Afterwards both files must be well formed and have all entries that were
   written successfully.  If the system prevented the removal of a partial
   entry, that entry may be at the end.  When all faults are cleared, another
   function is written.  Then no partial entry is left.

   The sources of the interpreter are compiled for this.  The few functions of
   the interpreter that they need are replaced below.  Calls of the C library
   that can fail are redirected to perf_fault_*(), as in perf_faults.c.
   test_fuzz.py builds and runs this program.  */

#include "Python.h"
#include "pycore_perf_asm.h"
#include "pycore_perf_fd.h"
#include "pycore_perf_gdb.h"
#include "pycore_perf_jitdump.h"
#include "pycore_perf_map.h"
#include "pycore_perf_output.h"
#include "pycore_perf_window.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>


// --- Faults ----------------------------------------------------------------

enum fault {
    memory_KIND, open_KIND, fstat_KIND, ftruncate_KIND, fchmod_KIND, read_KIND,
    write_KIND, fcntl_KIND, mmap_KIND,
    FAULTS
};

static struct {
    unsigned int left;              // calls that succeed before
    bool armed;
    bool forever;
} faults[FAULTS];

static unsigned int hits[FAULTS];   // by the input that is being tried

static bool
fails(enum fault fault)
{
    static const int numbers[FAULTS] = {
        [memory_KIND] = ENOMEM, [open_KIND] = EMFILE, [fstat_KIND] = EIO,
        [ftruncate_KIND] = EIO, [fchmod_KIND] = EPERM, [read_KIND] = EIO,
        [write_KIND] = ENOSPC, [fcntl_KIND] = EMFILE, [mmap_KIND] = ENOMEM,
    };
    if (!faults[fault].armed) {
        return false;
    }
    if (faults[fault].left > 0) {
        faults[fault].left--;
        return false;
    }
    faults[fault].armed = faults[fault].forever;
    hits[fault]++;
    errno = numbers[fault];
    return true;
}

static unsigned int
count_hits(void)
{
    unsigned int count = 0;
    for (int fault = 0; fault < FAULTS; fault++) {
        count += hits[fault];
    }
    return count;
}

/* descriptors_compare() counts descriptors.  Nobody counts mappings. */
#define GOT_DESCRIPTOR(FD) ((void)(FD))
#define GOT_MAPPING(PLACE) ((void)(PLACE))
#include "perf_fault_calls.h"

extern int perf_fault_clock_gettime(clockid_t, struct timespec *);

/* Whether inode numbers are used again depends on other processes.  Here each
   input has its own inode numbers. */
static uint32_t inputs;

int
perf_fault_fstat(int fd, struct stat *status)
{
    int result = fails(fstat_KIND) ? -1 : fstat(fd, status);
    status->st_ino ^= (ino_t)inputs << 32;
    return result;
}

/* A write that fails takes half of the bytes; the next one has no room. */
ssize_t
perf_fault_write(int fd, const void *bytes, size_t length)
{
    static bool was_short;
    if (was_short) {
        was_short = false;
        errno = ENOSPC;
        return -1;
    }
    if (!fails(write_KIND)) {
        return write(fd, bytes, length);
    }
    if (length < 2) {
        return -1;
    }
    was_short = true;
    return write(fd, bytes, length / 2);
}

/* Each call adds the same time, so that an input always does the same. */
int
perf_fault_clock_gettime(clockid_t Py_UNUSED(clock), struct timespec *now)
{
    static int64_t nanoseconds;
    nanoseconds += 30000;
    now->tv_sec = nanoseconds / 1000000000;
    now->tv_nsec = nanoseconds % 1000000000;
    return 0;
}


// --- In place of the interpreter -------------------------------------------

void *
PyMem_RawMalloc(size_t size)
{
    return fails(memory_KIND) ? NULL : malloc(size);
}

void *
PyMem_RawCalloc(size_t count, size_t size)
{
    return fails(memory_KIND) ? NULL : calloc(count, size);
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

/* Debuggers need not know the windows. */
void
_PyPerfGdb_Register(uint16_t Py_UNUSED(machine), const char *Py_UNUSED(code),
                    size_t Py_UNUSED(size), const char *Py_UNUSED(unwind),
                    size_t Py_UNUSED(unwind_size))
{
}

/* The assembly file refers to these but is never run. */
PyObject *
__PyPerf_EvalLoop(PyThreadState *Py_UNUSED(tstate),
                  struct _PyInterpreterFrame *Py_UNUSED(frame),
                  int Py_UNUSED(throwflag))
{
    abort();
}

PyObject *
__PyPerf_EvalLoopWithLines(PyThreadState *Py_UNUSED(tstate),
                           struct _PyInterpreterFrame *Py_UNUSED(frame),
                           int Py_UNUSED(throwflag))
{
    abort();
}

/* _PyPerfError_Warn() refers to these.  It is never called here: the writers
   only return errors to their callers. */
PyObject _Py_NoneStruct;

PyObject *
PySys_GetObject(const char *Py_UNUSED(name))
{
    abort();
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

/* Return a copy at the end of an allocation, so that AddressSanitizer sees each
   byte that is read beyond it. */
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

/* In a function that reads an entry: if the condition is false, this is no
   entry. */
#define EXPECT(CONDITION) \
    do { \
        if (!(CONDITION)) { \
            not_true = #CONDITION; \
            return NULL; \
        } \
    } while (0)

static const char *not_true;

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

/* Check for one line of UTF-8 without controls, surrogates and line separators.
   Return its end, or NULL. */
static const char *
read_name(const char *name, const char *name_end)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)name;
    const unsigned char *end = (const unsigned char *)name_end;
    while (p < end) {
        uint32_t point = *p;
        int more = point < 0x80 ? 0 : point < 0xe0 ? 1 : point < 0xf0 ? 2 : 3;
        EXPECT(point < 0x80 || (point >= 0xc2 && point <= 0xf4));
        EXPECT(end - p > more);
        point &= more == 0 ? 0x7f : 0x3fu >> more;
        for (int i = 1; i <= more; i++) {
            EXPECT((p[i] & 0xc0) == 0x80);
            point = point << 6 | (p[i] & 0x3f);
        }
        EXPECT(point >= least[more]);
        EXPECT(point <= 0x10ffff && (point < 0xd800 || point > 0xdfff));
        EXPECT(point >= 0x20 && (point < 0x7f || point >= 0xa0));
        EXPECT(point != 0x2028 && point != 0x2029);
        if (point == '\\') {
            EXPECT(end - p >= 2 && strchr("\\ntrxu", p[1]) != NULL);
            p++;
        }
        p += more + 1;
    }
    return name_end;
}

static const char *
read_hex(const char *p, const char *end)
{
    const char *start = p;
    while (p < end && memchr("0123456789abcdef", *p, 16) != NULL) {
        p++;
    }
    EXPECT(p > start && p < end && *p == ' ');
    return p + 1;
}

/* Return the start of the next line, or NULL if this is no entry of a map. */
static const char *
read_map_entry(const char *p, const char *end)
{
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    EXPECT(newline != NULL);
    if ((p = read_hex(p, newline)) == NULL || (p = read_hex(p, newline)) == NULL
            || read_name(p, newline) == NULL) {
        return NULL;
    }
    return newline + 1;
}

static uint32_t
number(const char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static uint64_t
wide_number(const char *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

/* Check the lines of a piece of code of `size` bytes, in a record of debug
   information: each begins after the one before it. */
static const char *
read_debug_info(const char *p, const char *end, uint64_t size)
{
    const uint64_t address = wide_number(p + 16);
    const uint64_t count = wide_number(p + 24);
    uint64_t previous = 0;
    p += 32;
    for (uint64_t i = 0; i < count; i++) {
        EXPECT(end - p >= 16);
        const uint64_t offset = wide_number(p) - address;
        EXPECT(i == 0 ? offset == 0 : offset > previous);
        EXPECT(i + 1 < count ? offset < size : offset == size);
        previous = offset;
        p = memchr(p + 16, '\0', (size_t)(end - p - 16));
        EXPECT(p != NULL);
        p++;
    }
    EXPECT(p == end);
    return p;
}

/* The same for the three records of a piece of code in a jitdump. */
static const char *
read_dump_entry(const char *p, const char *end)
{
    const char *debug_info = NULL;
    for (const uint32_t *id = (uint32_t[]){4, 2, 0, 9}; *id != 9; id++) {
        EXPECT(end - p >= 16 && number(p) == *id);
        const uint32_t size = number(p + 4);
        EXPECT(size >= 16 && (size_t)(end - p) >= size);
        if (*id == 2) {
            EXPECT(size >= 32);
            debug_info = p;
        }
        if (*id == 0) {
            const char *name = p + 56;
            const char *nul = memchr(name, '\0', size - 56);
            EXPECT(nul != NULL);
            const uint64_t code_size = wide_number(p + 40);
            EXPECT(nul + 1 + code_size == p + size);
            if (read_name(name, nul) == NULL
                    || read_debug_info(debug_info, debug_info + number(debug_info + 4),
                                       code_size) == NULL) {
                return NULL;
            }
        }
        p += size;
    }
    return p;
}

static const char *
read_dump_header(const char *p, const char *end)
{
    EXPECT(end - p >= 40 && number(p) == 0x4A695444);
    return p + 40;
}

struct kind {
    const struct _PyPerfOutput *output;
    bool counts_lines;              // each line has an entry
    const char *(*read_header)(const char *, const char *);     // or NULL
    const char *(*read_entry)(const char *, const char *);
};

/* Return the number of entries in the file.  If may_be_torn, the rest after
   them must be the beginning of an entry. */
static size_t
count_entries(const struct kind *kind, const char *path, bool may_be_torn)
{
    struct content content = content_read(path);
    const char *p = content.bytes, *end = content.bytes + content.length;
    size_t count = 0;
    if (p < end && kind->read_header != NULL) {
        p = kind->read_header(p, end);
    }
    while (p != NULL && p < end) {
        const char *entry = p;
        p = kind->read_entry(p, end);
        count += p != NULL;
        if (p == NULL && kind->output == &_PyPerfMap_Output) {
            const char *newline = memchr(entry, '\n', (size_t)(end - entry));
            REQUIRE(newline != NULL ? newline + 1 == end : hits[write_KIND] > 1);
        }
    }
    if (p == NULL && !may_be_torn) {
        fprintf(stderr, "%s after %zu entries: not true: %s\n", path, count,
                not_true);
        abort();
    }
    free(content.bytes);
    return count;
}


// --- Descriptors -----------------------------------------------------------

/* Note the open descriptors, or close those that were not open then and return
   their number. */
static size_t
descriptors_compare(bool close_new)
{
    static bool open_before[1 << 16];
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    REQUIRE(directory != NULL);
    if (!close_new) {
        memset(open_before, 0, sizeof(open_before));
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL; ) {
        const int fd = atoi(entry->d_name);
        REQUIRE(fd < (int)Py_ARRAY_LENGTH(open_before));
        if (entry->d_name[0] == '.' || fd == dirfd(directory)) {
            continue;
        }
        if (!close_new) {
            open_before[fd] = true;
        }
        else if (!open_before[fd]) {
            close(fd);
            count++;
        }
    }
    closedir(directory);
    return count;
}


// --- The steps -------------------------------------------------------------

static char other_path[512];

static struct target {
    const struct kind kind;
    char path[512];
    bool is_open;
    bool is_buffering;
    unsigned int disappeared;           // the number of times
    size_t buffered;                    // entries that may be in the buffer
    size_t written;                     // entries that must be in the file
    size_t announced;                   // in all
} map = {
    .kind = {&_PyPerfMap_Output, true, NULL, read_map_entry},
}, dump = {
    .kind = {&_PyPerfJitdump_Output, false, read_dump_header, read_dump_entry},
};

static bool is_buffering;

/* Count entries that were written successfully. */
static void
target_count(struct target *target, size_t count)
{
    *(target->is_buffering ? &target->buffered : &target->written) += count;
    target->announced += count;
}

/* The buffer has been written, or may be lost. */
static void
target_settle(struct target *target, bool lost)
{
    target->written += lost ? 0 : target->buffered;
    target->buffered = 0;
}

static void
target_close(struct target *target)
{
    const unsigned int before = count_hits();
    target->kind.output->close();
    target_settle(target, count_hits() != before);
    target->is_open = target->is_buffering = false;
}

static int
target_announce(struct target *target, const struct _PyPerfRegion *region)
{
    struct _PyPerfError error;
    _PyPerfGeneration generation;
    const struct _PyPerfOutput *output = target->kind.output;
    if ((target->is_open || output->open(&generation, &error) == 0)
            && output->announce(region, &generation, &error) == 0) {
        target->is_open = true;
        if (region->address != NULL) {
            target_count(target, 1);
        }
        if (region->line_address != NULL) {
            target_count(target, target->kind.counts_lines ? region->line_count : 1);
        }
        return 0;
    }
    REQUIRE(error.action[0] != '\0');
    target_settle(target, true);
    target_close(target);
    return -1;
}

/* Read lines: a number, then the size and the number of each. */
static struct _PyPerfLine *
input_lines(struct input *input, struct _PyPerfRegion *region)
{
    const size_t count = input_byte(input);
    if (count == 0) {
        return NULL;
    }
    struct _PyPerfLine *lines = malloc(count * sizeof(*lines));
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        lines[i].start = start;
        start += 1 + input_byte(input) % 64;
        const unsigned int high = input_byte(input);
        lines[i].line = (int)(high << 23 | input_byte(input)) - 1;
    }
    region->line_address = (const void *)(uintptr_t)0x123400000000;
    region->line_size = start;
    region->lines = lines;
    region->line_count = count;
    return lines;
}

static void
step_announce(struct input *input, struct target *target, bool lines)
{
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
    struct _PyPerfLine *list = lines ? input_lines(input, &region) : NULL;
    if (list != NULL && list[0].line % 2 == 0) {
        region.address = NULL;          // it has been announced already
    }
    const unsigned int before = count_hits();
    const int result = target_announce(target, &region);
    REQUIRE(result == 0 || count_hits() != before);
    free(list);
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
    if (_PyPerfMap_WriteEntry(text.bytes, length, (struct _PyPerfText){
            .bytes = name, .length = strlen(name)}) == 0) {
        target_count(&map, 1);
    }
    else {
        target_settle(&map, true);
    }
    free(name);
    free((char *)text.bytes);
}

/* Copy a map of well-formed lines: lines of other maps are copied unchanged. */
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
    if (_PyPerfMap_CopyFile(other_path) == 0) {
        map.written += lines;           // past the buffer
        map.announced += lines;
    }
}

static void
target_buffer(struct target *target, bool start)
{
    struct _PyPerfError error;
    _PyPerfGeneration generation;
    const int result = target->kind.output->set_buffering(start, &generation, &error);
    target_settle(target, result < 0);
    target->is_buffering = start;
    if (result < 0) {
        target_close(target);
    }
}

static void
step_buffer(void)
{
    is_buffering = !is_buffering;
    target_buffer(&map, is_buffering);
    target_buffer(&dump, is_buffering);
}

#define GONE_SIZE (sizeof(map.path) + 20)

/* Write the new name of a file that disappears. */
static void
target_gone(const struct target *target, unsigned int number, char *path)
{
    snprintf(path, GONE_SIZE, "%s.%u", target->path, number);
}

static void
step_disappear(struct target *target)
{
    // It keeps existing under another name, so that its inode is not used again.
    char gone[GONE_SIZE];
    target_gone(target, target->disappeared++, gone);
    rename(target->path, gone);
    _PyPerfFd_NoteChange();       // so that it is looked for
}

static void
faults_pass(void)
{
    memset(faults, 0, sizeof(faults));
}

static void
step_fault(struct input *input)
{
    const unsigned int fault = input_byte(input) % (FAULTS + 1);
    const unsigned int how = input_byte(input);
    if (fault == FAULTS) {
        faults_pass();
        return;
    }
    faults[fault].armed = true;
    faults[fault].left = how % 8;
    faults[fault].forever = (how & 8) != 0;
    if (how & 16) {
        _PyPerfFd_NoteChange();   // so that the descriptor is looked at
    }
}

/* Look for the addresses of bytecode.  Windows exist until the process ends, so few
   are made: for 16 high halves, and again after a few of the first forks. */
static void
step_window(struct input *input)
{
    static unsigned int seals;
    const uintptr_t high = input_byte(input) % 16;
    uintptr_t low = input_byte(input) << 24;
    low |= input_byte(input) << 16;
    low |= input_byte(input);
    const size_t size = 2 * (input_byte(input) + 1) << input_byte(input) % 16;
    if (input_byte(input) == 255 && seals < 16) {
        seals++;
        _PyPerfWindow_Seal();
    }
    struct _PyPerfError error;
    const void *address, *again, *other;
    const unsigned int before = count_hits();
    if (_PyPerfWindow_Find((void *)(high << 32 | low), size, &address, &error) < 0) {
        REQUIRE(count_hits() != before && error.action[0] != '\0' && address == NULL);
        return;
    }
    if (address == NULL) {
        REQUIRE(low < _PyPerfWindow_BEFORE_FIRST
                || low + size > ((size_t)1 << 32) - 256 * 1024);
        return;
    }
    REQUIRE((uint32_t)(uintptr_t)address == low);
    REQUIRE(_PyPerfWindow_Translate(address, (void *)low) == address);
    // The same window for the next instruction, a different one for another high half.
    REQUIRE(_PyPerfWindow_Find((void *)(high << 32 | 16), 2, &again, &error) == 0);
    REQUIRE((uintptr_t)again >> 32 == (uintptr_t)address >> 32);
    const void *elsewhere = (void *)((high ^ 1) << 32 | low);
    if (_PyPerfWindow_Find(elsewhere, size, &other, &error) == 0) {
        REQUIRE((uintptr_t)other >> 32 != (uintptr_t)address >> 32);
    }
}

static void
step(struct input *input)
{
    switch (input_byte(input) % 15) {
    case 0: case 1: case 2:
        step_announce(input, &map, false);
        break;
    case 3: case 4: case 5:
        step_announce(input, &dump, false);
        break;
    case 6:
        step_entry(input);
        break;
    case 7:
        step_copy(input);
        break;
    case 8:
        step_buffer();
        break;
    case 9:
        target_close(&map);
        target_close(&dump);
        break;
    case 10:
        step_disappear(input_byte(input) & 1 ? &map : &dump);
        break;
    case 11:
        step_fault(input);
        break;
    case 12:
        step_announce(input, &map, true);
        break;
    case 13:
        step_announce(input, &dump, true);
        break;
    case 14:
        step_window(input);
        break;
    }
}

static void
target_start(struct target *target)
{
    unlink(target->path);
    target->is_open = target->is_buffering = false;
    target->buffered = target->written = target->announced = 0;
    target->disappeared = 0;
}

/* Check a file after everything is closed and no call fails any more. */
static void
target_check(struct target *target)
{
    // An entry could not be removed, or its length is unknown.
    const bool may_be_torn = hits[write_KIND] + hits[read_KIND] > 0
                             && hits[ftruncate_KIND] + hits[fstat_KIND] > 0;
    const size_t before = count_entries(&target->kind, target->path, may_be_torn);
    if (target->disappeared == 0) {
        REQUIRE(before >= target->written);
        REQUIRE(before <= target->announced || may_be_torn);
    }

    static const struct _PyPerfText name = {.bytes = "last", .length = 4};
    const struct _PyPerfRegion region = {
        .address = _PyPerfTrampoline_Code,
        .size = _PyPerfTrampoline_CodeSize,
        .qualname = name,
        .filename = name,
    };
    REQUIRE(target_announce(target, &region) == 0);
    target_close(target);
    const size_t after = count_entries(&target->kind, target->path, false);
    REQUIRE(after <= before + 1);
    if (target->disappeared == 0) {
        REQUIRE(after >= target->written);
        REQUIRE(after <= target->announced);
    }
    for (unsigned int i = 0; i < target->disappeared; i++) {
        char gone[GONE_SIZE];
        target_gone(target, i, gone);
        unlink(gone);
    }
}

extern int LLVMFuzzerInitialize(int *, char ***);
extern int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerInitialize(int *Py_UNUSED(argc), char ***Py_UNUSED(argv))
{
    const char *directory = getenv("JITDUMPDIR");
    REQUIRE(directory != NULL);
    snprintf(map.path, sizeof(map.path), "/tmp/perf-%ld.map", (long)getpid());
    snprintf(dump.path, sizeof(dump.path), "%s/jit-%ld.dump", directory,
             (long)getpid());
    snprintf(other_path, sizeof(other_path), "%s/other-%ld.map", directory,
             (long)getpid());
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {.bytes = bytes, .length = length};
    descriptors_compare(false);
    inputs++;
    memset(hits, 0, sizeof(hits));
    is_buffering = false;
    target_start(&map);
    target_start(&dump);
    _PyPerfFd_NoteChange();
    while (input.length > 0) {
        step(&input);
    }
    faults_pass();
    target_buffer(&map, false);
    target_buffer(&dump, false);
    target_close(&map);
    target_close(&dump);
    target_check(&map);
    target_check(&dump);
    // A descriptor that fstat() could not check may be the program's: it stays open.
    REQUIRE(descriptors_compare(true) <= hits[fstat_KIND]);
    return 0;
}
