// A stack with a hole whose words are not lost: its thread's stack is a mapping of FILE, and while `burn`
// uses SECONDS of CPU time, pages between it and its callers are neither mapped nor in the page cache.
//
//     evicted FILE SECONDS
//
// It says `away N` before and `still N` after that, N being how many pages of the hole were not in memory;
// then it returns through all its frames, and says `returned`.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096l
#define STACK (64 * PAGE)
#define HOLE 8

static int file;
static char *stack;
static double seconds;
static volatile int sink;

static double seconds_used(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

// Pages of the hole that are neither mapped (bit 63 of the pagemap) nor in the page cache.
static int away(char *hole) {
    unsigned char cached[HOLE];
    uint64_t entries[HOLE];
    int pagemap = open("/proc/self/pagemap", O_RDONLY), n = 0;
    if (mincore(hole, sizeof cached * PAGE, cached) ||
        pread(pagemap, entries, sizeof entries, (uintptr_t)hole / PAGE * 8) != sizeof entries)
        abort();
    close(pagemap);
    for (int page = 0; page < HOLE; page++)
        n += !(cached[page] & 1) && !(entries[page] >> 63);
    return n;
}

__attribute__((noinline)) static void burn(void) {
    double end = seconds_used() + seconds;
    do {
        for (int i = 0; i < 300000; i++)
            sink += i;
    } while (seconds_used() < end);
}

__attribute__((noinline)) static void evict(char *above) {
    char *hole = (char *)(((uintptr_t)above + PAGE - 1) & -PAGE);
    // Written back, unmapped, and then dropped from the cache; the frames' words are in the file.
    if (msync(stack, STACK, MS_SYNC) || madvise(hole, HOLE * PAGE, MADV_DONTNEED) ||
        posix_fadvise(file, hole - stack, HOLE * PAGE, POSIX_FADV_DONTNEED))
        abort();
    int before = away(hole);
    burn();
    int after = away(hole);
    printf("away %d\nstill %d\n", before, after);
    // So that nobody stands in this frame's place.
    sink += after;
}

__attribute__((noinline)) static void over_the_hole(void) {
    char buffer[2 * PAGE];
    memset(buffer, 1, sizeof buffer);
    evict(buffer);
    sink += buffer[sink & 1];
}

__attribute__((noinline)) static void below_the_top(void) {
    // Room for the hole, so that what is above it stays.
    char buffer[16 * PAGE];
    memset(buffer, 1, sizeof buffer);
    over_the_hole();
    sink += buffer[sink & 1];
}

static void *thread(void *unused) {
    below_the_top();
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    seconds = atof(argv[2]);
    file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, STACK))
        return 1;
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    // What is read anew comes alone.
    if (stack == MAP_FAILED || madvise(stack, STACK, MADV_RANDOM))
        return 1;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK);
    pthread_t id;
    if (pthread_create(&id, &attributes, thread, NULL))
        return 1;
    pthread_join(id, NULL);
    puts("returned");
    return 0;
}
