// Burns MILLISECONDS of its own CPU time: main → outer → burn.
#include <stdlib.h>
#include <time.h>

static volatile int sink;

__attribute__((noinline)) static void burn(double end) {
    struct timespec now;
    do {
        for (int i = 0; i < 30000; i++)
            sink += i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while (now.tv_sec * 1e3 + now.tv_nsec * 1e-6 < end);
}

__attribute__((noinline)) static int outer(double end) {
    burn(end);
    return sink == 1;
}

int main(int argc, char **argv) {
    return argc > 1 ? outer(atof(argv[1])) : 2;
}
