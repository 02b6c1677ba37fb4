/* Executable memory: copies of the trampoline, each at an address of its own. */

#ifndef Py_INTERNAL_PERF_ARENA_H
#define Py_INTERNAL_PERF_ARENA_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_output.h"     // struct _PyPerfError

struct _PyPerfArena;

/* A place for one trampoline, and what its owner keeps with it.  Slots live as
   long as the process: frames on some stack may return into them. */
struct _PyPerfSlot {
    const void *address;            /* of the trampoline */
    uint32_t number;                /* unique in the pool, from 1 */
    bool is_final;                  /* announced where there is no time: the
                                       address must never get another name */
    _PyPerfGeneration announced_in[_PyPerf_OUTPUTS];   /* 0: never announced */
    PyCodeObject *code;             /* borrowed; NULL once it has died */
    struct _PyPerfSlot *next_free;  /* in the pool's list of free slots */
};

/* A supply of slots of one size.  With the first four fields set and the rest
   zero it is ready for use.  Guarded by the GIL. */
struct _PyPerfArenaPool {
    const char *code;           /* position-independent; its last 8 bytes are
                                   replaced by the slot's number */
    size_t code_size;           /* bytes */
    size_t return_offset;       /* in the code: behind its call */
    size_t slot_size;           /* bytes from slot to slot, >= code_size, a
                                   multiple of 16 */
    struct _PyPerfArena *newest;    /* the head of the list of all arenas */
    struct _PyPerfSlot *free;   /* slots that may be used again */
    bool sealed;                /* take no more slots from the newest one */
    bool is_registered;         /* with unwinders, and new ones will be */
    const void **return_addresses;  /* by the numbers of slots: where a call
                                       through the trampoline returns */
    uint32_t last_number;
};

extern struct _PyPerfArenaPool _PyPerf_Pool;

/* See to it that there is a slot to take.  Returns 0, or -1 with *error filled
   in when memory is refused. */
extern int _PyPerfArena_Reserve(struct _PyPerfArenaPool *pool,
                                struct _PyPerfError *error);

/* Take a slot; with `used` one that has been given back if there is one.
   Returns NULL with *error filled in when memory is refused. */
extern struct _PyPerfSlot *_PyPerfArena_NewSlot(struct _PyPerfArenaPool *pool,
                                                bool used,
                                                struct _PyPerfError *error);

/* Give a slot back.  No frame may be in its trampoline any longer. */
extern void _PyPerfArena_FreeSlot(struct _PyPerfArenaPool *pool,
                                  struct _PyPerfSlot *slot);

/* Tell the unwinders in this process of the arenas, now and in future.  Before, they
   are told only if one has been loaded. */
extern void _PyPerfArena_Register(struct _PyPerfArenaPool *pool);

/* Call `visit` for each slot that has been taken, until it returns another
   number than 0, which is returned. */
extern int _PyPerfArena_Visit(const struct _PyPerfArenaPool *pool,
                              int (*visit)(struct _PyPerfSlot *, void *),
                              void *data);

/* In a forked child: further slots come from memory that the child has mapped
   itself.  Profilers look up the names of inherited memory in the parent's
   file, where the child's functions do not stand. */
extern void _PyPerfArena_Seal(struct _PyPerfArenaPool *pool);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_ARENA_H */
