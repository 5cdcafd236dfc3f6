// Burns CPU time in `burn`, and watches itself: to any line it answers how many signals it got, a sum of its
// code and data, how many pages of a sparse mapping and of a file in the page cache are in its memory, and how
// often a system call of its other thread was interrupted. Its word is the name of a file of 1 MiB to map.
// Says `ready`, and ends when its standard input does.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096l
#define SPARSE (64l << 20)
#define FILE_BYTES (1l << 20)

extern char __executable_start, etext;
static volatile int for_ever = 1, sink;
static _Atomic long signals, interrupted;
static char *sparse, *mapped;

static void got(int number) {
    (void)number;
    signals++;
}

static void *burn(void *none) {
    while (for_ever)
        for (int i = 0; i < 300000; i++)
            sink += i;
    return none;
}

// epoll_wait ends with EINTR whenever its thread is stopped, too.
static void *sleeping(void *none) {
    struct epoll_event event;
    int epoll = epoll_create1(0);
    while (for_ever)
        interrupted += epoll_wait(epoll, &event, 1, 1000000) < 0 && errno == EINTR;
    return none;
}

static uint64_t sum_of(const char *from, const char *to, uint64_t sum) {
    for (; from < to; from++)
        sum = sum * 31 + (unsigned char)*from;
    return sum;
}

static long present(const char *from, long bytes, int pagemap) {
    long n = 0;
    for (long at = 0; at < bytes; at += PAGE) {
        uint64_t entry;
        off_t place = ((unsigned long)from + at) / PAGE * 8;
        if (pread(pagemap, &entry, 8, place) != 8)
            _exit(3);
        n += entry >> 63;
    }
    return n;
}

int main(int argc, char **argv) {
    pthread_t thread;
    struct sigaction action = {.sa_handler = got};
    for (int number = 1; number <= 64; number++)
        sigaction(number, &action, NULL);
    int file = open(argc > 1 ? argv[1] : "", O_RDONLY), pagemap = open("/proc/self/pagemap", O_RDONLY);
    mapped = mmap(NULL, FILE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    sparse = mmap(NULL, SPARSE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (file < 0 || pagemap < 0 || mapped == MAP_FAILED || sparse == MAP_FAILED)
        return 2;
    madvise(sparse, SPARSE, MADV_NOHUGEPAGE);
    for (long at = 0; at < SPARSE; at += 16 * PAGE)
        sparse[at] = at / PAGE;
    pthread_create(&thread, NULL, burn, NULL);
    pthread_create(&thread, NULL, sleeping, NULL);
    puts("ready");
    fflush(stdout);
    char line[16];
    while (read(0, line, sizeof line) > 0) {
        uint64_t sum = sum_of(&__executable_start, &etext, 0);
        for (long at = 0; at < SPARSE; at += 16 * PAGE)
            sum = sum_of(sparse + at, sparse + at + PAGE, sum);
        dprintf(1, "%ld signals, sum %lx, %ld sparse, %ld of the file, %ld interrupted\n", signals,
                (unsigned long)sum, present(sparse, SPARSE, pagemap),
                present(mapped, FILE_BYTES, pagemap), interrupted);
    }
    _exit(0);
}
