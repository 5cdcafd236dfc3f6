// Walks through MIB of memory of its own, of which but a part may be resident, and fills no other need.
//
//     pressed MIB
//
// Says `ready` before it has any. To the line `go` it writes all pages, has them paged out, answers `out N`,
// N being how many pages then are not resident, and reads one after the other in `walk` until its standard
// input ends; in between it burns in `burn`.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096l

static char *memory;
static long pages;
static volatile long sink;

__attribute__((noinline)) static void burn(void) {
    for (int i = 0; i < 100000; i++)
        sink += i;
}

__attribute__((noinline)) static void walk(void) {
    for (long page = 0;; page = (page + 1) % pages) {
        sink += memory[page * PAGE];
        // Changed, so that it has to be written again.
        memory[page * PAGE] ^= 1;
        if (page % 64 == 0)
            burn();
    }
}

static void *thread(void *unused) {
    walk();
    return unused;
}

static long away(void) {
    unsigned char *resident = malloc(pages);
    long n = 0;
    if (!resident || mincore(memory, pages * PAGE, resident))
        abort();
    for (long page = 0; page < pages; page++)
        n += !(resident[page] & 1);
    free(resident);
    return n;
}

int main(int argc, char **argv) {
    char line[16];
    pthread_t id;
    if (argc != 2)
        return 2;
    pages = atol(argv[1]) * ((1 << 20) / PAGE);
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 0;
    memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    for (long i = 0; i < pages * PAGE; i += sizeof(uint32_t))
        *(uint32_t *)(memory + i) = (uint32_t)(i * 2654435761u);
    if (madvise(memory, pages * PAGE, MADV_PAGEOUT))
        return 1;
    printf("out %ld\n", away());
    fflush(stdout);
    if (pthread_create(&id, NULL, thread, NULL))
        return 1;
    while (fgets(line, sizeof line, stdin)) {
    }
    return 0;
}
