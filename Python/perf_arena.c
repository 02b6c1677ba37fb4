/* Executable memory for the trampolines.

   A profiler tells functions apart by their addresses, so each Python function
   needs a few bytes of machine code of its own.  They all are copies of one
   position-independent piece, made an arena at a time:

       arena      +-----------------+-----------------+-----------------+--
       (mmap)     | unwind info     | code   | 7 |    | code   | 8 |    | ...
                  +-----------------+-----------------+-----------------+--
                  <--- slot_size --->

   An arena is mapped for writing, filled to its end with copies, then made
   executable and never written again: at no time could anybody both write and
   execute it.  The number behind each copy makes all of them different; perf
   6.17 and 6.18 take code with equal bytes for one function.

   The first arena has 64 KiB, each one is twice as large as the one before, up
   to 1 MiB.  Arenas are never unmapped: a frame on some thread's stack may
   return into them.  A slot may be used again when its owner gives it back.

   Beside each arena stands a table with what the owner keeps for each slot.  */

#include "Python.h"
#include "pycore_perf_arena.h"
#include "pycore_perf_gdb.h"
#include "pycore_perf_os.h"
#include "pycore_perf_unwind.h"

#define SMALLEST_ARENA ((size_t)64 * 1024)
#define LARGEST_ARENA ((size_t)1024 * 1024)

struct _PyPerfArena {
    struct _PyPerfArena *older;
    char *memory;
    size_t size;                    // bytes
    size_t used;                    // slots that have been taken
    size_t capacity;                // slots that there are
    uint16_t machine;               // ELF's, 0: there is no unwind information
    bool is_registered;             //   and it is known to unwinders
    struct _PyPerfSlot slots[];
};


// --- The operating system --------------------------------------------------

static char *
memory_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int
memory_make_executable(char *memory, size_t size)
{
    _PyPerfOS_FlushCode(memory, size);
    return mprotect(memory, size, PROT_READ | PROT_EXEC);
}


// --- Arenas ----------------------------------------------------------------

/* Make room for the return addresses of `more` slots.  Returns whether there is. */
static bool
pool_reserve(struct _PyPerfArenaPool *pool, size_t more)
{
    const size_t count = 1 + pool->last_number + more;
    if (count > UINT32_MAX) {
        return false;
    }
    const void **table = PyMem_RawRealloc(pool->return_addresses,
                                          count * sizeof(*table));
    if (table == NULL) {
        return false;
    }
    pool->return_addresses = table;
    return true;
}

static void
arena_fill(struct _PyPerfArena *arena, struct _PyPerfArenaPool *pool)
{
    char *address = arena->memory + pool->slot_size;
    for (size_t i = 0; i < arena->capacity; i++, address += pool->slot_size) {
        const uint64_t number = ++pool->last_number;
        memcpy(address, pool->code, pool->code_size);
        memcpy(address + pool->code_size - sizeof(number), &number,
               sizeof(number));
        arena->slots[i].address = address;
        arena->slots[i].number = (uint32_t)number;
        pool->return_addresses[number] = address + pool->return_offset;
    }
}

/* Tell unwinders of an arena, if there are any or `load`. */
static void
arena_register(struct _PyPerfArena *arena, bool load)
{
    if (arena->machine != 0 && !arena->is_registered) {
        arena->is_registered = _PyPerfUnwind_Register(arena->memory, load);
    }
}

static struct _PyPerfArena *
arena_new(struct _PyPerfArenaPool *pool, size_t size, struct _PyPerfError *error)
{
    size_t capacity = size / pool->slot_size - 1;
    assert(capacity > 0);
    struct _PyPerfArena *arena = PyMem_RawCalloc(
        1, sizeof(*arena) + capacity * sizeof(arena->slots[0]));
    if (arena == NULL || !pool_reserve(pool, capacity)) {
        _PyPerfError_Set(error, "allocate memory for trampolines", "", NULL,
                         ENOMEM);
        PyMem_RawFree(arena);
        return NULL;
    }
    arena->size = size;
    arena->capacity = capacity;
    arena->memory = memory_map(size);
    if (arena->memory == NULL) {
        _PyPerfError_Set(error, "map memory for trampolines", "", NULL, errno);
        PyMem_RawFree(arena);
        return NULL;
    }
    arena_fill(arena, pool);
    arena->machine = _PyPerfUnwind_Describe(
        arena->memory, pool->slot_size, arena->memory + pool->slot_size,
        size - pool->slot_size);
    if (memory_make_executable(arena->memory, size) < 0) {
        _PyPerfError_Set(error, "make memory executable", "", NULL, errno);
        munmap(arena->memory, size);    // nobody has been in it yet
        PyMem_RawFree(arena);
        return NULL;
    }
    arena_register(arena, pool->is_registered);
    if (arena->machine != 0) {
        _PyPerfGdb_Register(arena->machine, arena->memory + pool->slot_size,
                            size - pool->slot_size, arena->memory,
                            pool->slot_size);
    }
    return arena;
}

static size_t
pool_next_size(const struct _PyPerfArenaPool *pool)
{
    if (pool->newest == NULL) {
        return SMALLEST_ARENA;
    }
    size_t doubled = pool->newest->size * 2;
    return doubled < LARGEST_ARENA ? doubled : LARGEST_ARENA;
}


// --- What others use -------------------------------------------------------

int
_PyPerfArena_Reserve(struct _PyPerfArenaPool *pool, struct _PyPerfError *error)
{
    assert(pool->code_size >= sizeof(uint64_t));
    assert(pool->slot_size >= pool->code_size && pool->slot_size % 16 == 0);
    struct _PyPerfArena *arena = pool->newest;
    if (arena == NULL || pool->sealed || arena->used == arena->capacity) {
        arena = arena_new(pool, pool_next_size(pool), error);
        if (arena == NULL) {
            return -1;
        }
        arena->older = pool->newest;
        pool->newest = arena;
        pool->sealed = false;
    }
    return 0;
}

struct _PyPerfSlot *
_PyPerfArena_NewSlot(struct _PyPerfArenaPool *pool, bool used,
                     struct _PyPerfError *error)
{
    if (used && pool->free != NULL) {
        struct _PyPerfSlot *slot = pool->free;
        pool->free = slot->next_free;
        return slot;
    }
    if (_PyPerfArena_Reserve(pool, error) < 0) {
        return NULL;
    }
    struct _PyPerfArena *arena = pool->newest;
    return &arena->slots[arena->used++];
}

void
_PyPerfArena_FreeSlot(struct _PyPerfArenaPool *pool, struct _PyPerfSlot *slot)
{
    slot->next_free = pool->free;
    pool->free = slot;
}

void
_PyPerfArena_Seal(struct _PyPerfArenaPool *pool)
{
    pool->sealed = true;
    pool->free = NULL;
}

void
_PyPerfArena_Register(struct _PyPerfArenaPool *pool)
{
    if (!pool->is_registered) {
        pool->is_registered = true;
        for (struct _PyPerfArena *arena = pool->newest; arena != NULL;
                arena = arena->older) {
            arena_register(arena, true);
        }
    }
}

int
_PyPerfArena_Visit(const struct _PyPerfArenaPool *pool,
                   int (*visit)(struct _PyPerfSlot *, void *), void *data)
{
    for (struct _PyPerfArena *arena = pool->newest; arena != NULL;
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
