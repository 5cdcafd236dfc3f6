// A file of code that another process can do things to while it runs:
//
//   truncated FILE
//
// FILE is a shared library with a function `burn_here`, which runs until standard input ends. Says `ready`.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *run(void *function) {
    ((void (*)(void))function)();
    return NULL;
}

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    void *function = library ? dlsym(library, "burn_here") : NULL;
    if (!function) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    pthread_t thread;
    pthread_create(&thread, NULL, run, function);
    if (write(1, "ready\n", 6) != 6)
        return 2;
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
}
