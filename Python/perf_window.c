/* Windows: executable address space in which each bytecode instruction has an address.

   With lines, the return address in a function's frame record tells the instruction
   that the function executes.  Bytecode is data.  It lies in memory that is not
   executable, and profilers take no address there for that of a function.  So each 4
   GiB of address space that contain bytecode have a window of the same size, which is
   executable.  A window is empty: nothing is ever written to it or read from it, so it
   takes no memory. An instruction and its address in the window have the same low half:

       bytecode     0x00007f3a 9c201234        code object at 0x7f3a9c2011..
       in a window  0x00007e10 9c201234

   The high half is written once, when the function's record is linked.  From then on
   each instruction stores its own low half, with one store, and calculates nothing.

   Profilers look up a return address either as it is, or one byte before it, since the
   call is there.  So the entries in the files for profilers begin one byte before the
   instructions, which have two bytes.  The first entry begins two bytes earlier: before
   its first instruction a frame is at the place in front of it.

   After fork(), new code of the child is told apart from new code of the parent by
   different windows.  There is one more window, the void.  The records of functions
   without a name point to it.

   Unwinding: in all of a window the rules are those after the call in a trampoline.
   They are in a page in front of the window (perf_unwind.c).  The encoding of unwind
   information reaches 2 GiB, so that page has two sections, and the last 256 KiB of a
   window are not used.  */

#include "Python.h"
#include "pycore_perf_gdb.h"
#include "pycore_perf_os.h"
#include "pycore_perf_unwind.h"
#include "pycore_perf_window.h"

#define WINDOW_SIZE ((size_t)1 << 32)
#define UNUSED_AT_END ((size_t)256 * 1024)

/* The part in front of a window: as large as a page of memory may be. */
#define HEADER_SIZE ((size_t)64 * 1024)

/* The unwind information of one half of a window, in the header. */
#define UNWIND_ROOM ((size_t)256)

#ifndef MAP_NORESERVE
#  define MAP_NORESERVE 0
#endif

struct window {
    char *start;
    uint32_t high;                  // half of the addresses of its bytecode
    bool is_sealed;                 // an ancestor process made it
    uint16_t machine;               // ELF's e_machine; 0: no unwind information
    int registered;                 // halves whose unwind information unwinders know
    struct window *older;
};

static struct window *newest;


// --- Memory ----------------------------------------------------------------

/* Reserve a header and a window after it.  Returns the start of the window, or NULL
   with errno set. */
static char *
space_reserve(void)
{
    // Any 8 GiB contain 4 GiB that begin at a multiple of 4 GiB.
    const size_t size = HEADER_SIZE + 2 * WINDOW_SIZE;
    char *space = mmap(NULL, size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) {
        return NULL;
    }
    char *start = (char *)(((uintptr_t)space + HEADER_SIZE + WINDOW_SIZE - 1)
                           & ~(uintptr_t)(WINDOW_SIZE - 1));
    char *header = start - HEADER_SIZE;
    char *end = start + WINDOW_SIZE;
    if (header > space) {
        munmap(space, (size_t)(header - space));
    }
    if (end < space + size) {
        munmap(end, (size_t)(space + size - end));
    }
    return start;
}

static void
space_release(char *start)
{
    munmap(start - HEADER_SIZE, HEADER_SIZE + WINDOW_SIZE);
}

/* Where the unwind information for each half of a window is, and what it describes. */
struct half {
    char *unwind;
    char *start;
    size_t size;
};

static struct half
window_half(const struct window *window, int number)
{
    const size_t size = ((size_t)1 << 31) - UNUSED_AT_END / 2;
    // libgcc takes 32 bits that are zero for a function that the linker has removed.
    // No function has the first addresses of a window.
    const size_t skipped = number == 0 ? 2 : 0;
    return (struct half){
        .unwind = window->start - HEADER_SIZE + (size_t)number * UNWIND_ROOM,
        .start = window->start + (size_t)number * size + skipped,
        .size = size - skipped,
    };
}

/* Make the space at window->start what it is to be.  Returns -1 with *error filled in
   on failure. */
static int
window_prepare(struct window *window, struct _PyPerfError *error)
{
    char *header = window->start - HEADER_SIZE;
    if (mprotect(header, HEADER_SIZE, PROT_READ | PROT_WRITE) < 0) {
        return _PyPerfError_Set(error, "map memory for lines", "", NULL, errno);
    }
    for (int number = 0; number < 2; number++) {
        const struct half half = window_half(window, number);
        window->machine = _PyPerfUnwind_Describe(half.unwind, UNWIND_ROOM, half.start,
                                                 half.size);
    }
    // A new mapping, because profilers are told of new mappings only.
    if (mprotect(header, HEADER_SIZE, PROT_READ) < 0
            || mmap(window->start, WINDOW_SIZE, PROT_READ | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                    -1, 0) == MAP_FAILED) {
        return _PyPerfError_Set(error, "make memory for lines executable", "", NULL,
                                errno);
    }
    return 0;
}


// --- Unwinders -------------------------------------------------------------

/* Register a window with the unwinder in this process, unless it is. */
static void
window_register(struct window *window)
{
    while (window->machine != 0 && window->registered < 2) {
        const struct half half = window_half(window, window->registered);
        if (!_PyPerfUnwind_Register(half.unwind)) {
            return;
        }
        window->registered++;       // a second time would be once too often
    }
}

void
_PyPerfWindow_Register(void)
{
    for (struct window *window = newest; window != NULL; window = window->older) {
        window_register(window);
    }
}


// --- Windows ---------------------------------------------------------------

/* Make a window for bytecode whose addresses have this high half. */
static struct window *
window_new(uint32_t high, struct _PyPerfError *error)
{
    struct window *window = PyMem_RawCalloc(1, sizeof(*window));
    if (window == NULL) {
        _PyPerfError_Set(error, "allocate memory for lines", "", NULL, ENOMEM);
        return NULL;
    }
    window->high = high;
    window->start = space_reserve();
    if (window->start == NULL) {
        _PyPerfError_Set(error, "reserve address space for lines", "", NULL, errno);
        PyMem_RawFree(window);
        return NULL;
    }
    if (window_prepare(window, error) < 0) {
        space_release(window->start);
        PyMem_RawFree(window);
        return NULL;
    }
    window->older = newest;
    newest = window;
    window_register(window);
    for (int number = 0; number < 2 && window->machine != 0; number++) {
        const struct half half = window_half(window, number);
        _PyPerfGdb_Register(window->machine, half.start, half.size, half.unwind,
                            UNWIND_ROOM);
    }
    return window;
}

const void *
_PyPerfWindow_New(struct _PyPerfError *error)
{
    // No bytecode has addresses that begin with this half.
    struct window *window = window_new(UINT32_MAX, error);
    return window != NULL ? window->start : NULL;
}

int
_PyPerfWindow_Find(const void *bytecode, size_t size, const void **address,
                   struct _PyPerfError *error)
{
    const uint32_t high = (uint32_t)((uint64_t)(uintptr_t)bytecode >> 32);
    const uint32_t low = (uint32_t)(uintptr_t)bytecode;
    *address = NULL;
    if (low < _PyPerfWindow_BEFORE_FIRST
            || low + (uint64_t)size > WINDOW_SIZE - UNUSED_AT_END) {
        return 0;
    }
    struct window *window = newest;
    while (window != NULL && (window->high != high || window->is_sealed)) {
        window = window->older;
    }
    if (window == NULL) {
        window = window_new(high, error);
        if (window == NULL) {
            return -1;
        }
    }
    *address = window->start + low;
    return 0;
}

void
_PyPerfWindow_Seal(void)
{
    for (struct window *window = newest; window != NULL; window = window->older) {
        window->is_sealed = true;
    }
}
