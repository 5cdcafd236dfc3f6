// A stack with a hole: SECONDS of CPU time in `burn`, called over a page of the stack that is given
// back to the kernel meanwhile. Who follows the frame pointer or the rows towards `main` meets it.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096l

static volatile int sink;

static double seconds_used(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

__attribute__((noinline)) static void burn(char *above, double seconds) {
    // The caller's frame, whose return address lies above its buffer, and what is above it. Nobody
    // returns there: what was given back is gone.
    char *first = (char *)(((unsigned long)above + PAGE - 1) & -PAGE);
    madvise(first, 8 * PAGE, MADV_DONTNEED);
    double end = seconds_used() + seconds;
    do {
        for (int i = 0; i < 300000; i++)
            sink += i;
    } while (seconds_used() < end);
    _exit(0);
}

__attribute__((noinline)) static void over_the_hole(double seconds) {
    char buffer[4 * PAGE];
    memset(buffer, 1, sizeof buffer);
    burn(buffer, seconds);
    sink += buffer[sink & 1];
}

__attribute__((noinline)) static void below_the_top(double seconds) {
    // Room for what is given back, so that arguments and environment stay.
    char buffer[16 * PAGE];
    memset(buffer, 1, sizeof buffer);
    over_the_hole(seconds);
    sink += buffer[sink & 1];
}

int main(int argc, char **argv) {
    below_the_top(argc > 1 ? atof(argv[1]) : 1);
    return 0;
}
