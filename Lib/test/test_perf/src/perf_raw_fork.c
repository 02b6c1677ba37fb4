/* What writes the perf map, forked after each of its instructions that may matter.

   C code may fork without the hooks of os.fork(), on any thread, at any time.  The
   child then has the state that another thread had at that instruction, but not that
   thread.  The child must be able to write its own map all the same, and must not
   write to its parent's.

   This program writes entries with the trap flag of the processor set, so that each
   instruction raises SIGTRAP.  The handler forks if the instruction has changed the
   program's memory, or if a function of the C library has returned.  The child writes
   one entry, closes its map, checks that the map has this entry and nothing else, and
   removes it.  This is done twice: when the process uses the map for the first time,
   and in a child that still has its parent's map.

   Linked from the objects of the interpreter.  Prints how many children there were
   and exits with 0, or says what went wrong and exits with 1.  */

#include "Python.h"
#include "pycore_perf_map.h"
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_FLAG 0x100             // in eflags
#define SECONDS 20                  // for a child; then SIGALRM kills it

extern const char __executable_start[], etext[], __data_start[], _end[];

/* What this program itself changes, outside of the memory that it compares. */
static struct {
    unsigned long children;
    bool was_outside;               // in the C library
    char data[];                    // the program's memory at the last fork
} *own;


// --- In place of the interpreter -------------------------------------------

/* Blocks of our own: a child that is forked within malloc() cannot use it. */
static struct {
    bool used;
    _Alignas(16) char bytes[20 * 1024];
} blocks[2];

static _Noreturn void
fail(const char *reason)
{
    fprintf(stderr, "process %ld: %s\n", (long)getpid(), reason);
    _exit(1);
}

void *
PyMem_RawMalloc(size_t size)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(blocks); i++) {
        if (!blocks[i].used && size <= sizeof(blocks[i].bytes)) {
            blocks[i].used = true;
            return blocks[i].bytes;
        }
    }
    fail("no memory");
}

void
PyMem_RawFree(void *block)
{
    if (block == NULL) {
        return;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(blocks); i++) {
        if (block == blocks[i].bytes) {
            if (!blocks[i].used) {
                fail("memory was freed twice");
            }
            blocks[i].used = false;
            return;
        }
    }
    fail("freed what is no memory");
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

int
_PyPerfError_Set(struct _PyPerfError *error, const char *action,
                 const char *Py_UNUSED(path), const char *Py_UNUSED(reason),
                 int number)
{
    error->action = action;
    error->number = number;
    return -1;
}


// --- Maps ------------------------------------------------------------------

/* Write the entry of a process of ours. */
static void
entry_write(const char *name)
{
    const struct _PyPerfText text = {.bytes = name, .length = strlen(name)};
    if (_PyPerfMap_WriteEntry((const void *)0x1000, 16, text) != _PyPerfMap_DONE) {
        fail("an entry could not be written");
    }
}

/* Check that this process's map is `expected`, and remove it. */
static void
map_check(const char *expected)
{
    char path[64], content[4096];
    snprintf(path, sizeof(path), "/tmp/perf-%ld.map", (long)getpid());
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, content, sizeof(content));
    close(fd);
    unlink(path);
    if (length < 0) {
        fail("there is no map");
    }
    if ((size_t)length != strlen(expected)
            || memcmp(content, expected, (size_t)length) != 0) {
        content[Py_MIN(length, (ssize_t)sizeof(content) - 1)] = '\0';
        fprintf(stderr, "content: %s", content);
        fail("the map has other entries");
    }
}


// --- Children --------------------------------------------------------------

/* Fork as C code does that does not use the C library's fork(). */
static pid_t
raw_fork(void)
{
    return (pid_t)syscall(SYS_fork);
}

static void
child_wait(pid_t pid, const void *address)
{
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        fail("cannot fork");
    }
    if (status != 0) {
        fprintf(stderr, "child %lu, forked at +%#zx, ended with status %#x\n",
                own->children, (size_t)((const char *)address - __executable_start),
                (unsigned int)status);
        fail("a child failed");
    }
    own->children++;
}

static void
child_main(void)
{
    alarm(SECONDS);
    entry_write("child");
    _PyPerfMap_Close();
    map_check("1000 10 child\n");
    _exit(0);
}

/* Return whether a child forked now differs from the last one. */
static bool
state_has_changed(void)
{
    const size_t size = (size_t)(_end - __data_start);
    if (!own->was_outside && memcmp(own->data, __data_start, size) == 0) {
        return false;
    }
    own->was_outside = false;
    memcpy(own->data, __data_start, size);
    return true;
}

/* The processor has carried out one instruction. */
static void
trap(int Py_UNUSED(signal), siginfo_t *Py_UNUSED(info), void *data)
{
    const ucontext_t *context = data;
    const char *address = (const char *)context->uc_mcontext.gregs[REG_RIP];
    if (address < __executable_start || address >= etext) {
        own->was_outside = true;
        return;
    }
    if (!state_has_changed()) {
        return;
    }
    pid_t pid = raw_fork();
    if (pid == 0) {
        child_main();
    }
    child_wait(pid, address);
}

static inline void
set_trap_flag(bool on)
{
    if (on) {
        __asm__ volatile ("pushfq; orq %0, (%%rsp); popfq"
                          :: "i"(TRAP_FLAG) : "memory", "cc");
    }
    else {
        __asm__ volatile ("pushfq; andq %0, (%%rsp); popfq"
                          :: "i"(~TRAP_FLAG) : "memory", "cc");
    }
}


// --- The program -----------------------------------------------------------

static void
set_buffering(bool on)
{
    struct _PyPerfError error;
    _PyPerfGeneration generation;
    if (_PyPerfMap_Output.set_buffering(on, &generation, &error) < 0) {
        fail("buffering could not be switched");
    }
}

/* Write three entries, one of them buffered, with a fork at each instruction. */
static void
entries_write_and_fork(void)
{
    set_trap_flag(true);
    entry_write("first");
    set_buffering(true);
    entry_write("second");
    set_buffering(false);
    entry_write("third");
    _PyPerfMap_Close();
    set_trap_flag(false);
}

int
main(void)
{
    static const char entries[] = "1000 10 first\n1000 10 second\n1000 10 third\n";
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
    own = mmap(NULL, sizeof(*own) + (size_t)(_end - __data_start),
               PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED || sigaction(SIGTRAP, &action, NULL) < 0) {
        fail("cannot begin");
    }
    entries_write_and_fork();
    map_check(entries);

    entry_write("parent");
    pid_t pid = raw_fork();
    if (pid == 0) {
        entries_write_and_fork();
        map_check(entries);
        printf("%lu children\n", own->children);
        fflush(stdout);
        _exit(0);
    }
    child_wait(pid, main);
    _PyPerfMap_Close();
    map_check("1000 10 parent\n");
    return 0;
}
