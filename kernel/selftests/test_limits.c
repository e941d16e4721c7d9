/* Purpose: what bounds a deferral: of time, also for what is no death; of memory beyond the group's limit;
 *          of system calls that would be begun again for ever.
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

#define GRACE_PERIOD "/sys/kernel/mm/aep/grace_period_ms"

static volatile int* handled;

static void on_signal(int number) {
    (void)number;
    *handled = 1;
}

static bool is_frozen(void) {
    char text[128] = "";
    int fd = open(cgroup("cgroup.events"), O_RDONLY | O_CLOEXEC);
    ssize_t got = read(fd, text, sizeof text - 1);

    close(fd);
    return got > 0 && strstr(text, "frozen 1");
}

enum { STOP, HANDLER, FREEZE };

static bool in_effect(int what, pid_t pid) {
    return what == STOP ? state_of(pid) == 'T' : what == FREEZE ? is_frozen() : *handled;
}

/* Not only a death has a deadline: what is pending takes effect in the middle of an operation that does
 * not end. */
static bool endless_operation(const struct test* test) {
    struct request *r = new_request(), *seen = new_request();
    long expired = expirations(), began, took;
    int what = test->value[0];
    bool effect;
    pid_t pid;

    CHECK(write_file(GRACE_PERIOD, "300"));
    handled = &seen->op;
    signal(SIGUSR1, on_signal);
    r->op = OP_LOOP;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside) && write_file(cgroup("cgroup.procs"), "%d", pid));
    began = now_ms();
    if (what == FREEZE)
        CHECK(write_file(cgroup("cgroup.freeze"), "1"));
    else
        CHECK(!kill(pid, what == STOP ? SIGSTOP : SIGUSR1));
    effect = EVENTUALLY(in_effect(what, pid));
    took = now_ms() - began;
    if (what == FREEZE) CHECK(write_file(cgroup("cgroup.freeze"), "0"));
    if (!effect) return fail("it has no effect");
    CHECK(took >= 300 && expirations() == expired + 1);
    CHECK(!kill(pid, SIGKILL) && !kill(pid, SIGCONT));
    CHECK(wait_status(pid) == SIGKILL);
    CHECK(write_file(GRACE_PERIOD, "2000"));
    return true;
}

/* The administrator does not want to wait any longer. */
static bool shortened(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    pid_t pid;

    (void)test;
    CHECK(write_file(GRACE_PERIOD, "3600000"));
    r->op = OP_LOOP;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside) && !kill(pid, SIGKILL));
    CHECK(EVENTUALLY(deferrals() > before) && proceeds(r));
    CHECK(write_file(GRACE_PERIOD, "100"));
    if (wait_status(pid) != SIGKILL) return fail("it has not been ended");
    CHECK(write_file(GRACE_PERIOD, "2000"));
    return true;
}

/* Calls that look for pending signals themselves, or wait for one: each ends with EINTR, although the
 * signal stays pending. */
static bool interrupted_call(const struct test* test) {
    static sigset_t other; /* another mask than the present one: that is when it looks */
    static struct pollfd nothing;
    const long calls[][5] = {
        {SYS_clone, SIGCHLD, 0, 0, 0},
        {SYS_rt_sigsuspend, (long)&other, 8, 0, 0},
        {SYS_ppoll, (long)&nothing, 0, 0, (long)&other},
        {SYS_vfork, 0, 0, 0, 0},
    };
    struct request *r = new_request(), *seen = new_request();
    long before = deferrals();
    int status;
    pid_t pid;

    handled = &seen->op;
    signal(SIGUSR1, on_signal);
    sigaddset(&other, SIGUSR2);
    r->op = OP_HELD_SYSCALL;
    memcpy(r->arg, calls[test->value[0]], sizeof calls[0]);
    r->arg[5] = 8;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside) && !kill(pid, SIGUSR1));
    CHECK(EVENTUALLY(deferrals() > before) && proceeds(r));
    r->go = 1;
    if (!EVENTUALLY(r->done)) return fail("the call does not end");
    if (r->result != -EINTR) return fail("result %ld", r->result);
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7 && *handled);
    return true;
}

static void body_stack(struct request* r) {
    struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};

    setrlimit(RLIMIT_STACK, &unlimited);
    enter(r, OP_STACK);
}

/* A dying operation gets some memory beyond the limit of its group, but not all there is. */
static bool memory_budget(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    pid_t pid;

    (void)test;
    CHECK(write_file(GRACE_PERIOD, "60000"));
    CHECK(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"));
    r->arg[0] = 12000; /* 47 MiB */
    pid = spawn(new_context(), body_stack, r);
    CHECK(EVENTUALLY(r->inside) && write_file(cgroup("cgroup.procs"), "%d", pid));
    CHECK(write_file(cgroup("memory.max"), "2M"));
    CHECK(!kill(pid, SIGKILL) && EVENTUALLY(deferrals() > before));
    r->go = 1;
    CHECK(wait_status(pid) == SIGKILL);
    CHECK(write_file(cgroup("memory.max"), "max"));
    CHECK(write_file(GRACE_PERIOD, "2000"));
    if (r->done) return fail("it got all the memory it wanted");
    return true;
}

static void body_first_victim(struct request* r) {
    char* memory = mmap(NULL, 24 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    write_file("/proc/self/oom_score_adj", "1000");
    while (!r->go) pause_a_little();
    if (madvise(memory, 24 << 20, MADV_POPULATE_WRITE)) _exit(9);
    r->go = 0;
    enter(r, OP_HOLD);
}

/* A group is out of memory. Nobody else has to die while the first victim completes its operation. */
static bool one_victim(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    pid_t victim, hog;

    (void)test;
    CHECK(write_file(GRACE_PERIOD, "60000"));
    CHECK(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"));
    CHECK(write_file(cgroup("memory.max"), "48M"));
    victim = spawn(new_context(), body_first_victim, r);
    CHECK(write_file(cgroup("cgroup.procs"), "%d", victim));
    r->go = 1;
    CHECK(EVENTUALLY(r->inside));
    hog = fork();
    if (!hog) {
        write_file(cgroup("cgroup.procs"), "%d", getpid());
        madvise(mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                64 << 20, MADV_POPULATE_WRITE);
        for (;;) pause();
    }
    CHECK(EVENTUALLY(deferrals() > before) && proceeds(r));
    /* The reaper begins after 2 s, and tries for 1. */
    for (long end = now_ms() + 4500; now_ms() < end; pause_a_little())
        if (is_dead(hog)) return fail("a second victim");
    CHECK(!is_dead(victim) && proceeds(r));
    r->go = 1;
    CHECK(wait_status(victim) == SIGKILL && r->done);
    kill(hog, SIGKILL);
    CHECK(wait_status(hog) == SIGKILL);
    CHECK(write_file(cgroup("memory.max"), "max"));
    return true;
}

const struct test limit_tests[] = {
    {"limit.stop", endless_operation, PART_LIMIT, {STOP}, NULL, "it has no effect"},
    {"limit.handler", endless_operation, PART_LIMIT, {HANDLER}, NULL, "it has no effect"},
    {"limit.freeze", endless_operation, PART_LIMIT, {FREEZE}, NULL, "it has no effect"},
    {"limit.shortened", shortened, PART_LIMIT, {0}, NULL, "it has not been ended"},
    {"limit.clone",
     interrupted_call,
     PART_RESTART | PART_LIMIT,
     {0},
     NULL,
     "the call does not end"},
    {"limit.sigsuspend",
     interrupted_call,
     PART_RESTART | PART_LIMIT,
     {1},
     NULL,
     "the call does not end"},
    {"limit.ppoll",
     interrupted_call,
     PART_RESTART | PART_LIMIT,
     {2},
     NULL,
     "the call does not end"},
    {"limit.vfork",
     interrupted_call,
     PART_RESTART | PART_LIMIT,
     {3},
     NULL,
     "the call does not end"},
    {"limit.memory_budget", memory_budget, PART_LIMIT, {0}, NULL, "it got all the memory"},
    {"limit.one_victim", one_victim, PART_LIMIT, {0}, NULL, "a second victim"},
    {NULL},
};
