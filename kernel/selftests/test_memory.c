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
#include <sys/prctl.h>
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

/* What became of stores to pages that were taken away. */
enum stores { KEPT, LOST, NOT_TRIED };

/* Takes them away from a member that uses them, and lets it go on until it surely has written to
 * each of them since: its CPU may not run for long on a busy machine. */
static enum stores take_from(pid_t pid, struct request* r, volatile long* data,
                             bool (*take)(void)) {
    unsigned long before[WORDS], after[WORDS];
    long taken_at, moved = 0;
    int status;

    if (!EVENTUALLY(r->steps) || !read_frames(data, before) || !take()) return NOT_TRIED;
    taken_at = r->steps;
    /* One that misses a store of its own ends at once. */
    if (!EVENTUALLY(r->steps > taken_at + 1 || is_dead(pid)) || !read_frames(data, after))
        return NOT_TRIED;
    r->go = 1;
    status = wait_status(pid);
    if (status < 0) return NOT_TRIED;
    if (status > 0) return LOST;
    for (long i = 0; i < WORDS; i++) {
        moved += before[i] != after[i];
        if (data[i * 512] != r->steps) return LOST;
    }
    if (moved >= WORDS / 8) return KEPT;
    fail("only %ld pages were taken away", moved);
    return NOT_TRIED;
}

/* Pages are taken away while a member, which has a CPU for itself, uses them. */
static enum stores take_away(bool (*take)(void)) {
    struct request* r = new_request();
    volatile long* data = (volatile long*)new_data(WORDS * 4096);
    long hog = free_kib() * 1024 / 10 * 8, step = hog / WORDS / 4096 * 4096;
    char* memory = mmap(NULL, hog, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    enum stores stores;
    pid_t pid;

    /* The data all over the physical memory, with holes beside it. */
    for (long i = 0; i < WORDS; i++) {
        if (madvise(memory + i * step, step, MADV_POPULATE_WRITE)) return NOT_TRIED;
        data[i * 512] = 0;
    }
    munmap(memory, hog);
    pid = fork();
    if (!pid) {
        run_on_cpu(1);
        count_up(data, r);
    }
    stores = take_from(pid, r, data, take);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return stores;
}

static enum stores take_as_said(const struct test* test) {
    return take_away(test->value[0] ? swap_out : compact);
}

static bool taken_away(const struct test* test) {
    become_member(new_context());
    run_on_cpu(0);
    for (int i = 0; i < test->value[1]; i++) {
        enum stores stores = take_as_said(test);

        if (stores != KEPT)
            return fail(stores == LOST ? "a store is lost" : "it could not be tried");
    }
    return true;
}

/* Without the flushes a store is lost if the other CPU still knows the old page then. Mostly it
 * does; but what else runs there, a thread of the kernel's, may make it look anew, and on a busy
 * machine more of that runs within a round. So it is tried until it shows, within the time that a
 * test has; and a round in which nothing was taken away shows nothing. */
static bool taken_away_unnoticed(const struct test* test) {
    const long end = now_ms() + 45000;

    become_member(new_context());
    run_on_cpu(0);
    while (now_ms() < end)
        if (take_as_said(test) == LOST) return fail("a store is lost");
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

static struct request* told;

static void on_memory_error(int number, siginfo_t* info, void* context) {
    (void)number, (void)context;
    told->result = info->si_code == BUS_MCEERR_AO ? (long)info->si_addr : -1;
}

/* Loses the page at `at`, in a process that has mapped it, and is told by the same signal. */
static void lose(char* at) {
    pid_t pid = fork();

    if (!pid) {
        madvise(at, 4096, MADV_HWPOISON);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

/* A page of a pool is lost: members are told, as whoever has mapped the file itself. */
static bool memory_error(const struct test* test) {
    struct request* r = new_request();
    struct sigaction action = {.sa_sigaction = on_memory_error, .sa_flags = SA_SIGINFO};
    int context = new_context(), pool = memfd_create("pool", MFD_CLOEXEC);
    pid_t pid;

    told = r;
    CHECK(!ftruncate(pool, 8 * 4096));
    CHECK(!aep_ops(AEP_MAP_POOL, context, pool, AEP_POOL_BASE, 8 * 4096, 0));
    pid = fork();
    if (!pid) {
        sigaction(SIGBUS, &action, NULL);
        if (prctl(PR_MCE_KILL, PR_MCE_KILL_SET,
                  test->value[0] ? PR_MCE_KILL_LATE : PR_MCE_KILL_EARLY, 0, 0))
            _exit(3);
        become_member(context);
        ((volatile char*)AEP_POOL_BASE)[3 * 4096] = 1;
        r->inside = 1;
        while (!r->go) pause_a_little();
        _exit(0);
    }
    CHECK(EVENTUALLY(r->inside));
    lose((char*)mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, pool, 0) + 3 * 4096);
    if (!EVENTUALLY(r->result)) return fail("the member is not told");
    CHECK(r->result == (long)AEP_POOL_BASE + 3 * 4096);
    r->go = 1;
    CHECK(wait_status(pid) == 0);
    return true;
}

static bool memory_error_control(const struct test* test) {
    struct test not_asked = *test;

    not_asked.value[0] = 1;
    return memory_error(&not_asked);
}

const struct test memory_tests[] = {
    {"memory.compaction",
     taken_away,
     PART_FLUSH,
     {0, 8},
     taken_away_unnoticed,
     .expected = "a store is lost"},
    {"memory.swap",
     taken_away,
     PART_FLUSH,
     {1, 3},
     taken_away_unnoticed,
     .expected = "a store is lost"},
    {"memory.direct_io",
     direct_io,
     0,
     {0},
     beyond,
     .expected = "pwrite(disk, data, 4096, 0) == 4096"},
    {"memory.long_pin",
     long_pin,
     0,
     {0},
     beyond,
     .expected = "!syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1)"},
    {"memory.error", memory_error, 0, {0}, memory_error_control, "the member is not told"},
    {"memory.nothing_leaks",
     nothing_leaks,
     0,
     {0},
     leak_control,
     .expected = "free_kib() > first - 8 * 1024)"},
    {NULL},
};
