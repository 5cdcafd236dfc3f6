// What a CPython of a version to come exports, with nothing behind it: SECONDS of CPU time in
// `PyEval_EvalCode`. Link with `-rdynamic`.
#include <stdlib.h>
#include <time.h>

// Include/patchlevel.h: 3.255.0, final.
const unsigned long Py_Version = 0x03ff00f0;
unsigned long PyCode_Type[64] = {1};
unsigned long _PyRuntime[64] = {1};

static volatile int sink;

static double seconds_used(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

__attribute__((noinline)) void PyEval_EvalCode(double seconds) {
    double end = seconds_used() + seconds;
    do {
        for (int i = 0; i < 300000; i++)
            sink += i;
    } while (seconds_used() < end);
}

int main(int argc, char **argv) {
    PyEval_EvalCode(argc > 1 ? atof(argv[1]) : 1);
    return 0;
}
