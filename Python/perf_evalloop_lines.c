/* The second eval loop with lines: perf_evalloop.c, which explains it, compiled once
   more. */

#define PERF_LINES 1
#include "perf_evalloop.c"
