/* Purpose: members that make use of the deferral for themselves: a process of its own code, threads and
 *          mappings that jumps to a system call instruction of the text, where its death is deferred, and
 *          from there back to its own code, in order to live on. It has to die as soon as it is outside.
 * Who calls it: harness.c.
 * Crash rule: what has survived ends by itself after some seconds: signals may not reach it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

/* What the member does when it is back in its own code. */
enum { SPIN, EXEC, FORK, THREAD, FAULT };
/* Where its system calls come from. */
enum { OWN, TEXT };
/* How it is to end: each leaves other traces of it in the kernel. */
enum { KILL, CGROUP_KILL, SIBLING_EXITS };

enum { SURVIVOR_SECONDS = 12 };

__asm__(
    ".text\n"
    "own_gadget: syscall\n"
    "    ret\n");
extern const char own_gadget[];

/* In the text of any image there is one. */
static const char* text_gadget(void) {
    const char* at = memmem((const char*)AEP_BASE, 1 << 16, "\x0f\x05\xc3", 3);

    if (!at) fail("no gadget in the text");
    return at;
}

static long call_at(const char* gadget, long number, long a, long b, long c) {
    long result;

    __asm__ volatile(
        "sub $128, %%rsp\n"
        "call *%[gadget]\n"
        "add $128, %%rsp\n"
        : "=a"(result)
        : "a"(number), "D"(a), "S"(b), "d"(c), [gadget] "r"(gadget)
        : "rcx", "r11", "memory");
    return result;
}

static struct request* own;
static int wake[2];
static char byte;
static char* missing;

/* A process or thread that should not be. */
static void survive(void) {
    for (long end = now_ms() + SURVIVOR_SECONDS * 1000; now_ms() < end;) own->steps++;
    __asm__ volatile("syscall" : : "a"(SYS_exit), "D"(0) : "rcx", "r11", "memory");
    __builtin_unreachable();
}

static void act(int what, const char* gadget) {
    static const char* const words[] = {"sleep", "12", NULL};
    static char stack[1 << 16] __attribute__((aligned(16)));
    const long thread =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    void** top = (void**)(stack + sizeof stack) - 2;

    switch (what) {
        case EXEC:
            call_at(gadget, SYS_execve, (long)"/bin/busybox", (long)words, 0);
            break;
        case FORK:
            call_at(gadget, SYS_clone, SIGCHLD, 0, 0);
            break;
        case THREAD:
            *top = (void*)survive;
            call_at(gadget, SYS_clone, thread, (long)top, 0);
            break;
        case FAULT:
            (void)*(volatile char*)missing;
            break;
        default:
            break;
    }
    survive();
}

/* A page that nobody provides. */
static char* missing_page(void) {
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    char* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    range.range.start = (unsigned long)page;
    range.range.len = 4096;
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range)) _exit(9);
    return page;
}

/* Waits at the gadget of the text, and goes on in its own code. */
static void escape(struct request* r) {
    const char* text = text_gadget();

    r->inside = 1;
    while (call_at(text, SYS_read, wake[0], (long)&byte, 1) == -EINTR) continue;
    r->returned = 1;
    act((int)r->arg[0], r->arg[1] == TEXT ? text : own_gadget);
}

static void* escape_thread(void* r) {
    escape(r);
    return NULL;
}

static void body_hostile(struct request* r) {
    pthread_t thread;

    own = r;
    if (r->arg[0] == FAULT) missing = missing_page();
    if (r->arg[2] != SIBLING_EXITS) escape(r);
    pthread_create(&thread, NULL, escape_thread, r);
    while (!r->go) pause_a_little();
    _exit(5);
}

static bool sleeps_in_read(pid_t pid, pid_t tid) {
    char path[64], text[128] = "";
    int fd;

    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", pid, tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return !strncmp(text, "0 ", 2);
}

/* It is told to die while it is at the text's gadget: its death is deferred, by a grace period that is
 * far too long for what follows. */
static bool survives(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    int how = test->value[2], status;
    pid_t pid;

    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "60000"));
    CHECK(!pipe(wake));
    for (int i = 0; i < 3; i++) r->arg[i] = test->value[i];
    pid = spawn(new_context(), body_hostile, r);
    CHECK(EVENTUALLY(r->inside) && write_file(cgroup("cgroup.procs"), "%d", pid));
    CHECK(EVENTUALLY(sleeps_in_read(pid, how == SIBLING_EXITS ? pid + 1 : pid)));
    if (how == KILL) CHECK(!kill(pid, SIGKILL));
    if (how == CGROUP_KILL) CHECK(write_file(cgroup("cgroup.kill"), "1"));
    r->go = 1;
    CHECK(EVENTUALLY(deferrals() > before));
    CHECK(EVENTUALLY(sleeps_in_read(pid, how == SIBLING_EXITS ? pid + 1 : pid)));
    CHECK(write(wake[1], "x", 1) == 1);
    if (!EVENTUALLY(!populated())) return fail("it has survived");
    status = wait_status(pid);
    CHECK(how == SIBLING_EXITS ? WIFEXITED(status) && WEXITSTATUS(status) == 5 : status == SIGKILL);
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "2000"));
    return true;
}

static volatile int* handled;

static void on_signal(int number) {
    (void)number;
    *handled = 1;
}

/* The same with what is not a death: a stop, or a signal with a handler. */
static bool evades(const struct test* test) {
    struct request *r = new_request(), *seen = new_request();
    long before = deferrals();
    int number = test->value[0];
    pid_t pid;

    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "60000"));
    CHECK(!pipe(wake));
    handled = &seen->op;
    signal(SIGUSR1, on_signal);
    r->arg[0] = SPIN;
    pid = spawn(new_context(), body_hostile, r);
    CHECK(EVENTUALLY(r->inside) && EVENTUALLY(sleeps_in_read(pid, pid)));
    CHECK(!kill(pid, number));
    CHECK(EVENTUALLY(deferrals() > before) && EVENTUALLY(sleeps_in_read(pid, pid)));
    CHECK(!*handled && write(wake[1], "x", 1) == 1);
    if (!EVENTUALLY(number == SIGSTOP ? state_of(pid) == 'T' : *handled))
        return fail("it has evaded the signal");
    CHECK(!kill(pid, SIGKILL) && wait_status(pid) == SIGKILL);
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "2000"));
    return true;
}

/* A whole family of them: each forks from the text as fast as it can. */
static void breed(struct request* r) {
    const char* text = text_gadget();

    own = r;
    r->inside = 1;
    for (long end = now_ms() + SURVIVOR_SECONDS * 1000; now_ms() < end;) {
        long pid = call_at(text, SYS_clone, SIGCHLD, 0, 0);

        if (pid < 0) sched_yield();
    }
}

static bool family(const struct test* test) {
    struct request* r = new_request();
    pid_t pid;

    (void)test;
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "60000"));
    CHECK(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+pids"));
    for (int i = 0; i < 5; i++) {
        r->inside = r->go = 0;
        pid = fork();
        if (!pid) {
            become_member(new_context());
            while (!r->go) pause_a_little();
            breed(r);
            _exit(0);
        }
        CHECK(write_file(cgroup("cgroup.procs"), "%d", pid));
        CHECK(write_file(cgroup("pids.max"), "40"));
        r->go = 1;
        CHECK(EVENTUALLY(r->inside) && EVENTUALLY(read_number(cgroup("pids.current")) >= 40));
        CHECK(write_file(cgroup("cgroup.kill"), "1"));
        if (!EVENTUALLY(!populated())) return fail("some have survived");
        CHECK(wait_status(pid) == SIGKILL);
    }
    CHECK(write_file(cgroup("pids.max"), "max"));
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "2000"));
    return true;
}

#define SURVIVES(name, what, from, how, control) \
    { "hostile." name, survives, control, {what, from, how}, NULL, "it has survived" }

const struct test hostile_tests[] = {
    SURVIVES("spin.kill", SPIN, OWN, KILL, PART_OUTSIDE),
    SURVIVES("spin.cgroup_kill", SPIN, OWN, CGROUP_KILL, PART_OUTSIDE),
    SURVIVES("spin.sibling_exits", SPIN, OWN, SIBLING_EXITS, PART_OUTSIDE),
    SURVIVES("fault", FAULT, OWN, CGROUP_KILL, PART_OUTSIDE),
    SURVIVES("exec", EXEC, OWN, CGROUP_KILL, PART_OUTSIDE | PART_DYING),
    SURVIVES("exec.kill", EXEC, OWN, KILL, PART_OUTSIDE | PART_DYING),
    SURVIVES("exec.from_text", EXEC, TEXT, CGROUP_KILL, PART_OUTSIDE | PART_DYING),
    SURVIVES("fork", FORK, OWN, CGROUP_KILL, PART_OUTSIDE | PART_DYING),
    SURVIVES("fork.from_text", FORK, TEXT, CGROUP_KILL, PART_OUTSIDE),
    SURVIVES("fork.sibling_exits", FORK, OWN, SIBLING_EXITS, PART_OUTSIDE | PART_DYING),
    SURVIVES("thread", THREAD, OWN, CGROUP_KILL, PART_OUTSIDE | PART_DYING),
    SURVIVES("thread.from_text", THREAD, TEXT, CGROUP_KILL, PART_OUTSIDE),
    SURVIVES("thread.sibling_exits", THREAD, OWN, SIBLING_EXITS, PART_OUTSIDE | PART_DYING),
    {"hostile.evades_stop", evades, PART_OUTSIDE, {SIGSTOP}, NULL, "it has evaded the signal"},
    {"hostile.evades_handler", evades, PART_OUTSIDE, {SIGUSR1}, NULL, "it has evaded the signal"},
    {"hostile.family", family, PART_OUTSIDE, {0}, NULL, "some have survived"},
    {NULL},
};
