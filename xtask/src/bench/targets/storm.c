// A fork storm at a fixed rate: `storm RATE` starts RATE processes a second, each an exec of this
// file that ends at once. Ends by itself after ten minutes.
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 2)
        return 0; // One of the storm.
    long period = 1000000000 / atol(argv[1]);
    alarm(600);
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            execl("/proc/self/exe", "storm", (char *)NULL);
            _exit(127);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        next.tv_nsec += period;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}
