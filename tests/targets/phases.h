// Phases of work by chance. Each phase's function takes its own thread's CPU clock at its borders;
// at the end the program says how much each had: `NAME NANOSECONDS`. C and C++.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned long long chance_state = 42;

static unsigned chance(unsigned below) {
    chance_state = chance_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(chance_state >> 33) % below;
}

static inline long long thread_nanos(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

// Between 0.1 and 30 ms: below, at and above the time between two samples.
static long long phase_length(void) {
    return 100000 + chance(30) * 1000000ll;
}
