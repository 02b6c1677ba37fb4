/* Code objects, their slots, and the entries that name them in the output.
   Everything here needs the GIL. */

#ifndef Py_INTERNAL_PERF_SLOTS_H
#define Py_INTERNAL_PERF_SLOTS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_perf_base.h"       // _PyPerfBase_SlotNumber()
#include "pycore_perf_output.h"     // struct _PyPerfOutput


// --- The output ------------------------------------------------------------

/* Return the mode of the output that is open, or _PyPerf_OFF if none is. */
extern int _PyPerfSlots_OpenMode(void);

/* Open `output`.  Close the one that is open before.  Write the entries of the
   functions that are on stacks.  `output` must stay valid.
   Returns 0, or -1 with *error filled in; the output may be open then. */
extern int _PyPerfSlots_OpenOutput(const struct _PyPerfOutput *output,
                                   struct _PyPerfError *error);

/* In a forked child: leave the parent's file and open the child's, if an output
   is open.  Write the entries of the functions on the stack of `tstate`.  With
   `keep`, write the entries of all functions that the parent's file names.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfSlots_ReopenOutput(PyThreadState *tstate, bool keep,
                                     struct _PyPerfError *error);

/* Do a part of that in a child that C code has just forked: open the child's file, and
   write the entries of the functions on the stack of `tstate`, which may be NULL.
   Later _PyPerfSlots_ReopenOutput() does the rest, and reports failures.  Needs no GIL,
   waits for no lock and allocates no memory. */
extern void _PyPerfSlots_ReopenEarly(const PyThreadState *tstate, bool keep);

/* Note whether a forked child runs the handlers of os.register_at_fork().  Functions
   that they call count as inherited. */
extern void _PyPerfSlots_SetStarting(bool is_starting);

/* Another program is about to be executed.  If this is a forked child, and its file has
   nothing that its parent's file had not, remove the file. */
extern void _PyPerfSlots_WithdrawOutput(void);

/* The program was not executed.  If the file was removed, make it again.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfSlots_PutBackOutput(struct _PyPerfError *error);

/* Close the output, if one is open. */
extern void _PyPerfSlots_CloseOutput(void);

/* Announce lines, and let eval loops store them, or no longer.  Closing the output
   switches lines off.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfSlots_SetLines(bool on, struct _PyPerfError *error);

/* Return whether a process that this one was forked from opened the output. */
extern bool _PyPerfSlots_IsOutputInherited(void);

/* Allow the open output to buffer entries and write them later, in larger pieces.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfSlots_StartBuffering(struct _PyPerfError *error);

/* Write the buffered entries.  Write each later entry at once.
   Returns 0, also if nothing is buffered, or -1 with *error filled in. */
extern int _PyPerfSlots_StopBuffering(struct _PyPerfError *error);


// --- Code objects ----------------------------------------------------------

/* Return whether `code` has a slot and the current file names it. */
static inline bool
_PyPerfSlots_IsAnnounced(const PyCodeObject *code)
{
    return _PyPerfBase_SlotNumber(code) != 0;
}

/* Give `code` a slot, if it has none, and write its entry to the open output,
   unless the current file has it.  `code` is borrowed.  `tstate` is the caller's.
   Returns 0, or -1 with *error filled in. */
extern int _PyPerfSlots_Announce(PyThreadState *tstate, PyCodeObject *code,
                                 struct _PyPerfError *error);

/* Return the number of the slot of `code`, whether the current file names it or not, or
   0 if it has no slot. */
extern uint32_t _PyPerfSlots_Find(PyCodeObject *code);

/* Clear the slot number of all code objects.  Their next call takes the slow
   path. */
extern void _PyPerfSlots_ForgetAll(void);

/* Request the co_extra index for slots, unless `interp` has it.  The index is the same
   in all interpreters, because they share the code objects of frozen modules.  `interp`
   must be the caller's.
   Returns false if another user of co_extra has that index.  Then no index is used
   up. */
extern bool _PyPerfSlots_RequestExtraIndex(PyInterpreterState *interp);

/* At the end of the main interpreter: take the slots from all code objects and
   give up the co_extra index.  Code objects of frozen modules do not die; the next
   interpreter of this process gets them. */
extern void _PyPerfSlots_Fini(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_SLOTS_H */
