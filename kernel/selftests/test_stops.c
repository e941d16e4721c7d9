/* Purpose: ways to be interrupted without dying that a careless kernel would miss.
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

static struct request* held;
static volatile int* handled;

static void on_signal(int number) {
    (void)number;
    *handled = held->done ? 2 : 1;
}

static void body_handler(struct request* r) {
    held = r;
    signal(SIGUSR1, on_signal);
    enter(r, OP_HOLD);
}

/* A handler runs after the operation: it might never return. */
static bool handler_waits(const struct test* test) {
    struct request *r = new_request(), *seen = new_request();
    long before = deferrals();
    int status;
    pid_t pid;

    (void)test;
    handled = &seen->op;
    pid = spawn(new_context(), body_handler, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(!kill(pid, SIGUSR1));
    CHECK(EVENTUALLY(deferrals() > before || *handled));
    CHECK(proceeds(r) && *handled == 0);
    r->go = 1;
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && *handled == 2);
    return true;
}

static void* enter_thread(void* other) {
    enter(other, OP_RETURN);
    return NULL;
}

static struct request* second_request;

static void body_two_threads(struct request* r) {
    pthread_t thread;

    held = r;
    signal(SIGUSR1, on_signal);
    hold_in_another_thread(r);
    while (second_request->go == 0) pause_a_little();
    pthread_create(&thread, NULL, enter_thread, second_request);
    second_request->inside = 0;
    pthread_join(thread, NULL);
}

/* While a thread is deferred, no other enters; afterwards it does. */
static bool entry_is_closed(const struct test* test) {
    struct request *r = new_request(), *seen = new_request();
    long before = deferrals();
    int status;
    pid_t pid;

    (void)test;
    handled = &seen->op;
    second_request = new_request();
    pid = spawn(new_context(), body_two_threads, r);
    CHECK(EVENTUALLY(r->inside));
    /* A signal for the thread inside: the last one made. */
    CHECK(!syscall(SYS_tgkill, pid, pid + 1, SIGUSR1));
    CHECK(EVENTUALLY(deferrals() > before));
    second_request->go = 1;
    /* The third thread exists, and sleeps in its fault. */
    CHECK(EVENTUALLY(state_of(pid + 2) == 'S' || second_request->done));
    CHECK(!second_request->done && proceeds(r));
    r->go = 1;
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7 && second_request->done);
    return true;
}

static bool is_frozen(void) {
    char text[128] = "";
    int fd = open(cgroup("cgroup.events"), O_RDONLY);
    ssize_t got = read(fd, text, sizeof text - 1);

    close(fd);
    return got > 0 && strstr(text, "frozen 1");
}

static bool cgroup_freeze(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    bool frozen_inside;
    pid_t pid;

    (void)test;
    r->op = OP_HOLD;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(write_file(cgroup("cgroup.procs"), "%d", pid));
    CHECK(write_file(cgroup("cgroup.freeze"), "1"));
    frozen_inside = !EVENTUALLY(deferrals() > before || is_frozen()) || is_frozen();
    r->go = 1;
    CHECK(frozen_inside || EVENTUALLY(is_frozen()));
    CHECK(write_file(cgroup("cgroup.freeze"), "0"));
    CHECK(WIFEXITED(wait_status(pid)) && r->done);
    CHECK(!frozen_inside);
    return true;
}

static bool power_freeze(void) {
    return write_file("/sys/power/pm_test", "freezer") && write_file("/sys/power/state", "freeze");
}

/* The system is put to sleep while a thread waits for a futex inside: it is not frozen there. */
static bool system_freeze(const struct test* test) {
    struct request* r = new_request();
    pid_t pid;

    (void)test;
    CHECK(write_file("/sys/power/pm_freeze_timeout", "1000"));
    r->op = OP_WAIT;
    r->arg[0] = SYS_futex;
    r->arg[1] = (long)&r->go;
    r->arg[2] = FUTEX_WAIT;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside && state_of(pid) == 'S'));
    CHECK(!power_freeze());
    r->go = 1;
    CHECK(EVENTUALLY(syscall(SYS_futex, &r->go, FUTEX_WAKE, 1, NULL, NULL, 0) == 1));
    CHECK(WIFEXITED(wait_status(pid)) && r->done);
    CHECK(power_freeze());
    return true;
}

static bool ptrace_interrupt(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    int status;
    pid_t pid;

    (void)test;
    r->op = OP_HOLD;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(!ptrace(PTRACE_SEIZE, pid, 0, 0) && !ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    CHECK(EVENTUALLY(deferrals() > before || state_of(pid) == 't'));
    CHECK(state_of(pid) != 't' && proceeds(r));
    r->go = 1;
    CHECK(EVENTUALLY(waitpid(pid, &status, WNOHANG) == pid) && WIFSTOPPED(status) && r->done);
    CHECK(!ptrace(PTRACE_DETACH, pid, 0, 0));
    CHECK(WIFEXITED(wait_status(pid)));
    return true;
}

const struct test stop_tests[] = {
    {"stop.handler_waits", handler_waits, PART_DEFER, .expected = "proceeds(r) && *handled == 0"},
    {"stop.entry_is_closed", entry_is_closed, PART_CLOSE,
     .expected = "!second_request->done && proceeds(r)"},
    {"stop.cgroup_freeze", cgroup_freeze, PART_DEFER, .expected = "!frozen_inside"},
    {"stop.system_freeze", system_freeze, PART_FREEZE, .expected = "!power_freeze()"},
    {"stop.ptrace_interrupt", ptrace_interrupt, PART_DEFER,
     .expected = "state_of(pid) != 't' && proceeds(r)"},
    {NULL},
};
