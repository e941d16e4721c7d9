/* Purpose: when events are handled, for each event and position (user code, protected text, and the
 *          kernel entered from either):
 *
 *                            user      user->kernel   text                 text->kernel
 *          termination       in place  after kernel   after text           after kernel and text
 *          suspension        in place  after kernel   after text           after kernel and text
 *          interrupt         in place everywhere
 *          page fault        in place everywhere
 *          program exception in place everywhere
 *
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

enum where { USER, USER_KERNEL, TEXT, TEXT_KERNEL };

static int pipe_fd[2];
static char pipe_byte;

/* In user code, or in a read that waits, as in the text. */
static void body_user(struct request* r) {
    r->inside = 1;
    while (!r->go) {
        r->steps++;
        __builtin_ia32_pause();
    }
    r->done = 1;
}

static void body_user_kernel(struct request* r) {
    r->inside = 1;
    r->result = read(pipe_fd[0], &pipe_byte, 1);
    r->done = 1;
}

static pid_t spawn_at(int where, struct request* r) {
    void (*const body[])(struct request*) = {body_user, body_user_kernel, body_op, body_op};
    pid_t pid;

    if (pipe(pipe_fd)) return -1;
    r->op = where == TEXT ? OP_HOLD : OP_SYSCALL;
    r->arg[0] = SYS_read;
    r->arg[1] = pipe_fd[0];
    r->arg[2] = (long)&pipe_byte;
    r->arg[3] = 1;
    pid = spawn(new_context(), body[where], r);
    if (!EVENTUALLY(r->inside)) return -1;
    /* In the kernel: it sleeps in the read. */
    if (where == USER_KERNEL || where == TEXT_KERNEL)
        if (!EVENTUALLY(state_of(pid) == 'S')) return -1;
    return pid;
}

static void release(struct request* r) {
    r->go = 1;
    if (write(pipe_fd[1], "x", 1) != 1) exit(3);
}

/* The signal has come to the thread, and it has gone on. */
static bool was_deferred(pid_t pid, struct request* r, int where, long deferred_before) {
    CHECK(EVENTUALLY(deferrals() > deferred_before || is_dead(pid)));
    CHECK(!is_dead(pid) && state_of(pid) != 'T');
    if (where == TEXT) CHECK(proceeds(r));
    if (where == TEXT_KERNEL) CHECK(EVENTUALLY(state_of(pid) == 'S'));
    CHECK(!r->done);
    return true;
}

static bool termination(const struct test* test) {
    struct request* r = new_request();
    int where = test->value[0], signal_number = test->value[1], status;
    long before = deferrals(), expired = expirations();
    pid_t pid = spawn_at(where, r);

    CHECK(pid > 0);
    CHECK(!kill(pid, signal_number));
    if (where == TEXT || where == TEXT_KERNEL) {
        if (!was_deferred(pid, r, where, before)) return false;
        release(r);
    }
    status = wait_status(pid);
    CHECK(status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == signal_number);
    CHECK(r->done == (where == TEXT || where == TEXT_KERNEL));
    CHECK((deferrals() > before) == r->done && expirations() == expired);
    CHECK(!r->returned);
    /* In the text the read has been interrupted and begun again. */
    if (where == TEXT_KERNEL) CHECK(r->result == 1);
    return true;
}

static bool suspension(const struct test* test) {
    struct request* r = new_request();
    int where = test->value[0], status;
    long before = deferrals();
    pid_t pid = spawn_at(where, r);

    CHECK(pid > 0);
    CHECK(!kill(pid, SIGSTOP));
    if (where == TEXT || where == TEXT_KERNEL) {
        if (!was_deferred(pid, r, where, before)) return false;
        release(r);
    }
    CHECK(EVENTUALLY(state_of(pid) == 'T'));
    CHECK(r->done == (where == TEXT || where == TEXT_KERNEL));
    CHECK(!kill(pid, SIGCONT));
    if (where == USER || where == USER_KERNEL) release(r);
    status = wait_status(pid);
    CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 7 && r->done);
    return true;
}

/* The timer takes the CPU away from it. */
static bool is_interrupted(pid_t pid) {
    long before = field_of(pid, "nonvoluntary_ctxt_switches");
    struct request* r = new_request();
    pid_t rival = fork();
    bool interrupted;

    if (!rival)
        for (;;) r->steps++;
    interrupted = EVENTUALLY(field_of(pid, "nonvoluntary_ctxt_switches") > before + 3);
    kill(rival, SIGKILL);
    waitpid(rival, NULL, 0);
    return interrupted;
}

/* All on one CPU, so that an interrupt is needed for another thread to run. */
static bool on_one_cpu(void) {
    unsigned long mask = 1;

    return syscall(SYS_sched_setaffinity, 0, sizeof mask, &mask) >= 0;
}

static bool interrupt(const struct test* test) {
    struct request* r = new_request();
    int where = test->value[0], status;
    pid_t pid;

    CHECK(on_one_cpu());
    if (where == TEXT_KERNEL) {
        /* A long stay in the kernel: it fills a buffer with random bytes. */
        r->arg[0] = SYS_getrandom;
        r->arg[1] = (long)mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        r->arg[2] = 16 << 20;
        r->arg[3] = GRND_INSECURE;
        r->op = OP_SYSCALL;
        pid = spawn(new_context(), body_op, r);
    } else {
        pid = spawn_at(where, r);
    }
    CHECK(pid > 0);
    CHECK(is_interrupted(pid));
    if (where == TEXT_KERNEL) {
        kill(pid, SIGKILL);
        return true;
    }
    CHECK(!r->done);
    release(r);
    status = wait_status(pid);
    CHECK(WIFEXITED(status) && r->done);
    return true;
}

/* The same question about a thread that runs on no CPU. */
static bool interrupt_control(const struct test* test) {
    struct request* r = new_request();
    pid_t pid = spawn_at(USER, r);

    (void)test;
    CHECK(pid > 0 && on_one_cpu() && !kill(pid, SIGSTOP) && EVENTUALLY(state_of(pid) == 'T'));
    CHECK(is_interrupted(pid));
    return true;
}

static void body_user_stack(struct request* r) {
    volatile char pages[64 * 4096];

    body_user(r);
    r->done = 0;
    for (int i = 63; i >= 0; i--) pages[i * 4096] = 1;
    r->result = pages[0];
    r->done = 1;
}

static long minor_faults(void) {
    struct rusage usage;

    getrusage(RUSAGE_CHILDREN, &usage);
    return usage.ru_minflt;
}

/* It touches new pages of its stack; in the text also while its death waits. */
static bool page_fault(const struct test* test) {
    struct request* r = new_request();
    int where = test->value[0], status;
    long before = deferrals();
    pid_t pid;

    r->op = OP_STACK;
    r->arg[0] = 64;
    if (where == TEXT_KERNEL) {
        /* The kernel touches them: it writes to a buffer that is not there yet. */
        r->op = OP_SYSCALL;
        r->arg[0] = SYS_getrandom;
        r->arg[1] =
            (long)mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        r->arg[2] = 64 * 4096;
        r->arg[3] = GRND_INSECURE; /* it does not wait for entropy, of which there is little here */
    }
    pid = spawn(new_context(), where == USER ? body_user_stack : body_op, r);
    CHECK(pid > 0 && EVENTUALLY(r->inside));
    if (where == TEXT) {
        CHECK(!kill(pid, SIGKILL));
        CHECK(EVENTUALLY(deferrals() > before || is_dead(pid)) && !is_dead(pid));
    }
    r->go = 1;
    status = wait_status(pid);
    CHECK(status != -1 && r->done && minor_faults() >= 64);
    if (where == TEXT_KERNEL) CHECK(r->result == 64 * 4096);
    return true;
}

/* The same question about a process that dies at its first fault. */
static bool page_fault_control(const struct test* test) {
    struct request* r = new_request();
    struct test at = *test;

    (void)r;
    at.value[0] = TEXT;
    set_disabled(PART_DEFER);
    return page_fault(&at);
}

static void body_user_ud2(struct request* r) {
    r->inside = 1;
    __asm__ volatile("ud2");
    r->done = 1;
}

static bool program_exception(const struct test* test) {
    struct request* r = new_request();
    int op = test->value[1], status;
    pid_t pid;

    r->op = op;
    r->arg[0] = test->value[3] ? (long)AEP_BASE : 0;
    pid = spawn(new_context(), test->value[0] == USER ? body_user_ud2 : body_op, r);
    status = wait_status(pid);
    CHECK(status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == test->value[2]);
    CHECK(r->inside && !r->done);
    return true;
}

/* A bad pointer is an error to a system call, wherever it is called, and nothing else. */
static bool exception_in_kernel(const struct test* test) {
    struct request* r = new_request();
    int status;
    pid_t pid;

    (void)test;
    r->op = OP_SYSCALL;
    r->arg[0] = SYS_getrandom;
    r->arg[1] = 4096;
    r->arg[2] = 16;
    pid = spawn(new_context(), body_op, r);
    status = wait_status(pid);
    CHECK(status != -1 && WIFEXITED(status) && r->done && r->result == -14 /* EFAULT */);
    return true;
}

static bool exception_in_kernel_control(const struct test* test) {
    (void)test;
    struct request* r = new_request();
    pid_t pid;

    r->op = OP_WRITE;
    r->arg[0] = 4096;
    pid = spawn(new_context(), body_op, r);
    CHECK(WIFEXITED(wait_status(pid)) && r->done);
    return true;
}

const struct test table1_tests[] = {
    {"table1.termination.user",
     termination,
     PART_RANGE,
     {USER, SIGKILL},
     .expected = "(deferrals() > before) == r->done"},
    {"table1.termination.user_kernel",
     termination,
     PART_RANGE,
     {USER_KERNEL, SIGKILL},
     .expected = "status != -1 && WIFSIGNALED(status)"},
    {"table1.termination.text",
     termination,
     PART_DEFER,
     {TEXT, SIGKILL},
     .expected = "!is_dead(pid) && state_of(pid) != 'T'"},
    {"table1.termination.text_kernel",
     termination,
     PART_DEFER,
     {TEXT_KERNEL, SIGKILL},
     .expected = "!is_dead(pid) && state_of(pid) != 'T'"},
    {"table1.termination.text.sigterm",
     termination,
     PART_CLOSE,
     {TEXT, SIGTERM},
     .expected = "!r->returned"},
    {"table1.termination.text.sigquit",
     termination,
     PART_CLOSE,
     {TEXT, SIGQUIT},
     .expected = "!r->returned"},
    {"table1.termination.text.sigsegv",
     termination,
     PART_DEFER,
     {TEXT, SIGSEGV},
     .expected = "!is_dead(pid) && state_of(pid) != 'T'"},
    {"table1.termination.text_kernel.sigterm",
     termination,
     PART_DEFER,
     {TEXT_KERNEL, SIGTERM},
     .expected = "!is_dead(pid) && state_of(pid) != 'T'"},
    {"table1.suspension.user",
     suspension,
     PART_RANGE | PART_LIMIT,
     {USER},
     .expected = "state_of(pid) == 'T')"},
    {"table1.suspension.user_kernel",
     suspension,
     PART_RANGE | PART_LIMIT,
     {USER_KERNEL},
     .expected = "state_of(pid) == 'T')"},
    {"table1.suspension.text",
     suspension,
     PART_DEFER,
     {TEXT},
     .expected = "deferrals() > deferred_before || is_dead(pid))"},
    {"table1.suspension.text_kernel",
     suspension,
     PART_DEFER,
     {TEXT_KERNEL},
     .expected = "deferrals() > deferred_before || is_dead(pid))"},
    {"table1.interrupt.user",
     interrupt,
     0,
     {USER},
     interrupt_control,
     .expected = "is_interrupted(pid)"},
    {"table1.interrupt.text",
     interrupt,
     0,
     {TEXT},
     interrupt_control,
     .expected = "is_interrupted(pid)"},
    {"table1.interrupt.text_kernel",
     interrupt,
     0,
     {TEXT_KERNEL},
     interrupt_control,
     .expected = "is_interrupted(pid)"},
    {"table1.page_fault.user",
     page_fault,
     0,
     {USER},
     page_fault_control,
     .expected = "deferrals() > before || is_dead(pid)) && !is_dead(pid)"},
    {"table1.page_fault.text",
     page_fault,
     PART_DEFER,
     {TEXT},
     .expected = "deferrals() > before || is_dead(pid)) && !is_dead(pid)"},
    {"table1.page_fault.text_kernel",
     page_fault,
     0,
     {TEXT_KERNEL},
     page_fault_control,
     .expected = "deferrals() > before || is_dead(pid)) && !is_dead(pid)"},
    {"table1.exception.user",
     program_exception,
     PART_RANGE | PART_ABORT | PART_LIMIT,
     {USER, OP_UD2, SIGILL},
     NULL,
     .expected = "status != -1 && WIFSIGNALED(status)"},
    {"table1.exception.text.ud2",
     program_exception,
     PART_ABORT | PART_LIMIT,
     {TEXT, OP_UD2, SIGILL},
     .expected = "status != -1 && WIFSIGNALED(status)"},
    {"table1.exception.text.divide",
     program_exception,
     PART_ABORT | PART_LIMIT,
     {TEXT, OP_DIVIDE, SIGFPE},
     .expected = "status != -1 && WIFSIGNALED(status)"},
    {"table1.exception.text.null",
     program_exception,
     PART_ABORT | PART_LIMIT,
     {TEXT, OP_READ, SIGSEGV},
     .expected = "status != -1 && WIFSIGNALED(status)"},
    {"table1.exception.text.write_to_text",
     program_exception,
     PART_ABORT | PART_LIMIT,
     {TEXT, OP_WRITE, SIGSEGV, 1},
     NULL,
     .expected = "status != -1 && WIFSIGNALED(status)"},
    {"table1.exception.text_kernel",
     exception_in_kernel,
     0,
     {0},
     exception_in_kernel_control,
     .expected = "WIFEXITED(wait_status(pid)) && r->done"},
    {NULL},
};
