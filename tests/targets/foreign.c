// Spends its time in code of a large file that is no program: a JIT's memory file, a library of another
// system. Its words are the file to make and seconds. Says `ready`, and ends when its standard input does.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (9l << 20)

// push %rbp; mov %rsp,%rbp; mov $10000000,%ecx; 1: dec %ecx; jnz 1b; pop %rbp; ret
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xb9, 0x80, 0x96, 0x98, 0x00,
                                     0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3};

int main(int argc, char **argv) {
    int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0755);
    if (argc < 2 || file < 0 || ftruncate(file, BYTES) || pwrite(file, code, sizeof code, 0) < 0)
        return perror("its file"), 1;
    void *mapped = mmap(NULL, BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED)
        return perror("mmap"), 1;
    puts("ready");
    fflush(stdout);
    fcntl(0, F_SETFL, O_NONBLOCK);
    for (char c; read(0, &c, 1) != 0;)
        ((void (*)(void))mapped)();
}
