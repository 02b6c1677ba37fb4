/* Calls of the C library that fail on demand, for perf_faults.c and
   perf_fuzz.c.

   objcopy redirects the calls in our objects to these functions,
   perf_fault_*(). A file that includes this header first defines the kinds of
   faults; fails(KIND), which returns whether this call must fail and sets
   errno; and GOT_DESCRIPTOR(FD) and GOT_MAPPING(PLACE), which take the results
   of successful calls.  Each file has its own fstat() and write().  */

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

extern int perf_fault_fchmod(int, mode_t);
extern int perf_fault_fcntl(int, int, ...);
extern int perf_fault_fstat(int, struct stat *);
extern int perf_fault_ftruncate(int, off_t);
extern void *perf_fault_mmap(void *, size_t, int, int, int, off_t);
extern int perf_fault_open(const char *, int, ...);
extern ssize_t perf_fault_read(int, void *, size_t);
extern ssize_t perf_fault_write(int, const void *, size_t);

int
perf_fault_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    int fd = fails(open_KIND) ? -1 : open(path, flags, mode);
    GOT_DESCRIPTOR(fd);
    return fd;
}

int
perf_fault_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    int argument = va_arg(arguments, int);
    va_end(arguments);
    int result = fails(fcntl_KIND) ? -1 : fcntl(fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        GOT_DESCRIPTOR(result);
    }
    return result;
}

int
perf_fault_ftruncate(int fd, off_t size)
{
    return fails(ftruncate_KIND) ? -1 : ftruncate(fd, size);
}

int
perf_fault_fchmod(int fd, mode_t mode)
{
    return fails(fchmod_KIND) ? -1 : fchmod(fd, mode);
}

ssize_t
perf_fault_read(int fd, void *bytes, size_t size)
{
    return fails(read_KIND) ? -1 : read(fd, bytes, size);
}

void *
perf_fault_mmap(void *place, size_t size, int protection, int flags, int fd,
                off_t offset)
{
    void *memory = fails(mmap_KIND)
                   ? MAP_FAILED
                   : mmap(place, size, protection, flags, fd, offset);
    GOT_MAPPING(memory);
    return memory;
}
