/* The differences between operating systems.  perf_unwind.c and perf_gdb.c (ELF)
   and perf_unwind_stub.c (others) have the rest of them.  Any thread may call these
   functions, with or without the GIL. */

#ifndef Py_INTERNAL_PERF_OS_H
#define Py_INTERNAL_PERF_OS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef __APPLE__

#include <libkern/OSCacheControl.h>

/* No: profilers notice a jitdump by its name when it is opened. */
#define _PyPerfOS_MAPS_MARKER false

/* Return the time in nanoseconds on the clock that profilers use. */
static inline int64_t
_PyPerfOS_Now(void)
{
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
}

/* Return the id of the calling thread that profilers use. */
static inline uint32_t
_PyPerfOS_GetThreadId(void)
{
    uint64_t id = 0;
    pthread_threadid_np(NULL, &id);
    return (uint32_t)id;
}

/* Find the C stack of the calling thread: its lowest address and its size in bytes.
   Returns false if that fails. */
static inline bool
_PyPerfOS_GetStack(uintptr_t *low, size_t *size)
{
    *size = pthread_get_stacksize_np(pthread_self());
    *low = (uintptr_t)pthread_get_stackaddr_np(pthread_self()) - *size;
    return true;
}

/* Return true if the process certainly has only one thread. */
static inline bool
_PyPerfOS_IsSingleThreaded(void)
{
    return false;
}

/* Make machine code that was written at `code`, `size` bytes, visible to the
   processor. */
static inline void
_PyPerfOS_FlushCode(char *code, size_t size)
{
    sys_icache_invalidate(code, size);
}

#else   // Linux; platforms without trampolines use the clock only

#ifdef __linux__
#  include <sys/syscall.h>
#endif

#if __has_include(<sys/single_threaded.h>)
#  include <sys/single_threaded.h>      // glibc 2.32
#endif

/* Yes: profilers find a jitdump by an executable mapping of it. */
#define _PyPerfOS_MAPS_MARKER true

static inline int64_t
_PyPerfOS_Now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#ifdef __linux__
static inline uint32_t
_PyPerfOS_GetThreadId(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

static inline bool
_PyPerfOS_GetStack(uintptr_t *low, size_t *size)
{
    pthread_attr_t attributes;
    void *start;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return false;
    }
    int result = pthread_attr_getstack(&attributes, &start, size);
    pthread_attr_destroy(&attributes);
    *low = (uintptr_t)start;
    return result == 0;
}
#endif

static inline bool
_PyPerfOS_IsSingleThreaded(void)
{
#if __has_include(<sys/single_threaded.h>)
    return __libc_single_threaded;
#else
    return false;
#endif
}

static inline void
_PyPerfOS_FlushCode(char *code, size_t size)
{
    __builtin___clear_cache(code, code + size);
}

#endif

/* Return a word that is 0 in each forked child, whatever the parent has stored there,
   however the child was forked.  It is 0 at first.  Returns NULL if the system has no
   such memory. */
static inline volatile int *
_PyPerfOS_NewForkMark(void)
{
#ifdef MADV_WIPEONFORK
    const size_t size = sizeof(int);        // the kernel makes it a page
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    if (page != MAP_FAILED) {
        // Emulators may ignore all advice, also what no kernel knows.
        if (madvise(page, size, MADV_WIPEONFORK) == 0 && madvise(page, size, -1) < 0) {
            return page;
        }
        munmap(page, size);
    }
#endif
    return NULL;
}

/* Map the pages of memory that is about to be written.  At once that is cheaper than
   one by one. */
static inline void
_PyPerfOS_Populate(void *memory, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    const uintptr_t page = (uintptr_t)getpagesize();
    const uintptr_t start = ((uintptr_t)memory + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)memory + size) / page * page;
    if (start < end) {
        // Older kernels refuse it, and then nothing changes.
        madvise((void *)start, end - start, MADV_POPULATE_WRITE);
    }
#else
    (void)memory;
    (void)size;
#endif
}

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_OS_H */
