/* What Python/asm_trampoline_*.S define for C code. */

#ifndef Py_INTERNAL_PERF_ASM_H
#define Py_INTERNAL_PERF_ASM_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stddef.h>

struct _PyInterpreterFrame;

/* The trampoline that each slot holds a copy of, its size in bytes, and the offset
   at which a call through it returns. */
extern const char _PyPerfTrampoline_Code[];
extern const size_t _PyPerfTrampoline_CodeSize;
extern const size_t _PyPerfTrampoline_ReturnOffset;

/* Eight bytes that are never executed.  Their unwind information is valid for every
   trampoline, after its call. */
extern const char _PyPerfTrampoline_BodyCFI[8];

/* Run `frame` in the second eval loop and return what the loop returns.  The C frame of
   this function has room for frame records (perf_record.c).  The first record returns
   to addresses[slot].  Needs the GIL. */
extern PyObject *_PyPerf_EnterEvalLoop(PyThreadState *tstate,
                                       struct _PyInterpreterFrame *frame,
                                       int throwflag, size_t slot,
                                       const void *const *addresses);

/* The same in the eval loop that stores lines. */
extern PyObject *_PyPerf_EnterEvalLoopWithLines(PyThreadState *tstate,
                                                struct _PyInterpreterFrame *frame,
                                                int throwflag, size_t slot,
                                                const void *const *addresses);

/* The same without room for more records than the first.  The loop stores no lines. */
extern PyObject *_PyPerf_EnterBareEvalLoop(PyThreadState *tstate,
                                           struct _PyInterpreterFrame *frame,
                                           int throwflag, size_t slot,
                                           const void *const *addresses);

/* The address in _PyPerf_EnterEvalLoop() after its call of the eval loop. */
extern const void *const _PyPerf_EnterEvalLoopReturn;

/* The same as _PyPerf_EnterEvalLoop() with `count` records, at least one.  They return
   to the addresses of the array `returns_to`, the outermost first. */
extern PyObject *_PyPerf_EnterEvalLoopWithCallers(PyThreadState *tstate,
                                                  struct _PyInterpreterFrame *frame,
                                                  int throwflag,
                                                  const void *const *returns_to,
                                                  size_t count);

/* The same in the eval loop that stores lines. */
extern PyObject *
_PyPerf_EnterEvalLoopWithLinesAndCallers(PyThreadState *tstate,
                                         struct _PyInterpreterFrame *frame,
                                         int throwflag, const void *const *returns_to,
                                         size_t count);

/* Return `result` to a function further out, which expects *registers.  The C frames in
   between are abandoned.  Call it only if _PyPerfArch_CAN_RETURN_TO. */
struct _PyPerfArch_Registers;
extern void _PyPerf_ReturnTo(PyObject *result,
                             const struct _PyPerfArch_Registers *registers)
    __attribute__((noreturn));

#ifdef __cplusplus
}
#endif
#endif  /* !Py_INTERNAL_PERF_ASM_H */
