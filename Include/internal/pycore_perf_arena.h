/* Executable memory: copies of the trampoline, each at a different address.
   Everything here needs the GIL. */

#ifndef Py_INTERNAL_PERF_ARENA_H
#define Py_INTERNAL_PERF_ARENA_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_output.h"     // _PyPerfGeneration

struct _PyPerfArena;

/* One trampoline, and what perf_slots.c stores with it.  Slots live as long as the
   process, because frames on some stack may return into them. */
struct _PyPerfSlot {
    const void *address;            /* of the trampoline */
    const void *line_address;       /* of the first instruction, in a window
                                       (perf_window.c); NULL: none */
    uint32_t number;                /* unique, from 1 */
    bool is_narrow;                 /* has no room for unwind information */
    bool is_final;                  /* an output without timestamps names it: the
                                       address must never get another name */
    _PyPerfGeneration announced_in[_PyPerf_OUTPUTS];   /* by mode; 0: never */
    _PyPerfGeneration lines_in[_PyPerf_OUTPUTS];       /* the same for lines */
    PyCodeObject *code;             /* borrowed; NULL after it has died */
    struct _PyPerfSlot *next_free;  /* in the pool's list of free slots */
};

/* All arenas of the process. */
struct _PyPerfArenaPool {
    const void *const *return_addresses;    /* by slot number: where a call through
                                               the trampoline returns */
    const void *const *line_addresses;      /* by slot number: of the function's first
                                               instruction, in a window.  The void
                                               window: none.  NULL until lines are
                                               switched on for the first time */
    const void *const *entry_addresses;     /* the table of the eval loops that begin
                                               now */
    PyObject *(*enter)(PyThreadState *, struct _PyInterpreterFrame *, int, size_t,
                       const void *const *);    /* what enters them (pycore_perf_asm.h):
                                                   with lines, or without */
    bool lines;                     /* they store lines */
    uint32_t last_number;           /* of all slots, taken or not */
    uint32_t last_inherited;        /* slots up to this number lie in memory that a
                                       parent process mapped */
    struct _PyPerfArena *newest;    /* the head of the list of arenas */
    struct _PyPerfSlot *free;       /* the head of the list of free slots, all wide */
};

/* Other files only read the first five fields. */
extern struct _PyPerfArenaPool _PyPerf_Pool;

/* Return whether the assembled trampoline is what this interpreter was built
   with.  Some linkers and post-link optimizers rewrite what they find in a text
   section. */
extern bool _PyPerfArena_CodeIsPlausible(void);

/* Make an arena, if no slot is left to take.  For `wide` see _PyPerfArena_NewSlot().
   Returns 0, or -1 with *error filled in if memory is refused. */
extern int _PyPerfArena_Reserve(bool wide, struct _PyPerfError *error);

/* Take a slot.  If `wide`, it has room for unwind information, and is one that was
   freed if there is any.
   Returns NULL with *error filled in if memory is refused. */
extern struct _PyPerfSlot *_PyPerfArena_NewSlot(bool wide, struct _PyPerfError *error);

/* Let eval loops that begin from now on store lines, or no longer.  A function without
   a line address has an address in the void window.
   Returns 0, or -1 with *error filled in if memory is refused. */
extern int _PyPerfArena_SetLines(bool on, struct _PyPerfError *error);

/* Set the address of the first instruction of the function that owns a slot.  NULL:
   none. */
extern void _PyPerfArena_SetLineAddress(struct _PyPerfSlot *slot, const void *address);

/* Free a slot.  No frame may be in its trampoline any longer.  A slot in inherited
   memory is not used again. */
extern void _PyPerfArena_FreeSlot(struct _PyPerfSlot *slot);

/* Return the slot with this number, or NULL.  No GIL needed in a process with one
   thread. */
extern struct _PyPerfSlot *_PyPerfArena_FindSlot(uint32_t number);

/* Call `visit` for each slot that was taken, with `data`.  Stops when `visit`
   returns a number other than 0.  Returns the last result. */
extern int _PyPerfArena_Visit(int (*visit)(struct _PyPerfSlot *, void *),
                              void *data);

/* In a forked child: take no more slots from memory that the parent mapped.
   Profilers look up the names of inherited memory in the parent's file, which does
   not name the child's functions. */
extern void _PyPerfArena_Seal(void);

/* Register all arenas and windows, now and in future, with the unwinder in this
   process.  Before the first call, they are registered only if the unwinder has been
   loaded. */
extern void _PyPerfArena_Register(void);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_ARENA_H */
