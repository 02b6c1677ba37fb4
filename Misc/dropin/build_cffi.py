"""Write the C source of the extension module dropin_cffi, for program_cffi.py.

    build_cffi.py FILE
"""

import sys

import cffi

ffi = cffi.FFI()
ffi.cdef("""
    struct point { double x, y; };
    double length(struct point *);
    int sum_of(int n, int *numbers);
    int apply(int (*function)(int), int n);
    void count_up(void *handle, int n);
    void count_in_threads(void *handle, int threads, int n);
    extern "Python" int python_square(int);
    extern "Python" int python_failing(int);
    extern "Python" void python_handle(void *, int);
""")
ffi.set_source("dropin_cffi", """
    #include <math.h>
    #include <pthread.h>

    struct point { double x, y; };
    static void python_handle(void *, int);

    static double length(struct point *p) { return sqrt(p->x * p->x + p->y * p->y); }

    static int sum_of(int n, int *numbers)
    {
        int sum = 0;
        while (n-- > 0) sum += *numbers++;
        return sum;
    }

    static int apply(int (*function)(int), int n) { return function(n); }

    static void count_up(void *handle, int n)
    {
        for (int i = 0; i < n; i++) python_handle(handle, i);
    }

    struct job { void *handle; int n; };

    static void *run(void *argument)
    {
        struct job *job = argument;
        count_up(job->handle, job->n);
        return NULL;
    }

    static void count_in_threads(void *handle, int threads, int n)
    {
        pthread_t ids[16];
        struct job job = {handle, n};
        for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, run, &job);
        for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    }
""")
ffi.emit_c_code(sys.argv[1])
