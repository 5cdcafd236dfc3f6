// Recurses DEPTH deep through functions whose frames differ, says the chain on standard output from
// the root to the leaf, and then burns SECONDS of its own CPU time in the leaf.
//
//   deep DEPTH SECONDS
#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAME __attribute__((noinline, noclone))

static const char **chain;
static int entered;
static unsigned long chance = 1;
static double seconds;
static volatile char sink;

static int call(int left);

// What a function with a frame of its own does: note its name, call on, and use its locals after.
#define ENTER() chain[entered++] = __func__

FRAME static int small_frame(int left) {
    ENTER();
    return call(left - 1) + 1;
}

FRAME static int array_frame(int left) {
    ENTER();
    volatile char local[200];
    local[left % 200] = 1;
    return call(left - 1) + local[left % 200];
}

// Larger than a page: the next frame is never in the piece of stack that this one is in.
FRAME static int large_frame(int left) {
    ENTER();
    volatile char local[5000];
    local[left % 5000] = 1;
    return call(left - 1) + local[left % 5000];
}

// A size known only at run time: the CFA stands on rbp.
FRAME static int dynamic_frame(int left) {
    ENTER();
    volatile char *local = alloca(16 + left % 300);
    local[left % 16] = 1;
    return call(left - 1) + local[left % 16];
}

// Aligned beyond the ABI's 16 bytes and of dynamic size: the CFA is read from the stack.
#ifdef REALIGNED
FRAME static int aligned_frame(int left) {
    ENTER();
    _Alignas(128) volatile char local[128];
    volatile char *more = alloca(16 + left % 40);
    local[left % 128] = 1;
    more[left % 16] = 1;
    return call(left - 1) + local[left % 128] + more[left % 16];
}
#endif

// All registers that a callee has to keep, in use across the call.
FRAME static int register_frame(int left) {
    ENTER();
    unsigned long a = chance, b = a * 3 + left, c = b ^ a, d = c * 5 + b, e = d ^ c, f = e + d * 7;
    int below = call(left - 1);
    return below + (int)(((a ^ b ^ c ^ d ^ e ^ f) & 1) + 1);
}

FRAME static int leaf(void) {
    ENTER();
    for (int i = 0; i < entered; i++)
        puts(chain[i]);
    fflush(stdout);
    struct timespec now, start;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    do {
        for (int i = 0; i < 1000000; i++)
            sink += i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while (now.tv_sec - start.tv_sec + (now.tv_nsec - start.tv_nsec) * 1e-9 < seconds);
    return 1;
}

// Inlined into each of them: the chain holds frames only.
__attribute__((always_inline)) static inline int call(int left) {
    static int (*const frames[])(int) = {
        small_frame, array_frame, large_frame, dynamic_frame, register_frame,
#ifdef REALIGNED
        aligned_frame,
#endif
    };
    if (left == 0)
        return leaf();
    chance = chance * 6364136223846793005ul + 1442695040888963407ul;
    return frames[(chance >> 33) % (sizeof frames / sizeof *frames)](left);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int depth = atoi(argv[1]);
    seconds = atof(argv[2]);
    chain = calloc(depth + 16, sizeof *chain);
    ENTER();
    // main, the leaf, and what is between them.
    return call(depth - 2) > 0 ? 0 : 1;
}
