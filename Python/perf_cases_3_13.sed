# Makes the instructions of the second eval loop from those of the first, that is
# perf_cases.h from generated_cases.c.h of CPython 3.13.  Adds the hooks that
# pycore_perf_evalloop_3_13.h explains.

/assert(tstate->interp->eval_frame == NULL);/d
s/tstate->interp->eval_frame == NULL/!PERF_MUST_CALL()/
s/DEOPT_IF(tstate->interp->eval_frame,/DEOPT_IF(PERF_MUST_CALL(),/

# The frame of __init__() is the one that is pushed with a goto.
s/^\( *\)frame = tstate->current_frame = new_frame;$/&\n\1PERF_LINK_PUSHED();/
s/^\( *\)goto start_frame;$/\1PERF_LINK_FRAME();\n&/

# A generator resumes.
/TARGET(FOR_ITER_GEN)/,/^        }$/s/PERF_LINK_PUSHED();/PERF_LINK_RESUMED();/
s/DISPATCH_INLINED(gen_frame);/PERF_RESUME_INLINED(gen_frame);/

s/^\( *\)_Py_LeaveRecursiveCallPy(tstate);$/\1PERF_UNLINK();\n&/
/TARGET(EXIT_INIT_CHECK)/,/^        }$/s/DISPATCH();/PERF_LEAVE_INIT();/
/TARGET(INTERPRETER_EXIT)/,/^        }$/s/^\( *\)return retval;$/\1PERF_LEAVE_LOOP();\n&/
