// Maps, moves, splits, joins and unmaps pages of code without pause, and calls into them.
//
//     churn SECONDS THREADS FILE-A OFFSET-A FILE-B OFFSET-B
//
// A file has PAGES functions, each on a page of its own (generated, see tests/churn.rs): `a_17` is page
// 17 of file a. This program calls it through `from_a_17`, wherever it is mapped: so each stack says
// itself which page of which file must stand above which frame. `a_17` checks that it is what was called.
// Page n of one file calls page 5n + 1 of the other, LEVELS of them, and the last one `churn`.
#define _GNU_SOURCE
#include "chain.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096l
#define LEVELS 4
// Of each level's part of a thread's own arena.
#define SLOTS 32
#define CODE (PROT_READ | PROT_EXEC)

static int files[2];
static long offsets[2];
static char *linear[2];
static int threads;
static double end;

static void fail(const char *what) {
    perror(what);
    abort();
}

#include "calls.h"

struct thread {
    struct chain chain;
    int number;
    unsigned long chance;
    char *arena;
    // Where the chain's pages stand that are not in `linear`: slot, file, page.
    struct {
        char *at;
        int file, page;
    } used[LEVELS];
    int n_used;
    long rounds;
};

static unsigned chance(struct thread *t, unsigned below) {
    t->chance = t->chance * 6364136223846793005ul + 1442695040888963407ul;
    return (t->chance >> 33) % below;
}

static void map(char *at, int file, int page, int pages, int protection) {
    if (mmap(at, pages * PAGE, protection, MAP_PRIVATE | MAP_FIXED, files[file], offsets[file] + page * PAGE) != at)
        fail("mmap");
}

static void unmap(char *at, int pages) {
    // Reserved, so that nothing of somebody else's comes here.
    if (mmap(at, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != at)
        fail("mmap");
}

// Makes a page of a file executable at `at`, one way or another; the slots beside it are free.
static void place(struct thread *t, char *at, int file, int page) {
    char *elsewhere = t->arena + LEVELS * SLOTS * PAGE;
    switch (chance(t, 4)) {
    case 0:
        map(at, file, page, 1, CODE);
        break;
    case 1:
        map(at, file, page, 1, PROT_READ);
        if (mprotect(at, PAGE, CODE))
            fail("mprotect");
        break;
    case 2:
        map(elsewhere, file, page, 1, CODE);
        if (mremap(elsewhere, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
            fail("mremap");
        break;
    default:
        // With its neighbours, of which one half goes again.
        if (page == 0 || page == PAGES - 1)
            map(at, file, page, 1, CODE);
        else {
            map(at - PAGE, file, page - 1, 3, CODE);
            unmap(at - PAGE, 1);
        }
    }
}

// Called by the last page of a chain: changes what lies beside the pages that the stack leads through.
__attribute__((noinline)) static long churn(struct chain *c) {
    struct thread *t = (struct thread *)c;
    for (int n = 0; n < t->n_used; n++) {
        char *at = t->used[n].at;
        int file = t->used[n].file, page = t->used[n].page;
        // What continues the mapping joins it: its start and file offset change, or its end.
        if (page > 0 && chance(t, 2)) {
            map(at - PAGE, file, page - 1, 1, CODE);
            unmap(at - PAGE, 1);
        }
        if (page < PAGES - 1 && chance(t, 2)) {
            map(at + PAGE, file, page + 1, 1, CODE);
            if (chance(t, 2) && mprotect(at + PAGE, PAGE, PROT_READ))
                fail("mprotect");
        }
    }
    // A page of our own in the mappings that all threads run in. Even pages stay.
    int file = chance(t, 2), page = (int)chance(t, PAGES / 2 / threads) * 2 * threads + 2 * t->number + 1;
    char *at = linear[file] + page * PAGE;
    if (chance(t, 2)) {
        if (mprotect(at, PAGE, PROT_READ) || mprotect(at, PAGE, CODE))
            fail("mprotect");
    } else {
        // Another file's page in between.
        map(at, !file, page, 1, CODE);
        map(at, file, page, 1, CODE);
    }
    return 0;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

__attribute__((noinline)) static void *run(void *argument) {
    struct thread *t = argument;
    while (now() < end) {
        int file = chance(t, 2), page = chance(t, PAGES);
        t->chain.left = LEVELS - 1;
        t->chain.spins = 1500;
        t->n_used = 0;
        int first_file = file, first_page = page;
        for (int level = 0; level < LEVELS; level++) {
            char *at = linear[file] + page * PAGE;
            if (page % 2 || chance(t, 2)) {
                at = t->arena + (level * SLOTS + 1 + chance(t, SLOTS - 2)) * PAGE;
                place(t, at, file, page);
                t->used[t->n_used].at = at;
                t->used[t->n_used].file = file;
                t->used[t->n_used++].page = page;
            }
            t->chain.at[file][page] = (page_function *)at;
            file = !file;
            page = (page * 5 + 1) % PAGES;
        }
        calls[first_file][first_page](&t->chain);
        for (int n = 0; n < t->n_used; n++)
            if (chance(t, 2))
                unmap(t->used[n].at - PAGE, 3);
        t->rounds++;
    }
    return argument;
}

int main(int argc, char **argv) {
    if (argc != 7)
        return 2;
    threads = atoi(argv[2]);
    for (int file = 0; file < 2; file++) {
        files[file] = open(argv[3 + 2 * file], O_RDONLY);
        offsets[file] = atol(argv[4 + 2 * file]);
        linear[file] = mmap(NULL, PAGES * PAGE, CODE, MAP_PRIVATE, files[file], offsets[file]);
        if (files[file] < 0 || linear[file] == MAP_FAILED)
            fail(argv[3 + 2 * file]);
    }
    end = now() + atof(argv[1]);
    static struct thread all[16];
    pthread_t ids[16];
    for (int n = 0; n < threads; n++) {
        struct thread *t = &all[n];
        long bytes = (LEVELS * SLOTS + 2) * PAGE;
        t->arena = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (t->arena == MAP_FAILED)
            fail("mmap");
        t->number = n;
        t->chance = n + 1;
        t->chain.calls = calls;
        t->chain.churn = churn;
        pthread_create(&ids[n], NULL, run, t);
    }
    long rounds = 0;
    for (int n = 0; n < threads; n++) {
        pthread_join(ids[n], NULL);
        rounds += all[n].rounds;
    }
    printf("rounds %ld\n", rounds);
    return 0;
}
