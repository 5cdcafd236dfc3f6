// Programs for what a native frame may be. `names WHAT SECONDS [LIBRARY]` burns its own CPU time:
//
//   inline     in inlined functions: square (in sum_of_squares, in looping)
//   stub       in calls to a library through the procedure linkage table
//   clock      in clock_gettime, which is in the vDSO
//   kernel     in the kernel: reads of /dev/zero
//   plugin     in a function of LIBRARY, which is loaded with dlopen only now
//   callback   in a function here, called by one of LIBRARY
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FRAME __attribute__((noinline, noclone))
#define INLINED __attribute__((always_inline)) static inline

void library_nothing(void);

static volatile long sink;
static double end;

static int going_on(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9 < end;
}

INLINED long square(long n) {
    sink = n;
    sink += n * n; // line of square
    return sink;
}

INLINED long sum_of_squares(long n) {
    long sum = 0;
    for (long i = 0; i < n; i++)
        sum += square(i); // line of sum_of_squares
    return sum;
}

FRAME static void looping(void) {
    while (going_on())
        sink += sum_of_squares(100000); // line of looping
}

FRAME static void calling_stubs(void) {
    while (going_on())
        for (int i = 0; i < 100000; i++)
            library_nothing();
}

FRAME static void asking_for_time(void) {
    struct timespec now;
    while (going_on())
        for (int i = 0; i < 10000; i++)
            clock_gettime(CLOCK_MONOTONIC, &now);
}

FRAME static void reading(void) {
    static char buffer[1 << 16];
    int zero = open("/dev/zero", O_RDONLY);
    while (going_on())
        for (int i = 0; i < 100; i++)
            sink += read(zero, buffer, sizeof buffer);
    close(zero);
}

FRAME static void burning(void) {
    while (going_on())
        for (int i = 0; i < 100000; i++)
            sink += i;
}

static void *function(const char *library, const char *name) {
    void *loaded = dlopen(library, RTLD_NOW);
    void *found = loaded ? dlsym(loaded, name) : NULL;
    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    const char *what = argv[1];
    end = atof(argv[2]);
    if (strcmp(what, "inline") == 0)
        looping();
    else if (strcmp(what, "stub") == 0)
        calling_stubs();
    else if (strcmp(what, "clock") == 0)
        asking_for_time();
    else if (strcmp(what, "kernel") == 0)
        reading();
    else if (strcmp(what, "plugin") == 0 && argc > 3)
        ((void (*)(int (*)(void)))function(argv[3], "plugin_work"))(going_on);
    else if (strcmp(what, "callback") == 0 && argc > 3)
        ((void (*)(void (*)(void)))function(argv[3], "plugin_call"))(burning);
    return 0;
}
