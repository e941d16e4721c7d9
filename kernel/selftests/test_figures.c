/* Purpose: what one page table for all is worth, and how long a kill is deferred: prints figures,
 * and fails if they are worse than the mechanism promises. Who calls it: harness.c. Crash rule: see
 * harness.h. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

/* A sparse pool: one page in each 2 MiB, hence one lowest page table for each. */
enum { TOUCHED = 128, STRIDE = 2 << 20 };

static long page_tables_kib(void) {
    char line[128];
    long kib = 0;
    FILE* meminfo = fopen("/proc/meminfo", "r");

    while (fgets(line, sizeof line, meminfo)) sscanf(line, "PageTables: %ld", &kib);
    fclose(meminfo);
    return kib;
}

static void client(int context, int pool, struct request* r, volatile int* ready) {
    volatile char* memory = (volatile char*)AEP_POOL_BASE;
    struct rusage before, after;

    if (context >= 0)
        become_member(context);
    else
        memory = mmap(NULL, TOUCHED * (size_t)STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED, pool, 0);
    __atomic_fetch_add(&r->inside, 1, __ATOMIC_SEQ_CST);
    while (!r->go) pause_a_little();
    getrusage(RUSAGE_SELF, &before);
    for (long i = 0; i < TOUCHED; i++) memory[i * STRIDE]++;
    getrusage(RUSAGE_SELF, &after);
    __atomic_fetch_add(&r->result, after.ru_minflt - before.ru_minflt, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(ready, 1, __ATOMIC_SEQ_CST);
    for (;;) pause();
}

/* How many faults, and how many KiB of page tables, so many clients need. */
static bool measure(int clients, bool shared, long* faults, long* tables) {
    struct request* r = new_request();
    int pool = memfd_create("pool", 0), context = shared ? new_context() : -1;
    pid_t pids[clients];

    CHECK(!ftruncate(pool, TOUCHED * (off_t)STRIDE));
    if (shared)
        CHECK(!aep_ops(AEP_MAP_POOL, context, pool, AEP_POOL_BASE, TOUCHED * (long)STRIDE, 0));
    for (int i = 0; i < clients; i++) {
        pids[i] = fork();
        if (!pids[i]) client(context, pool, r, &r->done);
    }
    CHECK(EVENTUALLY(r->inside == clients));
    *tables = page_tables_kib();
    r->go = 1;
    CHECK(EVENTUALLY(r->done == clients));
    *tables = page_tables_kib() - *tables;
    *faults = r->result;
    for (int i = 0; i < clients; i++) kill(pids[i], SIGKILL);
    for (int i = 0; i < clients; i++) waitpid(pids[i], NULL, 0);
    close(pool);
    if (shared) close(context);
    munmap(r, sizeof *r);
    return true;
}

static bool one_table(const struct test* test) {
    static const int clients[] = {1, 10, 100};
    long faults[2], tables[2];

    for (int i = 0; i < 3; i++) {
        for (int shared = 0; shared < 2; shared++)
            if (!measure(clients[i], shared && !test->value[0], &faults[shared], &tables[shared]))
                return false;
        printf(
            "# %3d clients, %d pages: own tables %ld faults, %ld KiB; one table %ld faults, %ld "
            "KiB\n",
            clients[i], TOUCHED, faults[0], tables[0], faults[1], tables[1]);
    }
    CHECK(faults[1] < faults[0] / 20 && tables[1] < tables[0] / 20);
    return true;
}

/* The same question about clients that all have tables of their own. */
static bool own_tables(const struct test* test) {
    struct test own = *test;

    own.value[0] = 1;
    return one_table(&own);
}

static long now_us(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void body_update(struct request* r) {
    for (;;) enter(r, OP_UPDATE);
}

static void body_spin(struct request* r) {
    for (r->inside = 1;;) r->steps++;
}

static bool deferral_time(const struct test* test) {
    enum { KILLS = 100 };
    int context = new_context();
    long expired = expirations(), took;

    (void)test;
    for (int inside = 0; inside < 2; inside++) {
        long sum = 0, longest = 0;

        for (int i = 0; i < KILLS; i++) {
            struct request* r = new_request();
            pid_t pid;

            r->arg[0] = 1000;
            pid = spawn(context, inside ? body_update : body_spin, r);
            CHECK(EVENTUALLY(r->steps > 100));
            took = now_us();
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            took = now_us() - took;
            sum += took;
            if (took > longest) longest = took;
            munmap(r, sizeof *r);
        }
        printf("# from kill to death, %s: mean %ld us, longest %ld us\n",
               inside ? "in operations of 1000 steps" : "in user code", sum / KILLS, longest);
    }
    CHECK(expirations() == expired);
    return true;
}

/* The same question about an operation that takes longer than the grace period. */
static bool too_long(const struct test* test) {
    struct request* r = new_request();
    long expired = expirations();
    pid_t pid;

    (void)test;
    r->arg[0] = 1L << 40;
    pid = spawn(new_context(), body_update, r);
    CHECK(EVENTUALLY(r->steps > 100));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CHECK(expirations() == expired);
    return true;
}

const struct test figure_tests[] = {
    {"figures.one_table", one_table, 0, {0}, own_tables, .expected = "faults[1] < faults[0] / 20"},
    {"figures.deferral_time",
     deferral_time,
     0,
     {0},
     too_long,
     .expected = "expirations() == expired"},
    {NULL},
};
