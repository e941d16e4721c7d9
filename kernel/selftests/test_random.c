/* Purpose: members without privilege that make system calls at random, with arguments at random, from their
 *          own code and from the text, until they are killed: each of them has to die, and the kernel to
 *          have no complaint (run.sh looks for it).
 * Who calls it: harness.c.
 * Crash rule: they are in a control group with few processes and little memory, which is killed at the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

enum { SECONDS = 20, MEMBERS = 4, CALLS = 463, ARGUMENTS = 6 };

__asm__(
    ".text\n"
    "random_gadget: syscall\n"
    "    ret\n");
extern const char random_gadget[];

static unsigned long state;

static unsigned long any(unsigned long below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

/* What calls could take for something. */
static long any_argument(void) {
    static char buffer[4096];
    const long all[] = {0,
                        1,
                        2,
                        -1,
                        (long)any(12),
                        (long)any(1 << 12),
                        (long)any(-1UL),
                        4096,
                        getpid(),
                        AEP_BASE,
                        AEP_SHADOW,
                        AEP_SIZE,
                        AEP_BRK_BASE,
                        AEP_MMAP_BASE,
                        AEP_MMAP_BASE + 4096 * (long)any(64),
                        AEP_POOL_BASE,
                        (long)buffer,
                        (long)buffer,
                        (long)(buffer + any(4096))};

    return all[any(sizeof all / sizeof *all)];
}

static void call_at_random(const char* gadget) {
    long number = any(8) ? (long)any(CALLS) : NR_AEP_OPS, result, a[ARGUMENTS];

    for (int i = 0; i < ARGUMENTS; i++) a[i] = any_argument();
    if (number == NR_AEP_OPS && any(2)) a[0] = AEP_BRK + (long)any(2);
    register long r10 __asm__("r10") = a[3];
    register long r8 __asm__("r8") = a[4];
    register long r9 __asm__("r9") = a[5];

    __asm__ volatile(
        "sub $128, %%rsp\n"
        "call *%[gadget]\n"
        "add $128, %%rsp\n"
        : "=a"(result)
        : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8),
          "r"(r9), [gadget] "r"(gadget)
        : "rcx", "r11", "memory");
}

static void body_random(struct request* r) {
    while (!r->go) pause_a_little(); /* not before it is in the group, with all that it makes */
    const char* text = memmem((const char*)AEP_BASE, 1 << 16, "\x0f\x05\xc3", 3);

    for (int i = 0; i < 3; i++) dup2(open("/dev/null", O_RDWR), i);
    state = (unsigned long)r->arg[0];
    if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY)) _exit(3);
    for (r->inside = 1;; r->steps++) call_at_random(any(2) ? text : random_gadget);
}

/* A stopped, frozen or traced one can be killed as well. */
static bool ends_when_killed(int context, unsigned long seed) {
    struct timespec a_moment = {.tv_nsec = 1 + (long)any(60000000)};
    struct request* r[MEMBERS];
    pid_t pid[MEMBERS];

    for (int i = 0; i < MEMBERS; i++) {
        r[i] = new_request();
        r[i]->arg[0] = (long)(seed * MEMBERS + (unsigned long)i + 1) * 0x9e3779b97f4a7c15L;
        pid[i] = spawn(context, body_random, r[i]);
        CHECK(write_file(cgroup("cgroup.procs"), "%d", pid[i]));
        r[i]->go = 1;
    }
    for (int i = 0; i < MEMBERS; i++) CHECK(EVENTUALLY(r[i]->inside || is_dead(pid[i])));
    nanosleep(&a_moment, NULL);
    /* By each way, before who is left is killed as a group. */
    for (int i = 0; i < MEMBERS / 2; i++) kill(pid[i], SIGKILL);
    for (int i = 0; i < MEMBERS / 2; i++)
        if (wait_status(pid[i]) < 0) return fail("seed %lu: one has survived", seed);
    CHECK(write_file(cgroup("cgroup.kill"), "1"));
    for (int i = MEMBERS / 2; i < MEMBERS; i++)
        if (wait_status(pid[i]) < 0) return fail("seed %lu: one has survived", seed);
    if (!EVENTUALLY(!populated())) return fail("seed %lu: a child has survived", seed);
    for (int i = 0; i < MEMBERS; i++) munmap(r[i], sizeof *r[i]);
    return true;
}

static bool random_calls(const struct test* test) {
    const long end = now_ms() + SECONDS * 1000;

    /* In a control nothing but what is switched off may end them. */
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", test->value[0] ? "60000" : "20"));
    CHECK(write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids"));
    CHECK(write_file(cgroup("memory.max"), "48M") && write_file(cgroup("pids.max"), "40"));
    state = (unsigned long)now_ms() | 1;
    while (now_ms() < end) {
        int context = new_context();

        if (!ends_when_killed(context, (unsigned long)now_ms())) return false;
        close(context);
    }
    CHECK(write_file(cgroup("memory.max"), "max") && write_file(cgroup("pids.max"), "max"));
    return true;
}

static bool random_control(const struct test* test) {
    struct test patient = *test;

    patient.value[0] = 1;
    return random_calls(&patient);
}

const struct test random_tests[] = {
    {"random.calls", random_calls, PART_OUTSIDE | PART_DYING, {0}, random_control, "has survived"},
    {NULL},
};
