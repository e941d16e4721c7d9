/* Purpose: the context's pages as the rest of the kernel sees them: moved, swapped out, pinned,
 * freed. Who calls it: harness.c. Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

/* Few enough pages that a TLB, QEMU's too, keeps all their entries. */
enum { WORDS = 32 };

/* Counts up a word in each page. A store to a page that is no longer there is lost; that shows when
 * the page is looked up again. */
static void count_up(volatile long* data, struct request* r) {
    for (long round = 1;; round++) {
        for (long i = 0; i < WORDS; i++) {
            if (data[i * 512] != round - 1) _exit(1);
            data[i * 512] = round;
        }
        r->steps = round;
        if (r->go) _exit(0);
    }
}

static void run_on_cpu(long number) {
    unsigned long mask = 1UL << number;

    if (syscall(SYS_sched_setaffinity, 0, sizeof mask, &mask) < 0)
        exit(fail("no CPU %ld", number) + 3);
}

/* Where the pages of the data lie in the physical memory. */
static bool read_frames(volatile long* data, unsigned long* frame) {
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    CHECK(pread(pagemap, frame, WORDS * sizeof *frame, (long)data / 4096 * 8) ==
          WORDS * sizeof *frame);
    close(pagemap);
    for (int i = 0; i < WORDS; i++) frame[i] &= (1UL << 55) - 1;
    return true;
}

static bool compact(void) {
    CHECK(write_file("/proc/sys/vm/compact_memory", "1"));
    return true;
}

static bool swap_out(void) {
    CHECK(!system("mkswap /dev/ram0 >/dev/null") && !swapon("/dev/ram0", 0));
    for (int i = 0; i < 2; i++) write_file("/sys/fs/cgroup/memory.reclaim", "4M swappiness=200");
    CHECK(!swapoff("/dev/ram0"));
    return true;
}

/* Pages are taken away while a member, which has a CPU for itself, uses them. */
static bool taken_away_once(bool (*take)(void)) {
    struct request* r = new_request();
    volatile long* data = (volatile long*)new_data(WORDS * 4096);
    unsigned long before[WORDS], after[WORDS];
    long hog = free_kib() * 1024 / 10 * 8, step = hog / WORDS / 4096 * 4096, moved = 0;
    char* memory = mmap(NULL, hog, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t pid;

    /* The data all over the physical memory, with holes beside it. */
    for (long i = 0; i < WORDS; i++) {
        CHECK(!madvise(memory + i * step, step, MADV_POPULATE_WRITE));
        data[i * 512] = 0;
    }
    munmap(memory, hog);
    pid = fork();
    if (!pid) {
        run_on_cpu(1);
        count_up(data, r);
    }
    CHECK(EVENTUALLY(r->steps));
    CHECK(read_frames(data, before));
    if (!take()) return false;
    CHECK(read_frames(data, after));
    r->go = 1;
    CHECK(wait_status(pid) == 0);
    for (long i = 0; i < WORDS; i++) {
        moved += before[i] != after[i];
        CHECK(data[i * 512] == r->steps);
    }
    if (moved < WORDS / 8) return fail("only %ld pages were taken away", moved);
    return true;
}

/* Several times: on a busy machine the other CPU may not have run meanwhile. */
static bool taken_away(const struct test* test) {
    become_member(new_context());
    run_on_cpu(0);
    for (int i = 0; i < test->value[1]; i++)
        if (!taken_away_once(test->value[0] ? swap_out : compact)) return false;
    return true;
}

/* A disk reads from and writes to the pages themselves. */
static bool direct_io(const struct test* test) {
    char* data;
    int disk;

    become_member(new_context());
    data = (char*)new_data(2 * 4096);
    memset(data, 'd', 4096);
    if (test->value[0]) data += 8192; /* not handed out */
    disk = open("/dev/ram1", O_RDWR | O_DIRECT);
    CHECK(disk >= 0);
    CHECK(pwrite(disk, data, 4096, 0) == 4096 && pread(disk, data + 4096, 4096, 0) == 4096);
    CHECK(!memcmp(data, data + 4096, 4096));
    return true;
}

/* Pages are pinned for long, as io_uring and drivers do. */
static bool long_pin(const struct test* test) {
    struct io_uring_params parameters = {0};
    struct iovec buffer = {.iov_len = 4096};
    int ring;

    become_member(new_context());
    buffer.iov_base = (char*)new_data(4096) + test->value[0] * 4096;
    ring = (int)syscall(SYS_io_uring_setup, 4, &parameters);
    CHECK(ring >= 0);
    CHECK(!syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1));
    close(ring);
    return true;
}

/* The same question about memory that has not been handed out. */
static bool beyond(const struct test* test) {
    struct test other = *test;

    other.value[0] = 1;
    return test->run(&other);
}

enum { LEAK_PAGES = 256 };

/* What a context and its members have taken is free again. */
static bool nothing_leaks(const struct test* test) {
    long first = 0;

    for (int i = 0; i < 60; i++) {
        int context = new_context(), status;
        pid_t pid = fork();

        if (!pid) {
            volatile char* data;

            become_member(context);
            data = new_data(LEAK_PAGES * 4096);
            for (long i = 0; i < LEAK_PAGES; i++) data[i * 4096]++;
            if (!fork())
                for (long i = 0; i < LEAK_PAGES; i++) data[i * 4096]++;
            _exit(0);
        }
        while ((pid = waitpid(-1, &status, 0)) > 0) CHECK(status == 0);
        if (!test->value[0]) close(context);
        if (i == 9) first = free_kib();
    }
    /* 50 contexts of 1 MiB each. */
    CHECK(EVENTUALLY(free_kib() > first - 8 * 1024));
    return true;
}

static bool leak_control(const struct test* test) {
    struct test leaking = *test;

    leaking.value[0] = 1;
    return nothing_leaks(&leaking);
}

const struct test memory_tests[] = {
    {"memory.compaction", taken_away, PART_FLUSH, {0, 8}},
    {"memory.swap", taken_away, PART_FLUSH, {1, 3}},
    {"memory.direct_io", direct_io, 0, {0}, beyond},
    {"memory.long_pin", long_pin, 0, {0}, beyond},
    {"memory.nothing_leaks", nothing_leaks, 0, {0}, leak_control},
    {NULL},
};
