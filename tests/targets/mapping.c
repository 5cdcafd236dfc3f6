// Maps and unmaps without pause, and says what that waited for: to any line it answers with how many rounds it
// made since the last one, how many microseconds it slept in them (neither ran nor waited for a CPU), and the
// longest round's. Keeps many mappings, so that who walks them takes a while. Says `ready`, and ends when its
// standard input does.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 2000

static long clock_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000 + time.tv_nsec;
}

// Nanoseconds since the first call in which this thread slept.
static long slept(void) {
    long ran, waited, slices;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (file == NULL || fscanf(file, "%ld %ld %ld", &ran, &waited, &slices) != 3)
        return -1;
    fclose(file);
    return clock_of(CLOCK_MONOTONIC) - clock_of(CLOCK_THREAD_CPUTIME_ID) - waited;
}

int main(void) {
    // Neighbours of different kinds do not become one.
    char *area = mmap(NULL, 2 * PAGES * 4096l, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < PAGES; i++) {
        mprotect(area + 2 * i * 4096l, 4096, PROT_READ | PROT_WRITE);
        area[2 * i * 4096l] = 1;
    }
    puts("ready");
    fflush(stdout);
    fcntl(0, F_SETFL, O_NONBLOCK);
    long rounds = 0, longest = 0, before = slept();
    for (;;) {
        long start = clock_of(CLOCK_MONOTONIC);
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(page, 4096);
        long took = clock_of(CLOCK_MONOTONIC) - start;
        longest = took > longest ? took : longest;
        if (++rounds % 256 == 0) {
            char line[64];
            long got = read(0, line, sizeof line);
            if (got == 0)
                return 0;
            if (got > 0) {
                long now = slept();
                printf("%ld %ld %ld\n", rounds, (now - before) / 1000, longest / 1000);
                fflush(stdout);
                rounds = longest = 0;
                before = slept();
            }
        }
    }
}
