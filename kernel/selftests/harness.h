/* Purpose: what the tests share: contexts, members, what is seen of them, the list of tests.
 * Who calls it: test_*.c.
 * Crash rule: each test runs in a process group of its own, which is killed when the test ends. */
#pragma once

#include <linux/aep.h>
#include <stdbool.h>
#include <sys/types.h>

#include "kernel/selftests/request.h"

#define NR_AEP_OPS 600
#define NOBODY 65534

/* As mm/aep.h numbers what can be switched off. */
enum part {
    PART_DEFER = 1 << 0,
    PART_CLOSE = 1 << 1,
    PART_ABORT = 1 << 2,
    PART_SHIELD = 1 << 3,
    PART_REAP = 1 << 4,
    PART_CHARGE = 1 << 5,
    PART_FREEZE = 1 << 6,
    PART_GRACE = 1 << 7,
    PART_RIP = 1 << 8,
    PART_CAP = 1 << 9,
    PART_INHERIT = 1 << 10,
    PART_FLUSH = 1 << 11,
    PART_SEAL = 1 << 12,
    PART_ADVISE = 1 << 13,
    PART_RANGE = 1 << 14,
    PART_OPS = 1 << 15,
    PART_OUTSIDE = 1 << 16,
    PART_DYING = 1 << 17,
    PART_SECONDARY = 1 << 18,
    PART_KINDS = 1 << 19,
    PART_RESTART = 1 << 20,
    PART_LIMIT = 1 << 21,
};

/* A test; `control`: without these parts of the mechanism it fails, by the check that is expected to. */
struct test {
    const char* name;
    bool (*run)(const struct test* test);
    unsigned control;
    /* For tests that differ in values only. */
    int value[4];
    /* What fails then, if it is not the test itself; or fails anyhow, if no part does. */
    bool (*run_control)(const struct test* test);
    /* A part of what fail() says then: a control that fails by another check has shown nothing. */
    const char* expected;
    /* The test calls break_parts() itself, after what it needs has been made with all parts. */
    bool late;
};

extern const struct test table1_tests[], table2_tests[], context_tests[], memory_tests[],
    kind_tests[], death_tests[], stop_tests[], wait_tests[], hostile_tests[], limit_tests[],
    attach_tests[], random_tests[], torture_tests[], figure_tests[];

/* Says why the test fails, and is false. */
bool fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) return fail("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (0)
/* Waits until it holds; false after some seconds. */
#define EVENTUALLY(condition)                                                                \
    ({                                                                                       \
        bool held_;                                                                          \
        for (long end_ = now_ms() + patience_ms; !(held_ = (condition)) && now_ms() < end_;) \
            pause_a_little();                                                                \
        held_;                                                                               \
    })

extern long patience_ms;
long now_ms(void);
void pause_a_little(void);

long aep_ops(unsigned op, long a, long b, long c, long d, long e);
int pidfd_of(pid_t pid);
/* A context with the tests' image, for `limit` bytes of data; ends the test on failure. */
int new_context(void);
long join(int context, pid_t pid);

struct request* new_request(void);
/* Makes the calling process a member; ends it on failure. */
void become_member(int context);
/* Carries out `op` in the protected text. */
void enter(struct request* r, int op);
/* A child that is a member of the context and does this. */
pid_t spawn(int context, void (*body)(struct request* r), struct request* r);
void body_op(struct request* r); /* r->op inside, then exit(7) */

/* Data of the context: memory that the text has asked for, where every member sees it. */
volatile char* new_data(size_t size);
/* Another thread of this process enters, and stays until `go`. */
void hold_in_another_thread(struct request* r);
/* The path of a file of the tests' control group. */
const char* cgroup(const char* file);
/* Whether a process of the test's cgroup is left. */
bool populated(void);

/* How many times threads have been deferred; and expired. */
long deferrals(void);
long expirations(void);

bool is_dead(pid_t pid); /* all of it: a zombie, or gone */
char state_of(pid_t pid);
long field_of(pid_t pid, const char* name); /* of /proc/PID/status */
int wait_status(pid_t pid);                 /* -1: still alive after some seconds */
/* It runs: `steps` grows. */
bool proceeds(struct request* r);

/* Memory of the system that is free. */
long free_kib(void);
bool write_file(const char* path, const char* format, ...) __attribute__((format(printf, 2, 3)));
long read_number(const char* path);
void set_disabled(unsigned parts);
/* In a control: switches off what the test is a control of. */
void break_parts(void);
