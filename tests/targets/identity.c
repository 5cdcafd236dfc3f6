// Threads that outlive, or replace, the process's first one.
//   leader SECONDS    the first thread ends; another burns in `alone`, and prints its seconds of CPU
//   exec SECONDS      another thread burns in `before`, then becomes this program with `after SECONDS`
//   after SECONDS     burns in `after`
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double seconds;
static char **words;
static volatile int sink;

static double used(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double start;

#define BURN(name)                                                                                 \
    __attribute__((noipa)) static void name(void) {                                             \
        while (used() - start < seconds)                                                                   \
            for (int i = 0; i < 30000; i++)                                                        \
                sink += i;                                                                         \
    }
BURN(alone)
BURN(before)
BURN(after)

static void *leader(void *none) {
    usleep(50000);
    alone();
    printf("%.6f\n", used());
    fflush(stdout);
    return none;
}

static void *exec(void *none) {
    before();
    printf("%.6f\n", used());
    fflush(stdout);
    execl("/proc/self/exe", words[0], "after", words[2], NULL);
    perror("execl");
    exit(1);
    return none;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    words = argv;
    seconds = atof(argv[2]);
    pthread_t thread;
    if (strcmp(argv[1], "leader") == 0) {
        pthread_create(&thread, NULL, leader, NULL);
        pthread_exit(NULL);
    }
    if (strcmp(argv[1], "exec") == 0) {
        pthread_create(&thread, NULL, exec, NULL);
        pthread_join(thread, NULL);
        return 1;
    }
    // The thread that became this program brought its clock along.
    start = used();
    after();
    printf("%.6f\n", used() - start);
}
