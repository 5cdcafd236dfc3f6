// A program that is built anew for each run (-DUNIQUE=…), so that nobody has seen its file, and
// burns MILLISECONDS of its own CPU time: main → outer → burn.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char unique[] = UNIQUE;
static volatile int sink;

static double thread_millis(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
}

__attribute__((noinline)) static void burn(double end) {
    do {
        for (int i = 0; i < 30000; i++)
            sink += i;
    } while (thread_millis() < end);
}

__attribute__((noinline)) static int outer(double end) {
    burn(end);
    return unique[0] == 0;
}

int main(int argc, char **argv) {
    return argc > 1 ? outer(atof(argv[1])) : 2;
}
