/* Purpose: memory of other kinds in a context: a device's, huge pages, pages of several nodes.
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

enum { HUGE = 2 << 20 };

/* A pool on a DAX device (run.sh --pool) in a context of its own; this process is a member. */
static bool map_device_pool(long bytes) {
    int context = new_context(), device = open("/dev/dax0.0", O_RDWR | O_CLOEXEC);

    if (device < 0) return fail("no /dev/dax0.0: boot with --pool");
    CHECK(!aep_ops(AEP_MAP_POOL, context, device, AEP_POOL_BASE, bytes, 0));
    close(device);
    become_member(context);
    return true;
}

static bool pin(char* at) {
    struct io_uring_params parameters = {0};
    struct iovec buffer = {at, 4096};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &parameters);

    CHECK(ring >= 0);
    CHECK(!syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1));
    close(ring);
    return true;
}

/* Real pages: two members sleep and wake on a word, a disk reads and writes them, io_uring pins
 * them. */
static bool device_pool(const struct test* test) {
    char* data = (char*)AEP_POOL_BASE + HUGE;
    int *word, disk, status;
    pid_t pid;

    if (!map_device_pool(4L * HUGE)) return false;
    if (test->value[0]) data += 4L * HUGE; /* beyond the mapping */
    word = (int*)(data + 8192);
    disk = open("/dev/ram1", O_RDWR | O_DIRECT);
    CHECK(disk >= 0);
    if (!pin(data)) return false;
    memset(data, 'p', 4096);
    memset(data + 4096, 0, 4096);
    CHECK(pwrite(disk, data, 4096, 0) == 4096 && pread(disk, data + 4096, 4096, 0) == 4096);
    CHECK(!memcmp(data, data + 4096, 4096));
    *word = 0;
    pid = fork();
    if (!pid) {
        long slept = syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);

        _exit(slept && errno != EAGAIN ? 1 : *(volatile int*)word);
    }
    CHECK(EVENTUALLY(state_of(pid) == 'S'));
    *(volatile int*)word = 5;
    CHECK(EVENTUALLY(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) == 1));
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    return true;
}

static bool device_control(const struct test* test) {
    struct test other = *test;

    other.value[0] = 1;
    return device_pool(&other);
}

/* An operation whose data lies on the device completes although its thread is killed. */
static bool device_deferral(const struct test* test) {
    struct request* r;
    long before = deferrals();
    int status;
    pid_t pid;

    (void)test;
    if (!map_device_pool(4L * HUGE)) return false;
    r = (struct request*)AEP_POOL_BASE;
    memset(r, 0, sizeof *r);
    pid = fork();
    if (!pid) {
        enter(r, OP_HOLD);
        _exit(7);
    }
    CHECK(EVENTUALLY(r->inside));
    kill(pid, SIGKILL);
    CHECK(EVENTUALLY(deferrals() > before || is_dead(pid)));
    CHECK(!is_dead(pid) && proceeds(r));
    r->go = 1;
    status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && r->done);
    return true;
}

static long meminfo_kib(const char* name) {
    char line[128];
    long kib = -1;
    FILE* file = fopen("/proc/meminfo", "r");

    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name))) kib = atol(line + strlen(name) + 1);
    if (file) fclose(file);
    return kib;
}

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* The context's memory in huge pages: mapped as such, seen by each member, taken apart and moved
 * under them. */
static bool huge_pages(const struct test* test) {
    volatile char* data;
    long before;
    int status;
    pid_t pid;

    /* After many tests free memory is in pieces, and a fault does not wait for it to be moved. */
    CHECK(write_file("/proc/sys/vm/compact_memory", "1"));
    CHECK(write_file(SHMEM_ENABLED, test->value[0] ? "never" : "force"));
    become_member(new_context());
    before = meminfo_kib("ShmemPmdMapped");
    data = new_data(4 * HUGE);
    data = (char*)(((unsigned long)data + HUGE - 1) & -(unsigned long)HUGE);
    for (long i = 0; i < 2L * HUGE; i += 4096) data[i] = (char)(i >> 12);
    CHECK(write_file(SHMEM_ENABLED, "never"));
    CHECK(meminfo_kib("ShmemPmdMapped") >= before + 2 * (HUGE >> 10));
    pid = fork();
    if (!pid) {
        for (long i = 0; i < 2L * HUGE; i += 4096) {
            if (data[i] != (char)(i >> 12)) _exit(1);
            data[i]++;
        }
        _exit(0);
    }
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* Apart, by the kernel's own switch, and together somewhere else. */
    CHECK(write_file("/sys/kernel/debug/split_huge_pages", "1"));
    CHECK(meminfo_kib("ShmemPmdMapped") == before);
    CHECK(write_file("/proc/sys/vm/compact_memory", "1"));
    for (long i = 0; i < 2L * HUGE; i += 4096) CHECK(data[i] == (char)((i >> 12) + 1));
    return true;
}

static bool huge_control(const struct test* test) {
    struct test other = *test;

    other.value[0] = 1;
    return huge_pages(&other);
}

static long vmstat(const char* name) {
    char line[128];
    long value = 0;
    FILE* file = fopen("/proc/vmstat", "r");

    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ')
            value = atol(line + strlen(name) + 1);
    if (file) fclose(file);
    return value;
}

static void* sleep_forever(void* nothing) {
    pause();
    return nothing;
}

enum { BALANCED_PAGES = 4096, BALANCED_SECONDS = 8 };

/* Balancing takes access away from pages, to see who uses them. Of a context it would do so for
 * every member. */
static bool numa_balancing(const struct test* test) {
    const long bytes = BALANCED_PAGES * 4096L;
    volatile char* data;
    pthread_t thread;
    long before, end;

    if (access("/sys/devices/system/node/node1", F_OK))
        return fail("one node: boot with numa=fake=2");
    CHECK(write_file("/proc/sys/kernel/numa_balancing", "1"));
    become_member(new_context());
    data = test->value[0]
               ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
               : new_data(bytes);
    /* Of a process with one thread only the pages of other nodes are looked at. */
    CHECK(!pthread_create(&thread, NULL, sleep_forever, NULL));
    before = vmstat("numa_pte_updates");
    end = now_ms() + BALANCED_SECONDS * 1000;
    for (char round = 1; now_ms() < end; round++) {
        for (long i = 0; i < bytes; i += 4096) data[i] = round;
        for (long i = 0; i < bytes; i += 4096)
            if (data[i] != round) return fail("page %ld lost a store", i / 4096);
    }
    CHECK(write_file("/proc/sys/kernel/numa_balancing", "0"));
    /* The rest of the process is a few dozen pages. */
    before = vmstat("numa_pte_updates") - before;
    if (before > BALANCED_PAGES / 4) return fail("%ld pages were made inaccessible", before);
    return true;
}

static bool numa_control(const struct test* test) {
    struct test other = *test;

    other.value[0] = 1;
    return numa_balancing(&other);
}

const struct test kind_tests[] = {
    {"kind.device_pool",
     device_pool,
     0,
     {0},
     device_control,
     .expected = "!syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1)"},
    {"kind.device_deferral", device_deferral, PART_DEFER,
     .expected = "!is_dead(pid) && proceeds(r)"},
    {"kind.huge_pages", huge_pages, 0, {0}, huge_control, .expected = "ShmemPmdMapped"},
    {"kind.numa_balancing",
     numa_balancing,
     0,
     {0},
     numa_control,
     .expected = "pages were made inaccessible"},
    {NULL},
};
