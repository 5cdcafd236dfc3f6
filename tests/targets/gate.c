// Work in three functions: how much each has are the arguments. `twin` does what `alpha` does, under another name.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile unsigned sink;

#define WORK(name, factor)                             \
    __attribute__((noinline)) static void name(long n) \
    {                                                  \
        for (long i = 0; i < n * 20000; i++)           \
            sink += (unsigned)i * factor;              \
    }

WORK(alpha, 3u)
WORK(beta, 5u)
WORK(gamma_, 7u)
WORK(twin, 3u)

__attribute__((noinline)) static void in_child(long n)
{
    pid_t child = fork();
    if (child == 0) {
        gamma_(n);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

// Copies in the kernel.
__attribute__((noinline)) static void copies(long n)
{
    static char buffer[1 << 16];
    int ends[2];
    if (pipe(ends) != 0)
        exit(1);
    for (long i = 0; i < n * 4; i++)
        if (write(ends[1], buffer, sizeof buffer) < 0 || read(ends[0], buffer, sizeof buffer) < 0)
            exit(1);
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        long n = atol(argv[i + 1]);
        if (strcmp(argv[i], "alpha") == 0)
            alpha(n);
        if (strcmp(argv[i], "beta") == 0)
            beta(n);
        if (strcmp(argv[i], "twin") == 0)
            twin(n);
        if (strcmp(argv[i], "child") == 0)
            in_child(n);
        if (strcmp(argv[i], "copies") == 0)
            copies(n);
    }
    return 0;
}
