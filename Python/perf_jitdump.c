/* The jitdump: /tmp/jit-PID.dump

       perf record -F 9999 -g -k 1 --call-graph dwarf -o perf.data \
           python -X perf_jit script.py
       perf inject -i perf.data --jit --output perf.jit.data
       perf report -g -i perf.jit.data

       samply record python -X perf_jit script.py

   A perf map only names addresses.  A jitdump has more about each piece of code:
   its bytes, its source lines, how to unwind its frame, and the time from which all
   this is valid.  `perf inject` builds an ELF image from it for each piece and merges
   the images into the recording.  Then perf can unwind stacks by DWARF information,
   through an interpreter that has no frame pointers.

   The file is a header and then, for each function, three records.  With lines there
   are three more, for the addresses of its bytecode instructions (perf_window.c):

       JIT_CODE_UNWINDING_INFO     how to leave the code of the next LOAD
       JIT_CODE_DEBUG_INFO         its file and lines
       JIT_CODE_LOAD               its address, name and bytes

   Format: Linux source tree, tools/perf/Documentation/jitdump-specification.txt.
   These facts are not in it:

   - perf and samply find the file by an executable mapping of it, the marker.  We
     map one page when we open the file, and leave it mapped.  A file on a file
     system that is mounted noexec cannot have a marker.
   - If a recording has a marker and the file is gone, `perf inject` gives up.  So the
     file of a forked child has no marker until the child calls a Python function.
     Until then it can be removed when the child executes another program.
   - Times are CLOCK_MONOTONIC in nanoseconds, and the recording must use the same
     clock (perf record -k 1).  macOS has a different clock, no marker and no
     unwinding information.  There only samply reads the file, and it walks the stack
     by frame pointers.
   - perf places .eh_frame and .eh_frame_hdr after the code, and maps code and these
     sections together.  So two pieces of code must be apart by the size of those
     sections.
   - A range of lines needs two debug entries, because perf takes one entry for an
     empty range.  The first is at the start of the code, where samply requires one,
     and the second is at the end.
   - perf 6.17 and 6.18 confuse two pieces of code whose bytes are equal.  The last
     eight bytes of the code are never executed.  In the dump they hold the number of
     the record, so bytes differ even where an address is used again.

   All records of a function are written with one call.  The GIL guards the state.  */

#include "Python.h"
#include "pycore_perf_buffer.h"
#include "pycore_perf_file.h"
#include "pycore_perf_jitdump.h"
#include "pycore_perf_os.h"
#include "pycore_perf_text.h"
#include "pycore_perf_unwind.h"


// --- Records, field by field as in the specification -----------------------

enum {
    JIT_CODE_LOAD = 0,
    JIT_CODE_DEBUG_INFO = 2,
    JIT_CODE_UNWINDING_INFO = 4,
};

struct jitdump_header {
    uint32_t magic;                 // "JiTD"; readers see the byte order in it
    uint32_t version;               // 1
    uint32_t total_size;            // of this header
    uint32_t elf_mach;              // e_machine of the code
    uint32_t pad1;
    uint32_t pid;
    uint64_t timestamp;             // of the file's creation
    uint64_t flags;                 // bit 0: timestamps of the architecture
};
static_assert(sizeof(struct jitdump_header) == 40, "jitdump file header");

struct record_header {
    uint32_t id;
    uint32_t total_size;            // of the record, with this header
    uint64_t timestamp;
};
static_assert(sizeof(struct record_header) == 16, "jitdump record header");

struct record_load {
    struct record_header header;
    uint32_t pid;
    uint32_t tid;
    uint64_t vma;                   // where the code is executed
    uint64_t code_addr;             // where it was generated
    uint64_t code_size;
    uint64_t code_index;            // unique in the process
    // the name, with its NUL; the code
};
static_assert(sizeof(struct record_load) == 56, "JIT_CODE_LOAD");

struct record_debug_info {
    struct record_header header;
    uint64_t code_addr;
    uint64_t nr_entry;
    // the entries
};
static_assert(sizeof(struct record_debug_info) == 32, "JIT_CODE_DEBUG_INFO");

struct debug_entry {
    uint64_t code_addr;
    uint32_t line;
    uint32_t discrim;
    // the file's name, with its NUL
};
static_assert(sizeof(struct debug_entry) == 16, "jitdump debug entry");

struct record_unwinding_info {
    struct record_header header;
    uint64_t unwind_data_size;      // .eh_frame and .eh_frame_hdr
    uint64_t eh_frame_hdr_size;
    uint64_t mapped_size;           // how much of it perf maps after the code
    // the data, padded so that the record's size is a multiple of 8
};
static_assert(sizeof(struct record_unwinding_info) == 40,
              "JIT_CODE_UNWINDING_INFO");

#define JITDUMP_MAGIC 0x4A695444u
#define MARKER_SIZE 4096            // one page; more where pages are larger


// --- State -----------------------------------------------------------------

static struct {
    struct _PyPerfFile file;
    struct _PyPerfBuffer buffer;    // of that file
    void *marker;                   // NULL: none
    bool is_hidden;                 // there must be no marker yet
    uint64_t next_index;            // code_index of the next function
    struct _PyPerfUnwind unwind;    // of trampolines; machine 0: not initialized
    struct _PyPerfUnwind line_unwind;   // of instructions (perf_window.c)
} dump = {
    .file = {.fd = {.number = -1}},
};

/* Return the kernel's id of this thread.  Asks the kernel once in each thread of the
   process that opened the file. */
static uint32_t
thread_id(void)
{
    static _Thread_local struct {
        pid_t pid;
        uint32_t tid;
    } known;
    if (known.pid != dump.file.pid) {
        known.pid = dump.file.pid;
        known.tid = _PyPerfOS_GetThreadId();
    }
    return known.tid;
}


// --- The file and its marker -----------------------------------------------

static void
marker_unmap(void)
{
    if (dump.marker != NULL) {
        munmap(dump.marker, MARKER_SIZE);
        dump.marker = NULL;
    }
}

/* Map the marker of the open file, in place of an earlier one.  Returns 0, or -1 with
   *error filled in. */
static int
marker_map(struct _PyPerfError *error)
{
    marker_unmap();
    if (!_PyPerfOS_MAPS_MARKER) {
        return 0;
    }
    void *marker = mmap(NULL, MARKER_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE,
                        dump.file.fd.number, 0);
    if (marker == MAP_FAILED) {
        int number = errno;
        return _PyPerfError_Set(
            error, "map", dump.file.path,
            number == EPERM ? "its file system is mounted noexec, or executable "
                              "memory is forbidden; set JITDUMPDIR to another "
                              "directory" : NULL,
            number);
    }
    dump.marker = marker;
    return 0;
}

/* Make sure that the open file has a header and, unless it is hidden, a marker.
   Returns 0, or -1 with *error filled in. */
static int
dump_head(struct _PyPerfError *error)
{
    while (_PyPerfBuffer_IsEmpty(&dump.buffer, &dump.file)) {
        struct jitdump_header header = {
            .magic = JITDUMP_MAGIC,
            .version = 1,
            .total_size = sizeof(header),
            .elf_mach = dump.unwind.machine,
            .pid = (uint32_t)dump.file.pid,
            .timestamp = (uint64_t)_PyPerfOS_Now(),
        };
        if (!dump.is_hidden && marker_map(error) < 0) {
            return -1;
        }
        if (_PyPerfBuffer_Append(&dump.buffer, &dump.file, &header, sizeof(header),
                                 error) < 0) {
            return -1;
        }
    }
    return dump.is_hidden || dump.marker != NULL ? 0 : marker_map(error);
}

/* The same for a file that has just been opened or published.  Removes it on failure:
   profilers cannot use a file without a marker. */
static int
dump_head_or_discard(struct _PyPerfError *error)
{
    const int result = dump_head(error);
    if (result < 0) {
        unlink(dump.file.path);
        marker_unmap();
        _PyPerfBuffer_Drop(&dump.buffer);
        _PyPerfFile_Close(&dump.file);
    }
    return result;
}

/* Write the path of this process's dump to `path`, which has room for `size` bytes.
   Returns 0, or -1 with *error filled in if the path is too long. */
static int
dump_path(char *path, size_t size, struct _PyPerfError *error)
{
    const char *directory = getenv("JITDUMPDIR");
    if (directory == NULL || *directory == '\0') {
        directory = "/tmp";
    }
    int length = PyOS_snprintf(path, size, "%s/jit-%ld.dump", directory,
                               (long)getpid());
    if (length < 0 || (size_t)length >= size) {
        return _PyPerfError_Set(error, "open", directory, NULL, ENAMETOOLONG);
    }
    return 0;
}

static int
dump_open_file(_PyPerfGeneration *generation, struct _PyPerfError *error)
{
    char path[sizeof(dump.file.path)];
    if ((dump.unwind.machine == 0
                && (_PyPerfUnwind_InitBody(&dump.line_unwind, error) < 0
                    || _PyPerfUnwind_Init(&dump.unwind, error) < 0))
            || dump_path(path, sizeof(path), error) < 0
            || _PyPerfFile_Open(&dump.file, path, error) < 0) {
        return -1;
    }
    int result = dump_head_or_discard(error);
    *generation = dump.file.generation;
    return result;
}

static int
dump_open(_PyPerfGeneration *generation, struct _PyPerfError *error)
{
    dump.is_hidden = false;
    return dump_open_file(generation, error);
}

static int
dump_set_buffering(bool on, _PyPerfGeneration *generation, struct _PyPerfError *error)
{
    if (on) {
        _PyPerfBuffer_Start(&dump.buffer);
        return 0;
    }
    int result = _PyPerfBuffer_Stop(&dump.buffer, &dump.file, error);
    if (result == _PyPerfFile_STARTED_AFRESH) {
        result = dump_head(error);
    }
    *generation = dump.file.generation;
    return result;
}

static void
dump_close(void)
{
    // The marker remains.  A profiler that is started later finds the file by it.
    struct _PyPerfError ignored;
    _PyPerfBuffer_Stop(&dump.buffer, &dump.file, &ignored);
    _PyPerfFile_Close(&dump.file);
}

static int
dump_reopen_in_child(bool Py_UNUSED(keep), _PyPerfGeneration *generation,
                     struct _PyPerfError *error)
{
    _PyPerfBuffer_Drop(&dump.buffer);
    _PyPerfFile_Close(&dump.file);
    dump.file = (struct _PyPerfFile){.fd = {.number = -1}};
    marker_unmap();
    dump.is_hidden = true;
    return dump_open_file(generation, error);
}

static int
dump_publish(_PyPerfGeneration *generation, struct _PyPerfError *error)
{
    dump.is_hidden = false;
    if (_PyPerfFile_Reclaim(&dump.file, error) < 0) {
        return -1;
    }
    *generation = dump.file.generation;
    return dump_head_or_discard(error);
}

static bool
dump_withdraw(void)
{
    return dump.is_hidden && _PyPerfFile_Withdraw(&dump.file);
}

static int
dump_put_back(struct _PyPerfError *error)
{
    return _PyPerfFile_PutBack(&dump.file, error);
}


// --- Records ---------------------------------------------------------------

/* Append the fixed part of a record.  Returns the offset of the record in the
   buffer. */
static size_t
record_begin(struct _PyPerfTextWriter *buffer, const void *fixed, size_t fixed_size)
{
    size_t start = buffer->length;
    _PyPerfTextWriter_Append(buffer, fixed, fixed_size);
    return start;
}

/* Fill in the header of the record at offset `start`, which ends with the buffer. */
static void
record_end(struct _PyPerfTextWriter *buffer, size_t start, uint32_t id,
           uint64_t timestamp)
{
    struct record_header header = {
        .id = id,
        .total_size = (uint32_t)(buffer->length - start),
        .timestamp = timestamp,
    };
    if (!buffer->failed) {
        memcpy(buffer->bytes + start, &header, sizeof(header));
    }
}

static void
append_unwinding_info(struct _PyPerfTextWriter *buffer, uint64_t timestamp,
                      const struct _PyPerfUnwind *unwind)
{
    if (unwind->size == 0) {
        return;
    }
    struct record_unwinding_info record = {
        .unwind_data_size = unwind->size,
        .eh_frame_hdr_size = unwind->header_size,
        .mapped_size = unwind->size,
    };
    static const char padding[8];
    size_t start = record_begin(buffer, &record, sizeof(record));
    _PyPerfTextWriter_Append(buffer, unwind->data, unwind->size);
    _PyPerfTextWriter_Append(buffer, padding, -unwind->size % 8);
    record_end(buffer, start, JIT_CODE_UNWINDING_INFO, timestamp);
}

/* A piece of code in the dump. */
struct piece {
    uint64_t address;
    size_t size;                    // bytes, with the number at the end
    const void *bytes;              // without that number; NULL: zeros
    const struct _PyPerfLine *lines;    // offsets from `address`
    size_t line_count;
};

/* Append the debug entry of an address, up to the name of the file. */
static void
append_debug_entry(struct _PyPerfTextWriter *buffer, uint64_t address, int line)
{
    struct debug_entry entry = {
        .code_addr = address,
        .line = line > 0 ? (uint32_t)line : 0,
    };
    _PyPerfTextWriter_Append(buffer, &entry, sizeof(entry));
}

static void
append_debug_info(struct _PyPerfTextWriter *buffer, uint64_t timestamp,
                  const struct piece *piece, struct _PyPerfText filename)
{
    struct record_debug_info record = {
        .code_addr = piece->address,
        .nr_entry = piece->line_count + 1,
    };
    size_t start = record_begin(buffer, &record, sizeof(record));
    append_debug_entry(buffer, piece->address, piece->lines[0].line);
    const size_t name = buffer->length;
    _PyPerfTextWriter_AppendEscaped(buffer, filename);
    _PyPerfTextWriter_Append(buffer, "", 1);
    const size_t name_size = buffer->length - name;
    for (size_t i = 1; i < piece->line_count; i++) {
        append_debug_entry(buffer, piece->address + piece->lines[i].start,
                           piece->lines[i].line);
        _PyPerfTextWriter_AppendAgain(buffer, name, name_size);
    }
    append_debug_entry(buffer, piece->address + piece->size,
                       piece->lines[piece->line_count - 1].line);
    _PyPerfTextWriter_AppendAgain(buffer, name, name_size);
    record_end(buffer, start, JIT_CODE_DEBUG_INFO, timestamp);
}

static void
append_load(struct _PyPerfTextWriter *buffer, uint64_t timestamp,
            const struct piece *piece, uint64_t index,
            const struct _PyPerfRegion *region)
{
    struct record_load record = {
        .pid = (uint32_t)dump.file.pid,
        .tid = thread_id(),
        .vma = piece->address,
        .code_addr = piece->address,
        .code_size = piece->size,
        .code_index = index,
    };
    size_t start = record_begin(buffer, &record, sizeof(record));
    _PyPerfTextWriter_AppendSymbol(buffer, region);
    _PyPerfTextWriter_Append(buffer, "", 1);
    const size_t size = piece->size - sizeof(index);
    if (piece->bytes != NULL) {
        _PyPerfTextWriter_Append(buffer, piece->bytes, size);
    }
    else {
        _PyPerfTextWriter_AppendZeros(buffer, size);
    }
    _PyPerfTextWriter_Append(buffer, &index, sizeof(index));
    record_end(buffer, start, JIT_CODE_LOAD, timestamp);
}

/* Append the three records of a piece of code. */
static void
append_piece(struct _PyPerfTextWriter *buffer, uint64_t timestamp,
             const struct piece *piece, const struct _PyPerfUnwind *unwind,
             uint64_t index, const struct _PyPerfRegion *region)
{
    append_unwinding_info(buffer, timestamp, unwind);
    append_debug_info(buffer, timestamp, piece, region->filename);
    append_load(buffer, timestamp, piece, index, region);
}

/* Append the records of a trampoline. */
static void
append_trampoline(struct _PyPerfTextWriter *buffer, uint64_t timestamp, uint64_t index,
                  const struct _PyPerfRegion *region)
{
    const struct _PyPerfLine definition = {
        .start = 0,
        .line = region->first_line > 0 ? region->first_line : 1,
    };
    const struct piece piece = {
        .address = (uintptr_t)region->address,
        .size = region->size,
        .bytes = region->address,
        .lines = &definition,
        .line_count = 1,
    };
    static const struct _PyPerfUnwind none;
    append_piece(buffer, timestamp, &piece, region->is_narrow ? &none : &dump.unwind,
                 index, region);
}

/* Append the records of the addresses of the instructions.  After them is room for the
   index. */
static void
append_lines(struct _PyPerfTextWriter *buffer, uint64_t timestamp, uint64_t index,
             const struct _PyPerfRegion *region)
{
    const struct piece piece = {
        .address = (uintptr_t)region->line_address,
        .size = region->line_size + sizeof(index),
        .lines = region->lines,
        .line_count = region->line_count,
    };
    _PyPerfUnwind_SetCodeSize(&dump.line_unwind, piece.size);
    append_piece(buffer, timestamp, &piece, &dump.line_unwind, index, region);
}

/* Append the records of a function.  Returns as _PyPerfFile_Append() does. */
static int
dump_append(const struct _PyPerfRegion *region, struct _PyPerfError *error)
{
    struct _PyPerfTextWriter buffer;
    const uint64_t timestamp = (uint64_t)_PyPerfOS_Now();
    uint64_t index = dump.next_index;
    int result;
    _PyPerfTextWriter_Init(&buffer);
    if (region->address != NULL) {
        append_trampoline(&buffer, timestamp, index++, region);
    }
    if (region->line_address != NULL) {
        append_lines(&buffer, timestamp, index++, region);
    }
    if (buffer.failed || buffer.length > UINT32_MAX) {
        result = _PyPerfError_Set(error, "announce a function", "", NULL, ENOMEM);
    }
    else {
        result = _PyPerfBuffer_Append(&dump.buffer, &dump.file, buffer.bytes,
                                      buffer.length, error);
    }
    if (result == _PyPerfFile_APPENDED) {
        dump.next_index = index;
    }
    _PyPerfTextWriter_Fini(&buffer);
    return result;
}

static int
dump_announce(const struct _PyPerfRegion *region, _PyPerfGeneration *generation,
              struct _PyPerfError *error)
{
    int result;
    do {
        result = dump_head(error);
        if (result == 0) {
            result = dump_append(region, error);
        }
    } while (result == _PyPerfFile_STARTED_AFRESH);
    *generation = dump.file.generation;
    return result;
}

const struct _PyPerfOutput _PyPerfJitdump_Output = {
    .mode = _PyPerf_JITDUMP,
    .name = "perf_jit",
    .has_time = true,
    .open = dump_open,
    .set_buffering = dump_set_buffering,
    .announce = dump_announce,
    .reopen_in_child = dump_reopen_in_child,
    .publish = dump_publish,
    .withdraw = dump_withdraw,
    .put_back = dump_put_back,
    .close = dump_close,
};
