// Work in functions of its own: which, and how much each has, are the arguments, `NAME AMOUNT` by `NAME AMOUNT`.
// With GATE_LOG it adds a line to that file: each phase's name and the nanoseconds that it took by the clocks of its
// thread and of its children, and `total`, what the process and its children took.
//
// -DALPHA=NAME: what `alpha` is called. -DINLINE: `alpha` is part of its caller. -DSPLIT: a part of `alpha` is a
// function of its own. -DLIBRARY: `library` is in gate_library.c.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef ALPHA
#define ALPHA alpha
#endif
#ifdef INLINE
#define OF_ALPHA static inline __attribute__((always_inline))
#else
#define OF_ALPHA static __attribute__((noinline))
#endif
#define OWN static __attribute__((noinline))

static volatile unsigned long sink;

// About 0.1 ms for each of `n`; each step waits for the one before.
#define WORK(kind, name, factor)                                     \
    kind void name(long n)                                           \
    {                                                                \
        unsigned long x = (unsigned long)n;                          \
        for (long i = 0; i < n * 90000; i++) {                       \
            x = x * factor + 1442695040888963407ul;                  \
            __asm__ volatile("" : "+r"(x));                          \
        }                                                            \
        sink = x;                                                    \
    }

#ifdef SPLIT
WORK(static inline __attribute__((always_inline)), first_half, 6364136223846793005ul)
WORK(OWN, second_half, 6364136223846793005ul)

OF_ALPHA void ALPHA(long n)
{
    first_half(n / 2);
    second_half(n - n / 2);
    sink++;
}
#else
WORK(OF_ALPHA, ALPHA, 6364136223846793005ul)
#endif
WORK(OWN, beta, 6364136223846793009ul)
WORK(OWN, in_child, 6364136223846793013ul)

// What two call.
WORK(OWN, helper, 6364136223846793033ul)

OWN void often(long n)
{
    for (long i = 0; i < n; i++)
        helper(1);
    sink++;
}

OWN void once(long n)
{
    helper(n);
    sink++;
}

// What `alpha` may become a part of.
OWN void outer(long n)
{
    ALPHA(n);
    sink++;
}

OWN void child(long n)
{
    pid_t pid = fork();
    if (pid == 0) {
        in_child(n);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static long nanos(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000l + now.tv_nsec;
}

// What children took that the kernel itself collects: they say it.
static long of_others;

OWN void unwaited(long n)
{
    int ends[2];
    long took = 0;
    signal(SIGCHLD, SIG_IGN);
    if (pipe(ends) != 0)
        exit(1);
    if (fork() == 0) {
        in_child(n);
        took = nanos(CLOCK_PROCESS_CPUTIME_ID);
        _exit(write(ends[1], &took, sizeof took) != sizeof took);
    }
    if (read(ends[0], &took, sizeof took) != sizeof took)
        exit(1);
    close(ends[0]);
    close(ends[1]);
    of_others += took;
}

// Copies in the kernel.
OWN void copies(long n)
{
    static char buffer[1 << 16];
    int ends[2];
    if (pipe(ends) != 0)
        exit(1);
    for (long i = 0; i < n * 9; i++)
        if (write(ends[1], buffer, sizeof buffer) < 0 || read(ends[0], buffer, sizeof buffer) < 0)
            exit(1);
    close(ends[0]);
    close(ends[1]);
}

// Calls itself, twice: what it does is done at all depths.
OWN void tree(long n, int depth)
{
    if (depth > 0) {
        tree(n, depth - 1);
        tree(n, depth - 1);
    }
    unsigned long x = sink;
    for (long i = 0; i < n * 360; i++) {
        x = x * 6364136223846793021ul + 1442695040888963407ul;
        __asm__ volatile("" : "+r"(x));
    }
    sink = x;
}

// A list of more than the caches hold.
struct node {
    struct node *next;
    char rest[120];
};
enum { NODES = 1 << 18 };

static struct node *nodes[2];

// Both orders: one after the other, and across. Which is walked changes no instruction.
OWN void build(void)
{
    static int order[NODES];
    for (int i = 0; i < NODES; i++)
        order[i] = i;
    unsigned long x = 42;
    // One cycle through all of them (Sattolo).
    for (int i = NODES - 1; i > 0; i--) {
        x = x * 6364136223846793005ul + 1442695040888963407ul;
        int j = (int)((x >> 33) % (unsigned long)i), was = order[i];
        order[i] = order[j];
        order[j] = was;
    }
    for (int across = 0; across < 2; across++) {
        nodes[across] = calloc(NODES, sizeof(struct node));
        for (int i = 0; i < NODES; i++)
            nodes[across][i].next = &nodes[across][across ? order[i] : (i + 1) % NODES];
    }
}

OWN void walk(struct node *from, long steps)
{
    for (long i = 0; i < steps; i++)
        from = from->next;
    sink = (unsigned long)from;
}

#ifdef LIBRARY
void library(long n);
#else
static void library(long n) { (void)n; }
#endif

static long of_children(void)
{
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    return of_others + (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000l +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000l;
}

int main(int argc, char **argv)
{
    char line[4096];
    int length = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i];
        long n = atol(argv[i + 1]);
        int walks = strcmp(name, "walk") == 0 || strcmp(name, "across") == 0;
        if (walks && nodes[0] == NULL)
            build();
        long before = nanos(CLOCK_THREAD_CPUTIME_ID) + of_children();
        if (strcmp(name, "alpha") == 0)
            ALPHA(n);
        else if (strcmp(name, "outer") == 0)
            outer(n);
        else if (strcmp(name, "beta") == 0)
            beta(n);
        else if (strcmp(name, "often") == 0)
            often(n);
        else if (strcmp(name, "once") == 0)
            once(n);
        else if (strcmp(name, "child") == 0)
            child(n);
        else if (strcmp(name, "unwaited") == 0)
            unwaited(n);
        else if (strcmp(name, "copies") == 0)
            copies(n);
        else if (strcmp(name, "tree") == 0)
            tree(n, 7);
        else if (strcmp(name, "library") == 0)
            library(n);
        else if (walks)
            walk(nodes[strcmp(name, "across") == 0], n * 4000);
        else
            return 2;
        long took = nanos(CLOCK_THREAD_CPUTIME_ID) + of_children() - before;
        length += snprintf(line + length, sizeof line - (size_t)length, "%s %ld ", name, took);
    }
    const char *log = getenv("GATE_LOG");
    if (log != NULL) {
        long total = nanos(CLOCK_PROCESS_CPUTIME_ID) + of_children();
        length += snprintf(line + length, sizeof line - (size_t)length, "total %ld\n", total);
        int file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (file < 0 || write(file, line, (size_t)length) != length)
            return 1;
    }
    return 0;
}
