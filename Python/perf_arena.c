/* Executable memory for the trampolines.

   A profiler tells functions apart by their addresses, so each Python function
   needs a few bytes of machine code at a different address.  These are copies of
   one position-independent piece of code, made an arena at a time:

       arena      +-------------------------+--------------+--------------+--
       (mmap)     | unwind information      | code   | 7 | | code   | 8 | | ...
                  +-------------------------+--------------+--------------+--
                  <------- HEAD_SIZE -------><-- stride --->

   An arena is mapped for writing, filled to its end with copies, and then made
   executable.  It is never written again: at no time is memory both writable and
   executable.  The number at the end of each copy makes all copies different,
   because perf 6.17 and 6.18 take code with equal bytes for one function.

   The first arena has 256 slots.  Each later one has twice as many as the one before,
   up to 8192.  Arenas are never unmapped, because a frame on some thread's stack
   may return into them.  A slot can be used again when its owner frees it.

   perf reads unwind information from a jitdump, and places it after each piece of
   code.  So the slots of a jitdump are wide: 128 bytes.  Those of a perf map lie close
   together, because new memory is what costs most about a new function.  A wide slot
   serves in a perf map, too.  When a process goes over from a map to a jitdump, code
   objects with narrow slots get wide ones (perf_slots.c).

   Arenas lie side by side in a range of reserved address space, so that the kernel
   makes one mapping of them.  Some profilers tell addresses in anonymous mappings
   apart only by the offset in the mapping.  For them, the same offset in two arenas
   would be the same function.

       range      +-------+-------+---------------+- - - - - - - - - - - - - -
       (PROT_NONE)| arena | arena | arena         |  next
                  +-------+-------+---------------+- - - - - - - - - - - - - -

   A forked child inherits the arenas.  It takes no more slots from them and does
   not reuse their slots: profilers look up inherited addresses in the parent's
   file.  Between them and the child's own arenas it leaves a gap, so that they remain
   a mapping of their own.

   A table next to each arena holds one struct for each slot.  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_asm.h"        // _PyPerfTrampoline_Code
#include "pycore_perf_gdb.h"
#include "pycore_perf_lock.h"
#include "pycore_perf_os.h"
#include "pycore_perf_unwind.h"
#include "pycore_perf_window.h"
#include <sys/resource.h>           // getrlimit()

#define SMALLEST_ARENA ((size_t)256)     // slots
#define LARGEST_ARENA ((size_t)8192)

/* Address space to reserve at once: room for half a million wide slots. */
#define RANGE_SIZE ((size_t)64 * 1024 * 1024)

/* Address space between the arenas of a parent process and those of a child. */
#define GAP_SIZE ((size_t)64 * 1024)

/* Bytes before the first trampoline of an arena. */
#define HEAD_SIZE ((size_t)128)

/* Bytes from one wide slot to the next.  perf maps the code and its unwind information
   as one image; images of neighbours must not overlap. */
#define WIDE_STRIDE ((size_t)128)

/* Trampolines are aligned to this many bytes. */
#define ALIGNMENT ((size_t)16)
static_assert(HEAD_SIZE % ALIGNMENT == 0 && WIDE_STRIDE % ALIGNMENT == 0,
              "trampolines are aligned");

/* The type of the number with which a trampoline ends. */
typedef uint64_t code_number;

struct _PyPerfArena {
    struct _PyPerfArena *older;
    char *memory;
    size_t size;                    // bytes
    size_t stride;                  // bytes from one slot to the next
    size_t used;                    // slots that have been taken
    size_t capacity;                // slots in all
    uint16_t machine;               // ELF's e_machine; 0: no unwind information
    bool is_registered;             // unwinders know the unwind information
    struct _PyPerfSlot slots[];
};

struct _PyPerfArenaPool _PyPerf_Pool = {.enter = _PyPerf_EnterEvalLoop};
static const void *void_window;     // NULL until lines are switched on


static size_t
round_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}


// --- Address space ---------------------------------------------------------

/* Reserved, and not yet used. */
static struct {
    char *next;
    char *end;
} range;

/* Reserve a range of `size` bytes.  The system puts it after the one before, if it
   can.  Returns -1 with errno set on failure. */
static int
range_map(size_t size)
{
    void *memory = mmap(range.end, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return -1;
    }
    range.next = memory;
    range.end = range.next + size;
    return 0;
}

/* Reserve a range with room for `size` bytes.  Returns -1 with errno set on failure. */
static int
range_reserve(size_t size)
{
    struct rlimit limit;
    // If address space is scarce, take no more than is needed.
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY
            && range_map(RANGE_SIZE) == 0) {
        return 0;
    }
    return range_map(size);
}

/* Return the next `size` bytes of the range, writable.  Until range_advance(), they
   remain the next ones.  Returns NULL with errno set on failure. */
static char *
range_open(size_t size)
{
    if ((size_t)(range.end - range.next) < size && range_reserve(size) < 0) {
        return NULL;
    }
    return mprotect(range.next, size, PROT_READ | PROT_WRITE) < 0 ? NULL : range.next;
}

static void
range_advance(size_t size)
{
    range.next += Py_MIN(size, (size_t)(range.end - range.next));
}

static int
memory_make_executable(char *memory, size_t size)
{
    _PyPerfOS_FlushCode(memory, size);
    return mprotect(memory, size, PROT_READ | PROT_EXEC);
}


// --- Arenas ----------------------------------------------------------------

/* Make a table of addresses longer.  The element at 0 and all elements from `used` to
   `count` become `initial`.  Returns false if there is no memory. */
static bool
table_grow(const void *const **table, size_t used, size_t count, const void *initial)
{
    const void **grown = PyMem_RawRealloc((void *)*table, count * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    *table = grown;
    grown[0] = initial;
    for (size_t i = used; i < count; i++) {
        grown[i] = initial;
    }
    return true;
}

/* Let the eval loops that begin now store lines, or not. */
static void
pool_set_lines(bool on)
{
    _PyPerf_Pool.lines = on;
    _PyPerf_Pool.enter = on ? _PyPerf_EnterEvalLoopWithLines : _PyPerf_EnterEvalLoop;
    _PyPerf_Pool.entry_addresses = on ? _PyPerf_Pool.line_addresses
                                      : _PyPerf_Pool.return_addresses;
}

/* Make room for the addresses of `more` slots.  Returns false if there is no memory. */
static bool
pool_reserve(size_t more)
{
    const size_t used = 1 + _PyPerf_Pool.last_number;
    const size_t count = used + more;
    const bool done =
        count <= UINT32_MAX
        && table_grow(&_PyPerf_Pool.return_addresses, used, count,
                      _PyPerf_EnterEvalLoopReturn)
        && (_PyPerf_Pool.line_addresses == NULL
            || table_grow(&_PyPerf_Pool.line_addresses, used, count, void_window));
    pool_set_lines(_PyPerf_Pool.lines);     // the tables may be elsewhere now
    return done;
}

/* Store an element of one of the pool's tables, which other files only read. */
static void
table_set(const void *const *table, uint32_t number, const void *address)
{
    ((const void **)table)[number] = address;
}

/* Fill the arena with trampolines and prepare its table.  The numbers of the slots
   follow the pool's last one. */
static void
arena_fill(struct _PyPerfArena *arena)
{
    char *address = arena->memory + HEAD_SIZE;
    const size_t number_offset = _PyPerfTrampoline_CodeSize - sizeof(code_number);
    for (size_t i = 0; i < arena->capacity; i++, address += arena->stride) {
        const code_number number = _PyPerf_Pool.last_number + 1 + i;
        memcpy(address, _PyPerfTrampoline_Code, _PyPerfTrampoline_CodeSize);
        memcpy(address + number_offset, &number, sizeof(number));
        arena->slots[i].address = address;
        arena->slots[i].number = (uint32_t)number;
        arena->slots[i].is_narrow = arena->stride < WIDE_STRIDE;
    }
}

/* Register an arena with the unwinder in this process, unless it is. */
static void
arena_register(struct _PyPerfArena *arena)
{
    if (arena->machine != 0 && !arena->is_registered) {
        arena->is_registered = _PyPerfUnwind_Register(arena->memory);
    }
}

/* Make an arena for about `count` slots that the pool does not know yet. */
static struct _PyPerfArena *
arena_new(size_t count, bool wide, struct _PyPerfError *error)
{
    const size_t stride = wide ? WIDE_STRIDE
                               : round_up(_PyPerfTrampoline_CodeSize, ALIGNMENT);
    const size_t size = round_up(count * stride, (size_t)getpagesize());
    const size_t capacity = (size - HEAD_SIZE) / stride;
    const size_t table_size = sizeof(struct _PyPerfArena)
                              + capacity * sizeof(struct _PyPerfSlot);
    struct _PyPerfArena *arena = PyMem_RawCalloc(1, table_size);
    if (arena == NULL || !pool_reserve(capacity)) {
        _PyPerfError_Set(error, "allocate memory for trampolines", "", NULL,
                         ENOMEM);
        PyMem_RawFree(arena);
        return NULL;
    }
    arena->size = size;
    arena->stride = stride;
    arena->capacity = capacity;
    arena->memory = range_open(size);
    if (arena->memory == NULL) {
        _PyPerfError_Set(error, "map memory for trampolines", "", NULL, errno);
        PyMem_RawFree(arena);
        return NULL;
    }
    _PyPerfOS_Populate(arena->memory, size);
    _PyPerfOS_Populate(arena, table_size);
    arena_fill(arena);
    arena->machine = _PyPerfUnwind_Describe(
        arena->memory, HEAD_SIZE, arena->memory + HEAD_SIZE, size - HEAD_SIZE);
    if (memory_make_executable(arena->memory, size) < 0) {
        _PyPerfError_Set(error, "make memory executable", "", NULL, errno);
        PyMem_RawFree(arena);           // the memory is still the next of the range
        return NULL;
    }
    range_advance(size);
    return arena;
}

/* Add an arena to the pool, after everything that can fail. */
static void
pool_add(struct _PyPerfArena *arena)
{
    for (size_t i = 0; i < arena->capacity; i++) {
        const struct _PyPerfSlot *slot = &arena->slots[i];
        table_set(_PyPerf_Pool.return_addresses, slot->number,
                  (const char *)slot->address + _PyPerfTrampoline_ReturnOffset);
    }
    _PyPerf_Pool.last_number += (uint32_t)arena->capacity;
    arena->older = _PyPerf_Pool.newest;
    _PyPerf_Pool.newest = arena;
    arena_register(arena);
    if (arena->machine != 0) {
        _PyPerfGdb_Register(arena->machine, arena->memory + HEAD_SIZE,
                            arena->size - HEAD_SIZE, arena->memory, HEAD_SIZE);
    }
}

/* Return about how many slots the next arena has.  Each doubles the one before, but the
   first one of a forked child is small: most children call few new functions. */
static size_t
pool_next_count(void)
{
    const struct _PyPerfArena *arena = _PyPerf_Pool.newest;
    return arena == NULL || _PyPerf_Pool.last_number == _PyPerf_Pool.last_inherited
           ? SMALLEST_ARENA
           : Py_MIN(arena->size / arena->stride * 2, LARGEST_ARENA);
}

/* Return whether the newest arena has a slot that this process may take. */
static bool
pool_has_slot(bool wide)
{
    const struct _PyPerfArena *arena = _PyPerf_Pool.newest;
    return arena != NULL && arena->used < arena->capacity
           && (!wide || arena->stride >= WIDE_STRIDE)
           && _PyPerf_Pool.last_number != _PyPerf_Pool.last_inherited;
}


// --- What others use -------------------------------------------------------

bool
_PyPerfArena_CodeIsPlausible(void)
{
    code_number number;
    if (_PyPerfTrampoline_CodeSize <= sizeof(number)
            || _PyPerfTrampoline_CodeSize > WIDE_STRIDE) {
        return false;
    }
    memcpy(&number, _PyPerfTrampoline_Code + _PyPerfTrampoline_CodeSize
                    - sizeof(number), sizeof(number));
    return number == 0;
}

int
_PyPerfArena_Reserve(bool wide, struct _PyPerfError *error)
{
    assert(_PyPerfArena_CodeIsPlausible());
    if (!pool_has_slot(wide)) {
        _PyPerfLock_StopThreads();      // the tables move
        struct _PyPerfArena *arena = arena_new(pool_next_count(), wide, error);
        if (arena != NULL) {
            pool_add(arena);
        }
        _PyPerfLock_StartThreads();
        return arena != NULL ? 0 : -1;
    }
    return 0;
}

struct _PyPerfSlot *
_PyPerfArena_NewSlot(bool wide, struct _PyPerfError *error)
{
    if (wide && _PyPerf_Pool.free != NULL) {
        struct _PyPerfSlot *slot = _PyPerf_Pool.free;
        _PyPerf_Pool.free = slot->next_free;
        return slot;
    }
    if (_PyPerfArena_Reserve(wide, error) < 0) {
        return NULL;
    }
    struct _PyPerfArena *arena = _PyPerf_Pool.newest;
    return &arena->slots[arena->used++];
}

int
_PyPerfArena_SetLines(bool on, struct _PyPerfError *error)
{
    if (on && _PyPerf_Pool.line_addresses == NULL) {
        if (void_window == NULL) {
            void_window = _PyPerfWindow_New(error);
            if (void_window == NULL) {
                return -1;
            }
        }
        if (!table_grow(&_PyPerf_Pool.line_addresses, 0, 1 + _PyPerf_Pool.last_number,
                        void_window)) {
            return _PyPerfError_Set(error, "allocate memory for lines", "", NULL,
                                    ENOMEM);
        }
    }
    pool_set_lines(on);
    return 0;
}

void
_PyPerfArena_SetLineAddress(struct _PyPerfSlot *slot, const void *address)
{
    if (slot->line_address != address) {
        slot->line_address = address;
        table_set(_PyPerf_Pool.line_addresses, slot->number,
                  address != NULL ? address : void_window);
    }
}

void
_PyPerfArena_FreeSlot(struct _PyPerfSlot *slot)
{
    memset(slot->announced_in, 0, sizeof(slot->announced_in));
    // Narrow slots without an entry are too rare for a list of their own.
    if (!slot->is_narrow && slot->number > _PyPerf_Pool.last_inherited) {
        slot->next_free = _PyPerf_Pool.free;
        _PyPerf_Pool.free = slot;
    }
}

struct _PyPerfSlot *
_PyPerfArena_FindSlot(uint32_t number)
{
    for (struct _PyPerfArena *arena = _PyPerf_Pool.newest; arena != NULL;
            arena = arena->older) {
        // If the number is smaller, the difference is larger than any capacity.
        const uint32_t index = number - arena->slots[0].number;
        if (index < arena->capacity) {
            return &arena->slots[index];
        }
    }
    return NULL;
}

int
_PyPerfArena_Visit(int (*visit)(struct _PyPerfSlot *, void *), void *data)
{
    for (struct _PyPerfArena *arena = _PyPerf_Pool.newest; arena != NULL;
            arena = arena->older) {
        for (size_t i = 0; i < arena->used; i++) {
            int result = visit(&arena->slots[i], data);
            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

void
_PyPerfArena_Seal(void)
{
    if (_PyPerf_Pool.last_inherited != _PyPerf_Pool.last_number) {
        range_advance(GAP_SIZE);
    }
    _PyPerf_Pool.last_inherited = _PyPerf_Pool.last_number;
    _PyPerf_Pool.free = NULL;
    _PyPerfWindow_Seal();
}

void
_PyPerfArena_Register(void)
{
    if (_PyPerfUnwind_AllowLoading()) {
        for (struct _PyPerfArena *arena = _PyPerf_Pool.newest; arena != NULL;
                arena = arena->older) {
            arena_register(arena);
        }
        _PyPerfWindow_Register();
    }
}
