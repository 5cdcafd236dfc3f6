// Calls through 24 functions, each with a frame of its own size, and burns SECONDS of its own CPU
// time in the last one, most of it in a system call.
//
//   chain SECONDS
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FRAME __attribute__((noinline, noclone))

static double seconds;

FRAME static double used(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

FRAME static long leaf(long n) {
    double end = used() + seconds;
    do {
        for (int i = 0; i < 20000; i++) n += syscall(SYS_getpid);
    } while (used() < end);
    return n;
}

#define LEVEL(name, callee, bytes)               \
    FRAME static long name(long n) {             \
        volatile char local[bytes];              \
        local[n % bytes] = 1;                    \
        return callee(n + 1) + local[n % bytes]; \
    }

LEVEL(level_24, leaf, 40)
LEVEL(level_23, level_24, 900)
LEVEL(level_22, level_23, 80)
LEVEL(level_21, level_22, 16)
LEVEL(level_20, level_21, 1200)
LEVEL(level_19, level_20, 24)
LEVEL(level_18, level_19, 500)
LEVEL(level_17, level_18, 64)
LEVEL(level_16, level_17, 5000)
LEVEL(level_15, level_16, 33)
LEVEL(level_14, level_15, 210)
LEVEL(level_13, level_14, 16)
LEVEL(level_12, level_13, 72)
LEVEL(level_11, level_12, 2100)
LEVEL(level_10, level_11, 48)
LEVEL(level_09, level_10, 17)
LEVEL(level_08, level_09, 330)
LEVEL(level_07, level_08, 96)
LEVEL(level_06, level_07, 40)
LEVEL(level_05, level_06, 1024)
LEVEL(level_04, level_05, 20)
LEVEL(level_03, level_04, 128)
LEVEL(level_02, level_03, 56)
LEVEL(level_01, level_02, 16)

int main(int count, char **words) {
    seconds = count > 1 ? atof(words[1]) : 1;
    return level_01(count) == 7;
}
