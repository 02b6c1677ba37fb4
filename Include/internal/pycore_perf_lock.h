/* The lock of the profiler, for builds without the GIL (--disable-gil).
   Python/perf_lock.c explains it.  In builds with the GIL these functions do nothing:
   there the GIL is the lock.  Where other headers say that something needs the GIL, it
   needs this lock in a build without the GIL. */

#ifndef Py_INTERNAL_PERF_LOCK_H
#define Py_INTERNAL_PERF_LOCK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#ifdef Py_GIL_DISABLED

/* For a variable that is set and read by one thread.  With the GIL no other thread runs
   in between, so all threads can share it. */
#define _PyPerfLock_PER_THREAD _Thread_local

/* Take the lock.  The caller must have a thread state.  A thread that has the lock may
   take it again, and releases it as often.  A thread that waits is detached: it does
   not delay those that stop all threads. */
extern void _PyPerfLock_Take(void);
extern void _PyPerfLock_Release(void);

/* Stop all other threads where the interpreter may stop them, and let them go on.  The
   caller has the lock.  May be nested. */
extern void _PyPerfLock_StopThreads(void);
extern void _PyPerfLock_StartThreads(void);

/* Called in a child that has just been forked, perhaps without a thread state: the
   thread that had the lock may not be in this process. */
extern void _PyPerfLock_IsForked(void);

#else   /* !Py_GIL_DISABLED */

#define _PyPerfLock_PER_THREAD

static inline void _PyPerfLock_Take(void) {}
static inline void _PyPerfLock_Release(void) {}
static inline void _PyPerfLock_StopThreads(void) {}
static inline void _PyPerfLock_StartThreads(void) {}
static inline void _PyPerfLock_IsForked(void) {}

#endif

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_LOCK_H */
