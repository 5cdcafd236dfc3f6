// A library for names.c: linked with it, loaded by it, or compiled without CFI.
#define FRAME __attribute__((noinline, noclone))
#define KEEP_FRAME() __asm__ volatile("" ::: "memory")

static volatile long sink;

void library_nothing(void) {}

FRAME static void plugin_loop(void) {
    for (int i = 0; i < 100000; i++)
        sink += i;
}

void plugin_work(int (*going_on)(void)) {
    while (going_on())
        plugin_loop();
}

FRAME static void plugin_inner(void (*function)(void)) {
    function();
    KEEP_FRAME();
}

void plugin_call(void (*function)(void)) {
    plugin_inner(function);
    KEEP_FRAME();
}
