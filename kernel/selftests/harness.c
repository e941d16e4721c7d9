/* Purpose: see harness.h; and the program that runs the tests and prints TAP.
 * Usage: selftest [--no-control] [PREFIX...]    tests whose name begins with one of them
 * Who calls it: kernel/qemu/run.sh, as the virtual machine's only program.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include "kernel/selftests/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

__asm__(
    ".section .rodata\n"
    "image_text: .incbin \"image.text\"\n"
    "image_text_end:\n"
    "image_shadow: .incbin \"image.shadow\"\n"
    ".previous\n");
extern const char image_text[], image_text_end[], image_shadow[];

enum { SECONDS_FOR_A_TEST = 60 };

/* What has been said last, by any process of a test. */
static char* last_failure;
enum { FAILURE_BYTES = 256 };

bool fail(const char* format, ...) {
    va_list args;

    va_start(args, format);
    vsnprintf(last_failure, FAILURE_BYTES, format, args);
    va_end(args);
    printf("# %s\n", last_failure);
    fflush(stdout);
    return false;
}

long patience_ms = 5000;

long now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void pause_a_little(void) {
    struct timespec t = {.tv_nsec = 1000000};

    nanosleep(&t, NULL);
}

long aep_ops(unsigned op, long a, long b, long c, long d, long e) {
    long result = syscall(NR_AEP_OPS, op, a, b, c, d, e);

    return result == -1 ? -errno : result;
}

int pidfd_of(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

static int image_file(const char* bytes, size_t size) {
    int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK))
        exit(fail("no image: %m") + 3);
    return fd;
}

int new_context(void) {
    size_t size = image_text_end - image_text;
    int text = image_file(image_text, size), shadow = image_file(image_shadow, AEP_SHADOW_SIZE);
    int context = (int)aep_ops(AEP_INIT, 64 << 20, 0, 0, 0, 0);
    long err = context;

    if (err >= 0) err = aep_ops(AEP_MMAP_EXEC, context, text, AEP_BASE, size, 0);
    if (!err) err = aep_ops(AEP_MMAP_EXEC, context, shadow, AEP_SHADOW, AEP_SHADOW_SIZE, 0);
    if (err) exit(fail("no context: %ld", err) + 3);
    close(text);
    close(shadow);
    return context;
}

long join(int context, pid_t pid) {
    int pidfd = pidfd_of(pid);
    long err = aep_ops(AEP_JOIN, context, pidfd, 0, 0, 0);

    close(pidfd);
    return err;
}

struct request* new_request(void) {
    return mmap(NULL, sizeof(struct request), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
}

void become_member(int context) {
    long err = join(context, getpid());

    if (err) exit(fail("not joined: %ld", err) + 3);
}

void enter(struct request* r, int op) {
    r->op = op;
    ((void (*)(struct request*))AEP_SHADOW)(r);
}

pid_t spawn(int context, void (*body)(struct request* r), struct request* r) {
    pid_t pid = fork();

    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    become_member(context);
    body(r);
    _exit(7);
}

void body_op(struct request* r) {
    enter(r, r->op);
    r->returned = 1;
}

volatile char* new_data(size_t size) {
    struct request* r = new_request();

    r->arg[0] = NR_AEP_OPS;
    r->arg[1] = AEP_MMAP_RW_NX;
    r->arg[2] = (long)size;
    enter(r, OP_SYSCALL);
    if (r->result < 0) exit(fail("no data: %ld", r->result) + 3);
    return (volatile char*)r->result;
}

static void* hold_thread(void* r) {
    enter(r, OP_HOLD);
    return NULL;
}

void hold_in_another_thread(struct request* r) {
    pthread_t thread;

    pthread_create(&thread, NULL, hold_thread, r);
    while (!r->inside) pause_a_little();
}

const char* cgroup(const char* file) {
    static char path[128];

    mkdir("/sys/fs/cgroup/aep", 0755);
    snprintf(path, sizeof path, "/sys/fs/cgroup/aep/%s", file);
    return path;
}

bool populated(void) {
    char text[128] = "";
    int fd = open(cgroup("cgroup.events"), O_RDONLY | O_CLOEXEC);
    ssize_t got = read(fd, text, sizeof text - 1);

    close(fd);
    return got <= 0 || !strstr(text, "populated 0");
}

long deferrals(void) { return read_number("/sys/kernel/mm/aep/deferrals"); }
long expirations(void) { return read_number("/sys/kernel/mm/aep/expirations"); }

long field_of(pid_t pid, const char* name) {
    char path[64], line[256];
    long value = -1;
    FILE* file;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            value = strcmp(name, "State") ? atol(line + strlen(name) + 1) : line[strlen(name) + 2];
    if (file) fclose(file);
    return value;
}

char state_of(pid_t pid) { return (char)field_of(pid, "State"); }

bool is_dead(pid_t pid) {
    long threads = field_of(pid, "Threads");

    return threads < 1 || (threads == 1 && state_of(pid) == 'Z');
}

int wait_status(pid_t pid) {
    int status = 0;

    return EVENTUALLY(waitpid(pid, &status, WNOHANG) == pid) ? status : -1;
}

bool proceeds(struct request* r) {
    long before = r->steps;

    return EVENTUALLY(r->steps > before + 1000);
}

long free_kib(void) {
    long kib = 0;
    FILE* meminfo = fopen("/proc/meminfo", "r");

    if (fscanf(meminfo, "MemTotal: %*d kB MemFree: %ld", &kib) != 1) kib = 0;
    fclose(meminfo);
    return kib;
}

bool write_file(const char* path, const char* format, ...) {
    char text[256];
    va_list args;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return written;
}

long read_number(const char* path) {
    char text[64] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(fd, text, sizeof text - 1);

    close(fd);
    return got > 0 ? atol(text) : -1;
}

void set_disabled(unsigned parts) { write_file("/sys/kernel/debug/aep_disabled", "0x%x", parts); }

static unsigned broken_parts;

void break_parts(void) { set_disabled(broken_parts); }

/* In a group of its own, with a limit of time. */
static bool run_alone(const struct test* test, bool (*run)(const struct test* test)) {
    int status = 0;
    pid_t pid = fork();
    bool ended;

    if (!pid) {
        setpgid(0, 0);
        exit(run(test) ? 0 : 1);
    }
    setpgid(pid, pid);
    for (long end = now_ms() + SECONDS_FOR_A_TEST * 1000;
         !(ended = waitpid(pid, &status, WNOHANG) == pid) && now_ms() < end;)
        pause_a_little();
    set_disabled(0);
    /* What is still deferred has waited long enough. */
    write_file("/sys/kernel/mm/aep/grace_period_ms", "1");
    kill(-pid, SIGKILL);
    kill(-pid, SIGCONT);
    /* Who has left its group is in this one. */
    write_file("/sys/fs/cgroup/aep/cgroup.kill", "1");
    if (!ended) waitpid(pid, &status, 0);
    /* Its orphans are ours. */
    while (waitpid(-1, NULL, 0) > 0) continue;
    write_file("/sys/kernel/mm/aep/grace_period_ms", "2000");
    if (!ended) return fail("no end after %d s", SECONDS_FOR_A_TEST);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool wanted(const struct test* test, char** prefix) {
    if (!*prefix) return true;
    for (; *prefix; prefix++)
        if (!strncmp(test->name, *prefix, strlen(*prefix))) return true;
    return false;
}

/* Without the parts that it is for, the test fails, and by the check that is for them. */
static bool fails_as_expected(const struct test* test) {
    bool passed;

    last_failure[0] = 0;
    /* What waits without end is not waited for long. */
    write_file("/sys/kernel/mm/aep/grace_period_ms", "150");
    broken_parts = test->control;
    if (!test->late) break_parts();
    patience_ms = 2500;
    passed = run_alone(test, test->run_control ? test->run_control : test->run);
    patience_ms = 5000;
    broken_parts = 0;
    if (passed) return fail("%s: it passes", test->name);
    if (!test->expected) return fail("%s: which check fails is not said", test->name);
    if (!strstr(last_failure, test->expected))
        return fail("%s: it fails, but not by '%s'", test->name, test->expected);
    return true;
}

int main(int argc, char** argv) {
    const struct test* const lists[] = {table1_tests,  table2_tests, context_tests, memory_tests,
                                        kind_tests,    death_tests,  stop_tests,    wait_tests,
                                        hostile_tests, limit_tests,  attach_tests,  random_tests,
                                        torture_tests, figure_tests};
    bool control = argc < 2 || strcmp(argv[1], "--no-control");
    char** prefixes = argv + (control ? 1 : 2);
    int number = 0, failed = 0;

    last_failure =
        mmap(NULL, FAILURE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    printf("TAP version 13\n");
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (const struct test* test = lists[i]; test->name; test++) {
            if (!wanted(test, prefixes)) continue;
            long began = now_ms();

            bool passed = run_alone(test, test->run);
            failed += !passed;
            printf("%sok %d - %s # %ld ms\n", passed ? "" : "not ", ++number, test->name,
                   now_ms() - began);
            fflush(stdout);
            if (!control || !passed) continue;
            if (!test->control && !test->run_control) continue;
            began = now_ms();
            passed = fails_as_expected(test);
            failed += !passed;
            printf("%sok %d - %s # %ld ms, control, without 0x%x\n", passed ? "" : "not ", ++number,
                   test->name, now_ms() - began, test->control);
            fflush(stdout);
        }
    }
    printf("1..%d\n# %d passed, %d failed\n", number, number - failed, failed);
    return failed || !number;
}
