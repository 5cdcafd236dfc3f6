// Four kinds of work in C: arithmetic, memory, recursion, system calls. See phases.h.
#include "phases.h"
#include <sys/syscall.h>
#include <unistd.h>

#define PHASE __attribute__((noinline, noclone))

static volatile long sink;
static char memory[8 << 20];

#define FOR_A_WHILE(WORK)                                                                                              \
    long long start = thread_nanos(), length = phase_length();                                                         \
    do {                                                                                                               \
        WORK;                                                                                                          \
    } while (thread_nanos() - start < length);                                                                         \
    return thread_nanos() - start

PHASE static long long arithmetic(void) {
    FOR_A_WHILE(for (int i = 0; i < 20000; i++) sink += i * i);
}

PHASE static long long memory_walk(void) {
    FOR_A_WHILE(for (int i = 0; i < 4000; i++) memory[chance(sizeof memory)]++);
}

PHASE static long fibonacci(int n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

PHASE static long long recursion(void) {
    FOR_A_WHILE(sink += fibonacci(15));
}

PHASE static long long system_calls(void) {
    FOR_A_WHILE(for (int i = 0; i < 100; i++) sink += syscall(SYS_getppid));
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    static const struct {
        const char *name;
        long long (*run)(void);
        unsigned weight;
    } phases[] = {
        {"arithmetic", arithmetic, 50}, {"memory_walk", memory_walk, 30}, {"recursion", recursion, 15}, {"system_calls", system_calls, 5}};
    long long spent[4] = {0}, total = 0;
    while (total < seconds * 1e9) {
        unsigned at = chance(100), n = 0;
        while (at >= phases[n].weight)
            at -= phases[n++].weight;
        long long nanos = phases[n].run();
        spent[n] += nanos;
        total += nanos;
    }
    for (int n = 0; n < 4; n++)
        printf("%s %lld\n", phases[n].name, spent[n]);
    return 0;
}
