/* Purpose: who becomes a member, and what of a context: joining and forking at the same time, and failing
 *          at each of their allocations; kinds of files and of text; others who look at a member's memory
 *          by tables of their own.
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

#ifndef UFFD_FEATURE_WP_ASYNC /* newer than this system's headers */
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

/* The n-th allocation of the calling thread from now on fails; true if it has come to that. */
static int fail_nth(int n) {
    char text[16] = "";
    int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC), length;

    length = snprintf(text, sizeof text, "%d", n);
    if (fd < 0 || write(fd, text, (size_t)length) != length) exit(fail("no fail-nth: %m") + 3);
    return fd;
}

static bool has_failed(int fd) {
    char text[16] = "";
    bool failed = read(fd, text, sizeof text - 1) > 0 && atoi(text) == 0;

    if (write(fd, "0", 1) != 1) exit(fail("fail-nth: %m") + 3);
    close(fd);
    return failed;
}

/* The kernel leaves out allocations that may wait, unless it is told not to. */
static bool all_allocations_fail(void) {
    static const char* const kinds[] = {"failslab", "fail_page_alloc"};
    char path[96];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/sys/kernel/debug/%s/ignore-gfp-wait", kinds[i]);
        CHECK(write_file(path, "N"));
        snprintf(path, sizeof path, "/sys/kernel/debug/%s/verbose", kinds[i]);
        CHECK(write_file(path, "0"));
    }
    CHECK(write_file("/sys/kernel/debug/fail_page_alloc/min-order", "0"));
    return true;
}

static bool is_mapped(unsigned long at) { return !msync((void*)at, 4096, MS_ASYNC); }

enum { FAILURES = 400 };

/* Another process is to join, and each allocation on the way fails once: it stays what it was, and its
 * caller too. */
static bool join_fails(const struct test* test) {
    struct request* r = new_request();
    int context = new_context(), failures = 0, status;
    long size, own_size, joined = -1;
    pid_t pid;

    if (!all_allocations_fail()) return false;
    pid = fork();
    if (!pid) {
        while (!r->go) pause_a_little();
        enter(r, OP_RETURN);
        _exit(7);
    }
    CHECK(EVENTUALLY(state_of(pid) == 'S'));
    size = field_of(pid, "VmSize");
    own_size = field_of(getpid(), "VmSize");
    for (int n = 1; n < FAILURES && joined; n++) {
        int pidfd = pidfd_of(pid), nth = test->value[0] ? -1 : fail_nth(n);

        joined = aep_ops(AEP_JOIN, context, pidfd, 0, 0, 0);
        if (nth >= 0) failures += has_failed(nth);
        close(pidfd);
        if (joined && field_of(pid, "VmSize") != size)
            return fail("%ld KiB after failure %d, %ld before", field_of(pid, "VmSize"), n, size);
        CHECK(field_of(getpid(), "VmSize") == own_size);
    }
    CHECK(!joined);
    r->go = 1;
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7 && r->done);
    if (failures < 3) return fail("%d failures", failures);
    return true;
}

/* A member forks, and each allocation on the way fails once. */
static bool fork_fails(const struct test* test) {
    struct request* r = new_request();
    int failures = 0, status;

    if (!all_allocations_fail()) return false;
    become_member(new_context());
    for (int n = 1; n < FAILURES; n++) {
        int nth = test->value[0] ? -1 : fail_nth(n);
        long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        bool failed;

        if (!pid) {
            enter(r, OP_RETURN);
            _exit(7);
        }
        failed = nth >= 0 && has_failed(nth);
        failures += failed;
        if (pid > 0) {
            status = wait_status((pid_t)pid);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7 && r->done);
        }
        if (!failed) break;
    }
    enter(r, OP_RETURN);
    if (failures < 3) return fail("%d failures", failures);
    return true;
}

/* The same without a failure. */
static bool nothing_fails(const struct test* test) {
    struct test same = *test;

    same.value[0] = 1;
    return test->run(&same);
}

static void* fork_members(void* request) {
    struct request* r = request;

    while (!r->go) {
        long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

        if (!pid) {
            bool member = is_mapped(AEP_SHADOW);

            if (member != is_mapped(AEP_BASE)) _exit(1);
            if (member) enter(r, OP_RETURN);
            _exit(member ? 2 : 0);
        }
        int status = 0;

        waitpid((pid_t)pid, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) == 1) r->second++;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 2) r->first++;
        r->steps++;
    }
    return NULL;
}

/* A process joins while a thread of it forks: each child is a member, or it is none. */
static bool join_during_fork(const struct test* test) {
    for (int round = 0; round < 40; round++) {
        struct request* r = new_request();
        int context = new_context(), status;
        pid_t pid = fork();

        if (!pid) {
            pthread_t thread;

            /* Something to copy. */
            mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                 -1, 0);
            pthread_create(&thread, NULL, fork_members, r);
            pthread_join(thread, NULL);
            _exit(7);
        }
        CHECK(EVENTUALLY(r->steps >= 1 + round % 3));
        if (!test->value[0]) CHECK(!join(context, pid));
        if (!EVENTUALLY(r->first >= 2 || r->second)) return fail("no child is a member");
        r->go = 1;
        status = wait_status(pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        if (r->second) return fail("%ld children are members by halves", r->second);
        close(context);
        munmap(r, sizeof *r);
    }
    return true;
}

static int file_on(const char* kind) {
    static const char where[] = "/tmp/pool";
    int fd;

    if (!strcmp(kind, "memfd")) return memfd_create("pool", MFD_CLOEXEC);
    if (kind[0] == '/') return open(kind, O_RDWR | O_CLOEXEC);
    mkdir(where, 0755);
    if (!strcmp(kind, "ext4") && system("mke2fs -q /dev/ram1 >/dev/null")) return -1;
    if (mount(!strcmp(kind, "ext4") ? "/dev/ram1" : "none", where, kind, 0, NULL)) return -1;
    fd = open("/tmp/pool/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    umount2(where, MNT_DETACH);
    return fd;
}

/* A pool is memory. A file system has to be told of each first write to a page, and may move its blocks:
 * its mappings are not for this. */
static bool pool_kinds(const struct test* test) {
    static const struct {
        const char* kind;
        long answer;
    } all[] = {{"memfd", 0},
               {"tmpfs", 0},
               {"/dev/dax0.0", 0},
               {"ramfs", -EOPNOTSUPP},
               {"ext4", -EOPNOTSUPP},
               {"/dev/zero", -EOPNOTSUPP},
               {"hugetlbfs", -EOPNOTSUPP}};

    (void)test;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int context = new_context(), fd = file_on(all[i].kind);
        long answer;

        if (fd < 0) return fail("no file of %s: %m", all[i].kind);
        if (all[i].kind[0] != '/') CHECK(!ftruncate(fd, 4 << 20));
        answer = aep_ops(AEP_MAP_POOL, context, fd, AEP_POOL_BASE, 4 << 20, 0);
        if (answer != all[i].answer) return fail("a pool of %s: %ld", all[i].kind, answer);
        close(fd);
        close(context);
    }
    return true;
}

/* Who has a file of the text open could write to it, and members execute that. */
static bool sealed_text(const struct test* test) {
    static const int seals[] = {0, F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_WRITE | F_SEAL_SHRINK};
    int context = new_context();

    (void)test;
    for (int i = 0; i < 4; i++) {
        long place[] = {AEP_BASE + (1 << 20), AEP_SHADOW};
        int other = (int)aep_ops(AEP_INIT, 0, 0, 0, 0, 0), fd;

        fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        CHECK(other >= 0 && !ftruncate(fd, 4096));
        if (seals[i]) CHECK(!fcntl(fd, F_ADD_SEALS, seals[i]));
        for (int j = 0; j < 2; j++) {
            long answer =
                aep_ops(AEP_MMAP_EXEC, j ? other : context, fd, place[j], AEP_SHADOW_SIZE, 0);

            if (answer != (i == 3 ? 0 : -EPERM)) return fail("seals %d: %ld", seals[i], answer);
        }
        close(fd);
        close(other);
    }
    return true;
}

/* A device that fills tables of its own from a process's (lib/test_hmm.c), as KVM does: it would not be
 * told when a page of the context goes. */
static bool secondary_tables(const struct test* test) {
    struct request* r = new_request();
    int context = new_context(), device;
    pid_t pid;

    (void)test;
    pid = fork();
    if (!pid) {
        become_member(context);
        device = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
        r->result = device < 0 ? -errno : 0;
        _exit(0);
    }
    CHECK(wait_status(pid) == 0);
    if (r->result != -EOPNOTSUPP) return fail("a member's device: %ld", r->result);
    device = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
    CHECK(device >= 0);
    if (join(context, getpid()) != -EOPNOTSUPP) return fail("a user of the device has joined");
    CHECK(!is_mapped(AEP_SHADOW) && !is_mapped(AEP_BASE));
    return true;
}

/* What one member asks of the range would be for all, or not be done. */
static bool others_services(const struct test* test) {
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_WP};
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    volatile char* data;

    CHECK(fd >= 0 && !ioctl(fd, UFFDIO_API, &api));
    become_member(new_context());
    data = new_data(4096);
    data[0] = 1;
    range.range.start = test->value[0] ? (unsigned long)new_request() : AEP_MMAP_BASE;
    range.range.len = 4096;
    if (!ioctl(fd, UFFDIO_REGISTER, &range)) return fail("userfaultfd is registered");
    range.range.start = AEP_BASE;
    range.range.len = AEP_SIZE;
    if (!ioctl(fd, UFFDIO_REGISTER, &range)) return fail("userfaultfd is registered");
    CHECK(!setrlimit(RLIMIT_MEMLOCK, &all));
    CHECK(!mlockall(MCL_CURRENT));
    if (field_of(getpid(), "VmLck") > 1 << 20) return fail("the range is locked");
    CHECK(!munlockall());
    return true;
}

static bool services_control(const struct test* test) {
    struct test other = *test;

    other.value[0] = 1;
    return others_services(&other);
}

const struct test attach_tests[] = {
    {"attach.join_fails", join_fails, 0, {0}, nothing_fails, "failures"},
    {"attach.fork_fails", fork_fails, 0, {0}, nothing_fails, "failures"},
    {"attach.join_during_fork", join_during_fork, 0, {0}, nothing_fails, "no child is a member"},
    {"attach.pool_kinds", pool_kinds, PART_KINDS, {0}, NULL, "a pool of ramfs: 0"},
    {"attach.sealed_text", sealed_text, PART_KINDS, {0}, NULL, "seals 0: 0"},
    {"attach.secondary_tables",
     secondary_tables,
     PART_SECONDARY,
     {0},
     NULL,
     "a member's device: 0"},
    {"attach.others_services",
     others_services,
     0,
     {0},
     services_control,
     "userfaultfd is registered"},
    {NULL},
};
