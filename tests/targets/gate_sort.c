// Sorts numbers of no meaning for some tenths of a second: runs of it differ by what the machine does.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { COUNT = 1200000 };

static uint32_t numbers[COUNT];

__attribute__((noinline)) static int order(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

__attribute__((noinline)) static void fill(void) {
    uint64_t state = 1;
    for (int n = 0; n < COUNT; n++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        numbers[n] = (uint32_t)(state >> 33);
    }
}

int main(void) {
    fill();
    qsort(numbers, COUNT, sizeof *numbers, order);
    printf("%u\n", numbers[COUNT / 2]);
}
