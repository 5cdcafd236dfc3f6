// A library of gate.c: -DSTEPS=N makes it as dear as that.
#ifndef STEPS
#define STEPS 90000
#endif

static volatile unsigned long sink;

__attribute__((noinline)) static void inside(long n)
{
    unsigned long x = (unsigned long)n;
    for (long i = 0; i < n * STEPS; i++) {
        x = x * 6364136223846793005ul + 1442695040888963407ul;
        __asm__ volatile("" : "+r"(x));
    }
    sink = x;
}

void library(long n);
void library(long n)
{
    inside(n);
    sink++;
}
