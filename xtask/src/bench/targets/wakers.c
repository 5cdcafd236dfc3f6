// Processes that wake now and then: `wakers N` starts N, each an exec of this file. Each sleeps 100
// to 300 ms by chance and works 0.2 ms. They end with the one that started them, or after ten minutes.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static volatile int sink;

static double millis(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
}

__attribute__((noinline)) static void work(void) {
    double end = millis() + 0.2;
    while (millis() < end)
        for (int i = 0; i < 1000; i++)
            sink += i;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    alarm(600);
    if (argc == 3) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        unsigned long long chance = 42 + atol(argv[2]);
        for (;;) {
            chance = chance * 6364136223846793005ull + 1442695040888963407ull;
            usleep(100000 + (chance >> 33) % 200000);
            work();
        }
    }
    for (int i = 0; i < atoi(argv[1]); i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", i);
        if (fork() == 0) {
            execl("/proc/self/exe", "wakers", "one", number, (char *)NULL);
            _exit(127);
        }
    }
    for (;;)
        pause();
}
