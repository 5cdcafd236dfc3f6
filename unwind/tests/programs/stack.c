/* A deep stack that knows its own call chain: each function notes the address that it returns to.
 *
 *   stack DEPTH plain|signal|altstack|thread|lazy
 *
 * Standard output: `registers` (pc sp rbp rbx r12 r13 r14 r15 of the leaf), the mappings, the chain,
 * leaf first, and the stacks from where they are in use: `stack ADDRESS LENGTH`, then the bytes.
 * With -DLIBRARY: the library with a function that is bound lazily, by an ifunc resolver. */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

void (*while_binding)(void);

#ifdef LIBRARY
static int bound(int n) { return n + 1; }
static int (*resolver(void))(int) {
    if (while_binding)
        while_binding();
    return bound;
}
int lazy(int n) __attribute__((ifunc("resolver")));
#else

#define NOINLINE __attribute__((noinline, noclone))
#define NOTE() (chain[links++] = (unsigned long)__builtin_return_address(0))

static unsigned long chain[4096];
static int links;
/* Lowest address in use of each stack. */
static unsigned long lows[4];
static int stacks;
static char alternate[1 << 16] __attribute__((aligned(4096)));
static const char *mode;
static volatile int sink;

static NOINLINE void dump(unsigned long *registers) {
    static char line[4096];
    lows[stacks++] = registers[1];
    printf("registers");
    for (int i = 0; i < 8; i++)
        printf(" %lx", registers[i]);
    printf("\n");
    while (links--)
        printf("link %lx\n", chain[links]);
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long ends[4];
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        sscanf(line, "%lx-%lx", &start, &end);
        printf("map %s", line);
        for (int i = 0; i < stacks; i++)
            if (lows[i] >= start && lows[i] < end)
                ends[i] = end;
    }
    for (int i = 0; i < stacks; i++) {
        printf("stack %lx %lx\n", lows[i], ends[i] - lows[i]);
        fwrite((void *)lows[i], 1, ends[i] - lows[i], stdout);
    }
    fflush(stdout);
    _exit(0);
}

static NOINLINE void leaf(void) {
    unsigned long registers[8];
    NOTE();
    __asm__ volatile("lea 0f(%%rip), %%rax\n mov %%rax, (%0)\n mov %%rsp, 8(%0)\n mov %%rbp, 16(%0)\n"
                     "mov %%rbx, 24(%0)\n mov %%r12, 32(%0)\n mov %%r13, 40(%0)\n mov %%r14, 48(%0)\n"
                     "mov %%r15, 56(%0)\n 0:"
                     :
                     : "c"(registers)
                     : "rax", "memory");
    dump(registers);
}

static int down(int n);

static NOINLINE int omitted(int n) {
    NOTE();
    return down(n - 1) * 3 + n;
}

/* rsp moves by what only the run knows: a frame pointer, whatever the flags. */
static NOINLINE int moving(int n) {
    NOTE();
    char *bytes = alloca(n * 16 + 16);
    memset(bytes, n, 16);
    int found = down(n - 1) + bytes[3];
    sink = bytes[sink & 7];
    return found;
}

/* Aligned and moving: the CFA is dereferenced, *(rbp - x). */
static NOINLINE int aligned(int n, int a, int b, int c, int d, int e,
                                                                      int stacked) {
    NOTE();
    char bytes[64] __attribute__((aligned(64)));
    memset(bytes, n, sizeof bytes);
    memset(alloca(n * 16 + 16), n, 16);
    int found = down(n - 1) + a + b + c + d + e + stacked;
    sink = bytes[sink & 7];
    return found;
}

static NOINLINE int busy(int n, int a, int b, int c, int d) {
    NOTE();
    int w = n * a, x = n * b, y = n * c, z = n * d;
    int found = down(n - 1);
    return found + down(found > 1 << 30 ? 1 : 0) * w + x * y - z;
}

/* Faults where its own note says: the interrupted frame is this one. */
static NOINLINE int faulting(int n) {
    NOTE();
    chain[links++] = (unsigned long)&&fault;
    sink = n;
    if (n > 100000)
        goto fault;
    __asm__ volatile("" : : "r"(&&fault));
fault:
    __asm__ volatile("ud2");
    return n + sink;
}

static int interrupted;

static NOINLINE int down(int n) {
    NOTE();
    if (n <= 0) {
        if (interrupted || !(mode[0] == 's' || mode[0] == 'a'))
            leaf();
        return faulting(n) + 1;
    }
    switch (n % 4) {
    case 0: return omitted(n) + 1;
    case 1: return moving(n) + 1;
    case 2: return aligned(n, 1, 2, 3, 4, 5, sink) + 1;
    default: return busy(n, 5, 6, 7, 8) + 1;
    }
}

static void handler(int number, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    lows[stacks++] = at->uc_mcontext.gregs[REG_RSP];
    /* The compiler may have put the fault elsewhere than at its label. */
    chain[links - 1] = at->uc_mcontext.gregs[REG_RIP];
    NOTE();
    interrupted = 1;
    sink = down(8);
}

extern int lazy(int n);
static NOINLINE int bind(int n) {
    NOTE();
    return lazy(n) + 1;
}

static NOINLINE void resolving(void) {
    NOTE();
    sink = down(4);
}

static void *thread(void *depth) {
    NOTE();
    sink = down(*(int *)depth);
    return NULL;
}

int main(int argc, char **argv) {
    int depth = atoi(argv[1]);
    mode = argv[2];
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    if (mode[0] == 'a') {
        stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
        sigaltstack(&stack, NULL);
        action.sa_flags |= SA_ONSTACK;
    }
    sigaction(SIGILL, &action, NULL);
    if (mode[0] == 't') {
        pthread_t id;
        pthread_create(&id, NULL, thread, &depth);
        pthread_join(id, NULL);
    }
    NOTE();
    if (mode[0] == 'l') {
        while_binding = resolving;
        return bind(depth);
    }
    return down(depth);
}
#endif
