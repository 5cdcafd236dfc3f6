// Burns SECONDS of its own CPU time, in `burn`, called by one of these:
//
//   burn main SECONDS         the main function
//   burn constructor SECONDS  a constructor, before main
//   burn daemon SECONDS       a process that forked twice and has a session of its own; the one that
//                             was started ends at once
//   burn children SECONDS N   N children, one after the other, which end by themselves
//   burn threads SECONDS N    N threads at once, each for SECONDS; says `ready` when they run, and
//                             ends when standard input does or they are done
//
// It says what it knows as `NAME VALUE`: pids, CPU seconds.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int sink;

static double thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

__attribute__((noinline)) static void burn(double seconds) {
    double end = thread_seconds() + seconds;
    do {
        for (int i = 0; i < 300000; i++)
            sink += i;
    } while (thread_seconds() < end);
}

__attribute__((constructor, noinline)) static void before_main(int argc, char **argv) {
    if (argc >= 3 && strcmp(argv[1], "constructor") == 0) {
        burn(atof(argv[2]));
        printf("seconds %f\n", thread_seconds());
    }
}

__attribute__((noinline)) static void run_daemon(double seconds) {
    if (fork() > 0)
        return;
    setsid();
    if (fork() > 0)
        _exit(0);
    printf("pid %d\n", getpid());
    fflush(stdout);
    burn(seconds);
    _exit(0);
}

__attribute__((noinline)) static void run_children(double seconds, int n) {
    for (int i = 0; i < n; i++) {
        pid_t child = fork();
        if (child == 0) {
            burn(seconds);
            _exit(0);
        }
        printf("pid %d\n", child);
        waitpid(child, NULL, 0);
    }
}

static double each;
static pthread_barrier_t started;

static void *thread(void *unused) {
    pthread_barrier_wait(&started);
    burn(each);
    return unused;
}

static void *watch_input(void *unused) {
    while (getchar() != EOF)
        ;
    exit(0);
    return unused;
}

static void run_threads(double seconds, int n) {
    pthread_t threads[64], watcher;
    each = seconds;
    pthread_barrier_init(&started, NULL, n + 1);
    for (int i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, thread, NULL);
    pthread_create(&watcher, NULL, watch_input, NULL);
    pthread_barrier_wait(&started);
    puts("ready");
    fflush(stdout);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    double seconds = atof(argv[2]);
    int n = argc > 3 ? atoi(argv[3]) : 1;
    if (strcmp(argv[1], "main") == 0)
        burn(seconds);
    if (strcmp(argv[1], "daemon") == 0)
        run_daemon(seconds);
    if (strcmp(argv[1], "children") == 0)
        run_children(seconds, n);
    if (strcmp(argv[1], "threads") == 0 && n <= 64)
        run_threads(seconds, n);
    return 0;
}
