// A program that gets stuck, as its first word says, while one of its threads burns CPU time in `burn`
// and another maps and unmaps a page without pause:
//
//   stuck not               it does not; somebody else stops it
//   stuck userfaultfd       a thread waits for a page that nobody brings, and the stack of the one that
//                           burns has such pages between `burn` and its root
//   stuck page FILE         a thread waits for a page of FILE
//   stuck lock FILE         the same through /proc/self/mem, with the lock on the process's mappings held;
//                           the thread that maps waits for that lock
//   stuck core FOLDER       told `go`, it dumps its core into FOLDER
//   stuck exit GIB          told `go`, it ends, with so many GiB of its own
//
// It says `ready` when it is so, and ends when its standard input does. To any other line it answers
// how long the longest round of mapping and unmapping took since it was last asked, and how much of that
// it neither ran nor waited for a CPU: two numbers of nanoseconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096l
#define STACK (1l << 20)

// Never 0, which the compiler must not know: it would leave out what stands behind a loop without end.
static volatile int for_ever = 1;
static volatile int sink;
static char *missing;
static int userfaultfd = -1;
static _Atomic long longest, blocked, began;

static void must(int good, const char *what) {
    if (!good) {
        perror(what);
        _exit(2);
    }
}

static long clock_nanos(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000l + now.tv_nsec;
}

static char *pages(long bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED, "mmap");
    return memory;
}

// From now on who touches a page of this memory that is not there waits for ever.
static void nobody_brings(char *memory, long bytes) {
    if (userfaultfd < 0) {
        userfaultfd = syscall(SYS_userfaultfd, O_CLOEXEC);
        must(userfaultfd >= 0, "userfaultfd");
        struct uffdio_api api = {.api = UFFD_API};
        must(ioctl(userfaultfd, UFFDIO_API, &api) == 0, "UFFDIO_API");
    }
    struct uffdio_register range = {.range = {(unsigned long)memory, bytes},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    must(ioctl(userfaultfd, UFFDIO_REGISTER, &range) == 0, "UFFDIO_REGISTER");
}

__attribute__((noinline)) static void burn(void) {
    while (for_ever)
        for (int i = 0; i < 300000; i++)
            sink += i;
}

// `burn`, called over pages of the stack that are not there, with the return address of its caller:
// nobody returns.
__attribute__((noinline)) static void over_the_hole(void) {
    char buffer[4 * PAGE];
    memset(buffer, 1, sizeof buffer);
    char *first = (char *)(((unsigned long)buffer + PAGE - 1) & -PAGE);
    madvise(first, 8 * PAGE, MADV_DONTNEED);
    burn();
    sink += buffer[sink & 1];
}

__attribute__((noinline)) static void below_the_top(void) {
    // Room for what is given back, so that what stands above stays.
    char buffer[16 * PAGE];
    memset(buffer, 1, sizeof buffer);
    over_the_hole();
    sink += buffer[sink & 1];
}

static void *burning(void *hole) {
    if (hole)
        below_the_top();
    burn();
    return NULL;
}

// Nanoseconds that this thread waited for a CPU: the second word of its schedstat.
static long waited(int file) {
    char text[96] = "";
    must(pread(file, text, sizeof text - 1, 0) > 0, "schedstat");
    char *after;
    strtoull(text, &after, 10);
    return strtoull(after, NULL, 10);
}

static void *mapping(void *none) {
    int file = open("/proc/thread-self/schedstat", O_RDONLY);
    must(file >= 0, "schedstat");
    for (;;) {
        long start = clock_nanos(CLOCK_MONOTONIC), waits = waited(file);
        long ran = clock_nanos(CLOCK_THREAD_CPUTIME_ID);
        began = start;
        char *page = pages(4 * PAGE);
        page[PAGE] = 1;
        munmap(page, 4 * PAGE);
        ran = clock_nanos(CLOCK_THREAD_CPUTIME_ID) - ran;
        waits = waited(file) - waits;
        long took = clock_nanos(CLOCK_MONOTONIC) - start;
        began = 0;
        if (took > longest)
            longest = took;
        if (took - ran - waits > blocked)
            blocked = took - ran - waits;
        usleep(100);
    }
    return none;
}

static void *touching(void *none) {
    sink += missing[0];
    return none;
}

static void *reading(void *none) {
    char byte;
    int memory = open("/proc/self/mem", O_RDONLY);
    must(memory >= 0, "/proc/self/mem");
    sink += pread(memory, &byte, 1, (off_t)(unsigned long)missing);
    return none;
}

static void thread(const char *name, void *(*function)(void *), void *argument, char *stack) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack)
        pthread_attr_setstack(&attributes, stack, STACK);
    must(pthread_create(&thread, &attributes, function, argument) == 0, "pthread_create");
    pthread_setname_np(thread, name);
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "", *what = argc > 2 ? argv[2] : "";
    void *(*wait)(void *) = NULL;
    char *stack = NULL;
    if (strcmp(how, "userfaultfd") == 0) {
        missing = pages(PAGE);
        nobody_brings(missing, PAGE);
        stack = pages(STACK);
        memset(stack, 0, STACK);
        nobody_brings(stack, STACK);
        wait = touching;
    } else if (strcmp(how, "page") == 0 || strcmp(how, "lock") == 0) {
        int file = open(what, O_RDONLY | O_CLOEXEC);
        must(file >= 0, what);
        missing = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
        must(missing != MAP_FAILED, what);
        wait = strcmp(how, "lock") == 0 ? reading : touching;
    } else if (strcmp(how, "core") == 0) {
        must(chdir(what) == 0, what);
        struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
        must(setrlimit(RLIMIT_CORE, &limit) == 0, "RLIMIT_CORE");
    } else if (strcmp(how, "exit") == 0) {
        long bytes = atol(what) << 30;
        char *memory = pages(bytes);
        madvise(memory, bytes, MADV_NOHUGEPAGE);
        for (long at = 0; at < bytes; at += PAGE)
            memory[at] = 1;
    }
    thread("burning", burning, stack, stack);
    thread("mapping", mapping, NULL, NULL);
    if (wait)
        // Last: from then on nothing may be mapped in one of the cases.
        thread("waiting", wait, NULL, NULL);
    // There is nothing to ask whether it waits.
    usleep(200000);
    must(write(1, "ready\n", 6) == 6, "standard output");
    char line[16];
    while (read(0, line, sizeof line) > 0) {
        if (line[0] == 'g') {
            if (strcmp(how, "core") == 0)
                abort();
            break;
        }
        long wall = atomic_exchange(&longest, 0), waits = atomic_exchange(&blocked, 0);
        // One that has not ended counts when nothing but a lock can have kept it so long.
        long start = began, now = start ? clock_nanos(CLOCK_MONOTONIC) - start : 0;
        if (now > 1000000000)
            wall = waits = now;
        dprintf(1, "%ld %ld\n", wall, waits);
    }
    _exit(0);
}
