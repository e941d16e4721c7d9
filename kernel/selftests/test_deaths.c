/* Purpose: ways to die, and to run out of memory or time, that a careless kernel would miss.
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

static void body_exit_group(struct request* r) {
    hold_in_another_thread(r);
    _exit(5);
}

static void body_exec(struct request* r) {
    hold_in_another_thread(r);
    execl("/bin/busybox", "sh", "-c", "exit 6", NULL);
}

/* The process stays until the operation has ended, and then ends as it wanted to. */
static bool sibling_ends(const struct test* test) {
    struct request* r = new_request();
    void (*const body)(struct request*) = test->value[0] == 5 ? body_exit_group : body_exec;
    long before = deferrals();
    int status;
    pid_t pid;

    pid = spawn(new_context(), body, r);
    CHECK(EVENTUALLY(deferrals() > before || is_dead(pid)));
    CHECK(!is_dead(pid) && proceeds(r));
    r->go = 1;
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == test->value[0] && r->done);
    return true;
}

static int clone_child(void* r) {
    enter(r, OP_HOLD);
    _exit(0);
}

static void body_clone_vm(struct request* r) {
    char* stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    r->result = clone(clone_child, stack + 65536, CLONE_VM | SIGCHLD, r);
    for (;;) pause();
}

/* Two processes with one address space: one of them is killed. */
static bool clone_vm(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    pid_t pid;

    (void)test;
    pid = spawn(new_context(), body_clone_vm, r);
    CHECK(EVENTUALLY(r->inside && r->result));
    CHECK(!kill((pid_t)r->result, SIGKILL));
    CHECK(EVENTUALLY(deferrals() > before || is_dead((pid_t)r->result)));
    CHECK(!is_dead((pid_t)r->result) && proceeds(r));
    r->go = 1;
    CHECK(EVENTUALLY(is_dead((pid_t)r->result)) && r->done && !is_dead(pid));
    return true;
}

static bool cgroup_kill(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    pid_t pid;

    (void)test;
    r->op = OP_HOLD;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(write_file(cgroup("cgroup.procs"), "%d", pid));
    CHECK(write_file(cgroup("cgroup.kill"), "1"));
    CHECK(EVENTUALLY(deferrals() > before || is_dead(pid)));
    CHECK(!is_dead(pid) && proceeds(r));
    r->go = 1;
    CHECK(wait_status(pid) == SIGKILL && r->done);
    return true;
}

/* The memory of a killed process is asked back while its operation still needs it. */
static bool memory_is_not_reaped(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    pid_t pid;

    (void)test;
    r->op = OP_HOLD;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(!kill(pid, SIGKILL));
    CHECK(EVENTUALLY(deferrals() > before));
    CHECK(syscall(SYS_process_mrelease, pidfd_of(pid), 0) == -1 && errno == EAGAIN);
    CHECK(proceeds(r));
    r->go = 1;
    CHECK(wait_status(pid) == SIGKILL && r->done);
    return true;
}

static void body_big_stack(struct request* r) {
    struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};

    setrlimit(RLIMIT_STACK, &unlimited);
    enter(r, OP_STACK);
}

/* The operation needs more memory than its group may have, and is the one that has to die. */
static bool memory_limit(const struct test* test) {
    struct request* r = new_request();
    long expired = expirations();
    pid_t pid;

    (void)test;
    CHECK(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"));
    r->arg[0] = 1500;
    pid = spawn(new_context(), body_big_stack, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(write_file(cgroup("cgroup.procs"), "%d", pid));
    CHECK(write_file(cgroup("memory.max"), "2M"));
    r->go = 1;
    CHECK(wait_status(pid) == SIGKILL);
    CHECK(write_file(cgroup("memory.max"), "max"));
    CHECK(r->done && expirations() == expired);
    return true;
}

static void* fork_thread(void* unused) {
    for (;;)
        if (!fork()) _exit(0);
    return unused;
}

/* Fork holds the lock for as long as there is memory to copy. */
static void body_contended(struct request* r) {
    pthread_t thread;

    signal(SIGCHLD, SIG_IGN);
    mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    pthread_create(&thread, NULL, fork_thread, NULL);
    enter(r, OP_STACK);
}

/* Page faults of a dying operation while others hold the lock of the address space. */
static bool contended_faults(const struct test* test) {
    int context = new_context();

    (void)test;
    for (int i = 0; i < 30; i++) {
        struct request* r = new_request();
        pid_t pid;

        r->arg[0] = 1000;
        pid = spawn(context, body_contended, r);
        CHECK(EVENTUALLY(r->inside));
        r->go = 1;
        pause_a_little();
        kill(pid, SIGKILL);
        CHECK(wait_status(pid) == SIGKILL);
        CHECK(r->done);
        munmap(r, sizeof *r);
    }
    return true;
}

/* An operation that does not end is ended. */
static bool grace_period(const struct test* test) {
    struct request* r = new_request();
    long expired = expirations();
    pid_t pid;

    (void)test;
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "300"));
    r->op = OP_LOOP;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(!kill(pid, SIGKILL));
    CHECK(wait_status(pid) == SIGKILL && expirations() == expired + 1);
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "2000"));
    return true;
}

/* A container that gets little CPU time: the grace period is not of wall-clock time. */
static bool grace_is_cpu_time(const struct test* test) {
    struct request* r = new_request();
    long expired = expirations();
    pid_t pid;

    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "400"));
    CHECK(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpu"));
    r->op = OP_HOLD;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(write_file(cgroup("cgroup.procs"), "%d", pid));
    CHECK(write_file(cgroup("cpu.max"), test->value[0] ? "max 100000" : "2000 100000"));
    CHECK(!kill(pid, SIGKILL));
    for (long end = now_ms() + 1500; now_ms() < end && !is_dead(pid);) pause_a_little();
    CHECK(write_file(cgroup("cpu.max"), "max 100000"));
    r->go = 1;
    CHECK(wait_status(pid) == SIGKILL);
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "2000"));
    CHECK(r->done && expirations() == expired);
    return true;
}

static bool grace_control(const struct test* test) {
    struct test full_speed = *test;

    full_speed.value[0] = 1;
    return grace_is_cpu_time(&full_speed);
}

/* The core is that of a signal that came after the operation. */
static bool core_dump(const struct test* test) {
    struct request* r = new_request();
    struct rlimit limit = {test->value[0] ? 0 : RLIM_INFINITY, RLIM_INFINITY};
    struct stat core;
    int status;
    pid_t pid;

    CHECK(write_file("/proc/sys/kernel/core_pattern", "/tmp/core"));
    unlink("/tmp/core");
    CHECK(!setrlimit(RLIMIT_CORE, &limit));
    r->op = OP_HOLD;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside) && !kill(pid, SIGABRT) && proceeds(r));
    r->go = 1;
    status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && WCOREDUMP(status) && r->done);
    /* Without the half tebibyte of the context. */
    CHECK(!stat("/tmp/core", &core) && core.st_size > 4096 && core.st_size < 64 << 20);
    unlink("/tmp/core");
    return true;
}

static bool core_control(const struct test* test) {
    struct test none = *test;

    none.value[0] = 1;
    return core_dump(&none);
}

/* A filter of the process kills it for aep_ops(2): its own doing, and in place. */
static void body_seccomp(struct request* r) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NR_AEP_OPS, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {4, code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &filter)) _exit(3);
    r->arg[0] = NR_AEP_OPS;
    r->arg[1] = AEP_BRK;
    enter(r, OP_SYSCALL);
}

static bool seccomp_kill(const struct test* test) {
    struct request* r = new_request();
    int status;

    (void)test;
    status = wait_status(spawn(new_context(), body_seccomp, r));
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && r->inside && !r->done);
    return true;
}

/* A page that the operation needs is served by another process, after the kill. */
static bool userfault(const struct test* test) {
    struct request *r = new_request(), *info = new_request();
    struct uffdio_zeropage zero = {.range = {.len = 4096}};
    int context = new_context(), uffd;
    long before = deferrals();
    pid_t pid;

    (void)test;
    pid = fork();
    if (!pid) {
        struct uffdio_api api = {.api = UFFD_API};
        char* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct uffdio_register region = {{(long)page, 4096}, UFFDIO_REGISTER_MODE_MISSING, 0};

        become_member(context);
        info->arg[0] = syscall(SYS_userfaultfd, O_CLOEXEC);
        if (info->arg[0] < 0 || ioctl((int)info->arg[0], UFFDIO_API, &api) ||
            ioctl((int)info->arg[0], UFFDIO_REGISTER, &region))
            _exit(3);
        r->arg[0] = info->arg[1] = (long)page;
        enter(r, OP_READ);
        _exit(0);
    }
    CHECK(EVENTUALLY(r->inside && state_of(pid) == 'S'));
    uffd = (int)syscall(SYS_pidfd_getfd, pidfd_of(pid), info->arg[0], 0);
    CHECK(uffd >= 0);
    CHECK(!kill(pid, SIGKILL));
    CHECK(EVENTUALLY(deferrals() > before || is_dead(pid)) && !is_dead(pid));
    CHECK(EVENTUALLY(state_of(pid) == 'S') && !r->done);
    zero.range.start = info->arg[1];
    CHECK(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
    CHECK(wait_status(pid) == SIGKILL && r->done);
    return true;
}

const struct test death_tests[] = {
    {"death.exit_group_by_sibling",
     sibling_ends,
     PART_DEFER,
     {5},
     .expected = "!is_dead(pid) && proceeds(r)"},
    {"death.exec_by_sibling",
     sibling_ends,
     PART_DEFER,
     {6},
     .expected = "!is_dead(pid) && proceeds(r)"},
    {"death.clone_vm", clone_vm, PART_DEFER,
     .expected = "!is_dead((pid_t)r->result) && proceeds(r)"},
    {"death.cgroup_kill", cgroup_kill, PART_DEFER, .expected = "!is_dead(pid) && proceeds(r)"},
    {"death.memory_is_not_reaped", memory_is_not_reaped, PART_REAP,
     .expected = "syscall(SYS_process_mrelease, pidfd_of(pid), 0) == -1"},
    {"death.memory_limit", memory_limit, PART_CHARGE,
     .expected = "r->done && expirations() == expired"},
    {"death.contended_faults", contended_faults, PART_SHIELD, .expected = "r->done"},
    {"death.grace_period", grace_period, PART_GRACE,
     .expected = "wait_status(pid) == SIGKILL && expirations() == expired + 1"},
    {"death.grace_is_cpu_time",
     grace_is_cpu_time,
     0,
     {0},
     grace_control,
     .expected = "r->done && expirations() == expired"},
    {"death.core_dump",
     core_dump,
     0,
     {0},
     core_control,
     .expected = "WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT"},
    {"death.userfault", userfault, PART_DEFER,
     .expected = "deferrals() > before || is_dead(pid)) && !is_dead(pid)"},
    {"death.seccomp_kill", seccomp_kill, PART_ABORT,
     .expected = "WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS"},
    {NULL},
};
