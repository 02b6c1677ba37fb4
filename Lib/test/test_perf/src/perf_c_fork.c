/* Forks by C code, as extensions do it: without the hooks of os.fork().

   Not a module: ctypes loads it.  It is called with the GIL (PyDLL) or without it
   (CDLL).  The children stay in C code until the test lets them continue, so it can
   look at the file that they have before they run any Python code.  */

#define _GNU_SOURCE                 // struct sigaction
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS 60                  // for a child; then SIGALRM kills it

/* Write a byte to `ready` and wait until `release` is closed everywhere else. */
static void
child_stay(int ready, int release)
{
    char byte = 0;
    alarm(SECONDS);
    if (write(ready, &byte, 1) != 1) {
        _exit(2);
    }
    while (read(release, &byte, 1) < 0 && errno == EINTR) {
    }
}

/* Fork.  `pipe_end` is closed in the child.  Returns 0 in the child, when it has been
   released, and the child's id in the parent. */
extern int fork_and_stay(int ready, int release, int pipe_end);

int
fork_and_stay(int ready, int release, int pipe_end)
{
    pid_t pid = fork();
    if (pid == 0) {
        close(pipe_end);
        child_stay(ready, release);
    }
    return (int)pid;
}


// --- A thread that Python does not know ------------------------------------

struct ends {
    int ready, release, pipe_end;
};

static void *
thread_main(void *data)
{
    const struct ends *ends = data;
    long pid = fork_and_stay(ends->ready, ends->release, ends->pipe_end);
    if (pid == 0) {
        _exit(0);
    }
    return (void *)pid;
}

/* Fork in a new thread.  The child ends when it is released.  Returns its id. */
extern int fork_in_thread(int ready, int release, int pipe_end);

int
fork_in_thread(int ready, int release, int pipe_end)
{
    struct ends ends = {ready, release, pipe_end};
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, thread_main, &ends) != 0
            || pthread_join(thread, &result) != 0) {
        return -1;
    }
    return (int)(long)result;
}


// --- A signal handler, at any instruction ----------------------------------

static struct {
    int count, wanted;
    int failed;                     // the status of a child that did not end with 0
    int *pids;
} forks;

static void
fork_in_handler(int number)
{
    const int saved_errno = errno;
    int status;
    (void)number;
    if (forks.count < forks.wanted) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(SECONDS);
            signal(SIGALRM, SIG_DFL);
            _exit(0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
            forks.failed = 1;
        }
        forks.pids[forks.count++] = pid;
    }
    errno = saved_errno;
}

/* From now on fork again and again, in a signal handler, until there were `wanted`
   children.  Their ids are stored in `pids`.  Returns 0. */
extern int fork_often(int *pids, int wanted);

int
fork_often(int *pids, int wanted)
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    struct itimerval timer = {.it_interval = {.tv_usec = 1000},
                              .it_value = {.tv_usec = 1000}};
    forks.count = forks.failed = 0;
    forks.wanted = wanted;
    forks.pids = pids;
    if (sigaction(SIGALRM, &action, NULL) < 0) {
        return -1;
    }
    return setitimer(ITIMER_REAL, &timer, NULL);
}

/* Return how many children there were, or -1 if one failed. */
extern int forks_done(void);

int
forks_done(void)
{
    return forks.failed ? -1 : forks.count;
}
