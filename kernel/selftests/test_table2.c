/* Purpose: who may call which operation from where: each with and without privilege, from user code
 *          and from the protected text.
 *
 *          init, context, join,
 *          mmap_exec, map_pool               privilege       from anywhere
 *          brk, mmap_rw_nx                   anybody         from the text only
 *          grace period (sysfs)              privilege       from anywhere
 *
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

enum { GRACE = 100 }; /* not an operation of the system call */

static int context, text_file, pool_file, victim_pidfd;
static bool inside, privileged;

static const char GRACE_PATH[] = "/sys/kernel/mm/aep/grace_period_ms";

/* The operation's arguments: right ones, so that only permission can be missing. */
static void prepare(int op, long* arg) {
    const long all[][6] = {
        [AEP_INIT] = {AEP_INIT, 1 << 20, 0},
        [AEP_CONTEXT] = {AEP_CONTEXT, victim_pidfd},
        [AEP_JOIN] = {AEP_JOIN, context, victim_pidfd},
        [AEP_MMAP_EXEC] = {AEP_MMAP_EXEC, context, text_file, AEP_BASE + (1 << 20), 4096, 0},
        [AEP_MAP_POOL] = {AEP_MAP_POOL, context, pool_file, AEP_POOL_BASE, 4096, 0},
        [AEP_BRK] = {AEP_BRK, AEP_BRK_BASE + 8192},
        [AEP_MMAP_RW_NX] = {AEP_MMAP_RW_NX, 8192},
    };

    if (op == GRACE) {
        arg[0] = SYS_openat;
        arg[1] = AT_FDCWD;
        arg[2] = (long)GRACE_PATH;
        arg[3] = O_WRONLY;
        return;
    }
    arg[0] = NR_AEP_OPS;
    memcpy(arg + 1, all[op], sizeof all[op]);
}

static void body_call(struct request* r) {
    break_parts();
    if (!privileged && (setgid(NOBODY) || setuid(NOBODY))) _exit(3);
    if (inside) {
        enter(r, OP_SYSCALL);
    } else {
        r->result =
            syscall(r->arg[0], r->arg[1], r->arg[2], r->arg[3], r->arg[4], r->arg[5], r->arg[6]);
        if (r->result == -1) r->result = -errno;
        r->done = 1;
    }
    /* The file is open: writing to it is what counts. */
    if (r->arg[0] == SYS_openat && r->result >= 0) {
        ssize_t written = write((int)r->result, "2000", 4);

        r->result = written == 4 ? 0 : -errno;
    }
}

/* The operation has done what it is for, or nothing. */
static bool effect(int op, const struct request* r, bool allowed) {
    volatile char* page = (volatile char*)r->result;
    struct stat status;

    if (!allowed) return r->result == -EPERM || (op == GRACE && r->result == -EACCES);
    if (r->result < 0) return false;
    switch (op) {
        case AEP_INIT:
        case AEP_CONTEXT:
            return r->result >= 0;
        case AEP_BRK:
            return r->result == (long)AEP_BRK_BASE + 8192;
        case AEP_MMAP_RW_NX:
            become_member(context);
            *page = 1;
            return page[8191] == 0 && r->result >= (long)AEP_MMAP_BASE;
        case AEP_MAP_POOL:
            become_member(context);
            *(volatile char*)AEP_POOL_BASE = 'p';
            return r->result == 0 && pread(pool_file, &status, 1, 0) == 1 && *(char*)&status == 'p';
        default:
            return r->result == 0;
    }
}

static void body_wait(struct request* r) {
    while (!r->go) pause_a_little();
}

static bool permission(const struct test* test) {
    int op = test->value[0], status;
    bool allowed;
    struct request *r = new_request(), *other = new_request();
    pid_t victim;

    privileged = test->value[1];
    inside = test->value[2];
    allowed = op == AEP_BRK || op == AEP_MMAP_RW_NX ? inside : privileged;
    context = new_context();
    text_file = memfd_create("text", MFD_ALLOW_SEALING);
    pool_file = memfd_create("pool", 0);
    CHECK(!ftruncate(text_file, 4096) && !ftruncate(pool_file, 4096));
    CHECK(!fcntl(text_file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK));
    victim = fork();
    if (!victim) {
        body_wait(other);
        _exit(0);
    }
    victim_pidfd = pidfd_of(victim);
    if (op == AEP_CONTEXT) CHECK(join(context, victim) == 0);
    prepare(op, r->arg);
    status = wait_status(spawn(context, body_call, r));
    other->go = 1;
    CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 7 && r->done);
    if (!effect(op, r, allowed)) return fail("result %ld", r->result);
    return true;
}

/* Whose file it is, is not for aep_ops(2) to say. */
static bool grace_control(const struct test* test) {
    bool passed;

    CHECK(!chmod(GRACE_PATH, 0666));
    passed = permission(test);
    CHECK(!chmod(GRACE_PATH, 0644));
    return passed;
}

/* The operation itself is what fails in a control, or what does not. */
#define CELL(name, parts, op, root, text, control) \
    { name, permission, parts, {op, root, text}, control, "result ", true }
#define CELLS(name, op, denied_user, denied_root)                                             \
    CELL("table2." name ".root.outside", denied_root ? PART_RIP : PART_OPS, op, 1, 0, NULL),  \
        CELL("table2." name ".root.inside", PART_OPS, op, 1, 1, NULL),                        \
        CELL("table2." name ".nobody.outside", denied_user, op, 0, 0, NULL),                  \
        CELL("table2." name ".nobody.inside", denied_root ? PART_OPS : denied_user, op, 0, 1, \
             NULL)

const struct test table2_tests[] = {
    CELLS("init", AEP_INIT, PART_CAP, 0),
    CELLS("context", AEP_CONTEXT, PART_CAP, 0),
    CELLS("join", AEP_JOIN, PART_CAP, 0),
    CELLS("mmap_exec", AEP_MMAP_EXEC, PART_CAP, 0),
    CELLS("map_pool", AEP_MAP_POOL, PART_CAP, 0),
    CELLS("brk", AEP_BRK, PART_RIP, 1),
    CELLS("mmap_rw_nx", AEP_MMAP_RW_NX, PART_RIP, 1),
    CELL("table2.grace_period.root.outside", PART_OPS, GRACE, 1, 0, NULL),
    CELL("table2.grace_period.root.inside", PART_OPS, GRACE, 1, 1, NULL),
    CELL("table2.grace_period.nobody.outside", 0, GRACE, 0, 0, grace_control),
    CELL("table2.grace_period.nobody.inside", 0, GRACE, 0, 1, grace_control),
    {NULL},
};
