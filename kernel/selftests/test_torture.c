/* Purpose: many kills at random moments, of operations of every kind; each has to have left its two
 *          counters equal, and the status that the signal stands for.
 * Who calls it: harness.c. How many: the environment's KILLS.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

enum { THREADS = 3, DEFAULT_KILLS = 300 };

static void* operate(void* request) {
    struct request* r = request;

    for (;;) enter(r, OP_UPDATE);
    return NULL;
}

static void on_alarm(int number) { (void)number; }

/* Threads that do nothing but operations, and a timer whose handler interrupts them. */
static void body_operations(struct request* r) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerspec often = {{0, 700000}, {0, 700000}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    timer_t timer;
    pthread_t thread;

    sigaction(SIGALRM, &action, NULL);
    if (r[0].arg[2]) {
        timer_create(CLOCK_MONOTONIC, &event, &timer);
        timer_settime(timer, 0, &often, NULL);
    }
    for (int i = 1; i < r[0].arg[3]; i++) pthread_create(&thread, NULL, operate, &r[i]);
    operate(r);
}

static void wait_for_a_moment(void) {
    struct timespec t = {.tv_nsec = random() % 3000000};

    nanosleep(&t, NULL);
}

static long kills(void) {
    const char* text = getenv("KILLS");

    return text ? atol(text) : DEFAULT_KILLS;
}

static bool torture(const struct test* test) {
    static const int signals[] = {SIGKILL, SIGTERM, SIGQUIT, SIGSEGV, SIGABRT, SIGUSR1};
    struct rlimit no_core = {0, 0};
    struct request* r = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long broken = 0, wrong = 0, deferred = deferrals(), expired = expirations();
    int context = new_context();

    setrlimit(RLIMIT_CORE, &no_core);
    srandom((unsigned)test->value[0] + 1);
    for (long i = 0; i < kills(); i++) {
        int number = test->value[1] ? signals[i % 6] : SIGKILL, status;
        pid_t pid;

        for (int t = 0; t < THREADS; t++) {
            r[t].first = r[t].second = 0;
            r[t].inside = 0;
            r[t].arg[0] = 200 + random() % 2000;
            r[t].arg[1] = test->value[0];
            r[t].arg[2] = test->value[2];
            r[t].arg[3] = test->value[3] ? THREADS : 1;
        }
        pid = spawn(context, body_operations, r);
        CHECK(EVENTUALLY(r[0].inside));
        wait_for_a_moment();
        kill(pid, number);
        status = wait_status(pid);
        CHECK(status != -1);
        wrong += !WIFSIGNALED(status) || WTERMSIG(status) != number;
        for (int t = 0; t < THREADS; t++) broken += r[t].first != r[t].second;
    }
    printf("# %s: %ld kills, %ld deferred, %ld broken, %ld with a wrong status, %ld expired\n",
           test->name, kills(), deferrals() - deferred, broken, wrong, expirations() - expired);
    CHECK(!broken && !wrong && expirations() == expired);
    return true;
}

/* value: what the operation does, all signals, a timer, several threads. */
const struct test torture_tests[] = {
    {"torture.sigkill", torture, PART_DEFER, {0, 0, 0, 0}, .expected = "!broken && !wrong"},
    {"torture.system_calls",
     torture,
     PART_DEFER,
     {WORK_SYSCALL, 0, 0, 0},
     .expected = "!broken && !wrong"},
    {"torture.stack_faults",
     torture,
     PART_DEFER,
     {WORK_STACK, 0, 0, 0},
     .expected = "!broken && !wrong"},
    {"torture.every_signal",
     torture,
     PART_DEFER,
     {WORK_SYSCALL | WORK_STACK, 1, 0, 0},
     .expected = "!broken && !wrong"},
    {"torture.handlers",
     torture,
     PART_DEFER,
     {WORK_SYSCALL | WORK_STACK, 1, 1, 0},
     .expected = "!broken && !wrong"},
    {"torture.threads",
     torture,
     PART_DEFER,
     {WORK_SYSCALL | WORK_STACK, 1, 1, 1},
     .expected = "!broken && !wrong"},
    {NULL},
};
