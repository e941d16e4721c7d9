/* Purpose: contexts and their shared page table: who sees what, and what nobody can change.
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

enum { PAGES = 256 };

static long own_minor_faults(void) {
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static void touch(volatile char* data) {
    for (long i = 0; i < PAGES; i++) data[i * 4096]++;
}

/* What one member has faulted in is there for the next, a process that has joined by itself. */
static bool shared_faults(const struct test* test) {
    int context = new_context(), status;
    volatile char* data;
    long before;
    pid_t pid;

    (void)test;
    pid = fork();
    if (!pid) {
        become_member(context);
        data = new_data(PAGES * 4096);
        before = own_minor_faults();
        touch(data);
        _exit(own_minor_faults() - before >= PAGES ? 0 : 1);
    }
    CHECK(wait_status(pid) == 0);
    pid = fork();
    if (!pid) {
        become_member(context);
        data = (volatile char*)AEP_MMAP_BASE;
        before = own_minor_faults();
        touch(data);
        before = own_minor_faults() - before;
        _exit(data[0] == 2 && before < 8 ? 0 : 1);
    }
    status = wait_status(pid);
    CHECK(status == 0);
    return true;
}

/* The same question about an ordinary mapping that two processes share. */
static bool shared_faults_control(const struct test* test) {
    volatile char* data =
        mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid;

    (void)test;
    touch(data);
    pid = fork();
    if (!pid) {
        long before = own_minor_faults();

        touch(data);
        _exit(own_minor_faults() - before < 8 ? 0 : 1);
    }
    CHECK(wait_status(pid) == 0);
    return true;
}

/* A child is a member; its operations are protected like its parent's. */
static bool fork_inherits(const struct test* test) {
    struct request* r = new_request();
    volatile char* data;
    long before;
    pid_t pid;

    (void)test;
    become_member(new_context());
    data = new_data(4096);
    data[0] = 1;
    pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        data[0]++;
        enter(r, OP_HOLD);
        _exit(0);
    }
    CHECK(EVENTUALLY(r->inside) && data[0] == 2);
    before = deferrals();
    kill(pid, SIGKILL);
    CHECK(EVENTUALLY(deferrals() > before) && proceeds(r));
    r->go = 1;
    CHECK(wait_status(pid) == SIGKILL && r->done);
    return true;
}

static bool maps_contain(pid_t pid, const char* what) {
    char path[64], line[512];
    bool found = false;
    FILE* maps;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    maps = fopen(path, "r");
    while (maps && fgets(line, sizeof line, maps)) found |= strstr(line, what) != NULL;
    if (maps) fclose(maps);
    return found;
}

/* exec: the new program is no member, and nothing of the context is mapped. */
static bool exec_drops(const struct test* test) {
    struct request* r = new_request();
    int context = new_context(), fds[2];
    pid_t pid;

    (void)test;
    (void)r;
    CHECK(!pipe(fds));
    pid = fork();
    if (!pid) {
        become_member(context);
        dup2(fds[0], 0);
        execl("/bin/busybox", "cat", NULL);
        _exit(3);
    }
    CHECK(EVENTUALLY(maps_contain(pid, "busybox")));
    CHECK(!maps_contain(pid, "[aep]") && !maps_contain(pid, "[aep_shadow]"));
    CHECK(join(context, pid) == 0); /* as it is none any more */
    close(fds[1]);
    close(fds[0]);
    kill(pid, SIGKILL);
    return true;
}

/* The same question about a process that has not called exec. */
static bool exec_drops_control(const struct test* test) {
    (void)test;
    become_member(new_context());
    CHECK(!maps_contain(getpid(), "[aep]") && !maps_contain(getpid(), "[aep_shadow]"));
    return true;
}

/* Two tenants: the same address, different memory; nobody is in both. */
static bool tenants_are_separate(const struct test* test) {
    int first = new_context(), second = new_context();
    pid_t pid;

    pid = fork();
    if (!pid) {
        become_member(first);
        new_data(4096)[0] = 'a';
        _exit(join(second, getpid()) == -EBUSY ? 0 : 1);
    }
    CHECK(wait_status(pid) == 0);
    pid = fork();
    if (!pid) {
        become_member(test->value[0] ? first : second);
        _exit(new_data(4096)[0] == 0 && ((volatile char*)AEP_MMAP_BASE)[0] == 0 ? 0 : 1);
    }
    CHECK(wait_status(pid) == 0);
    return true;
}

/* The same question about two members of one context. */
static bool tenants_control(const struct test* test) {
    struct test same = *test;

    same.value[0] = 1;
    return tenants_are_separate(&same);
}

/* A member cannot take its mapping apart, nor change what is allowed in it. */
static bool mapping_is_sealed(const struct test* test) {
    char* base = (char*)AEP_BASE;

    (void)test;
    become_member(new_context());
    CHECK(munmap(base, 4096) && errno == EPERM);
    CHECK(munmap(base, AEP_SIZE) && errno == EPERM);
    CHECK(mprotect(base, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) && errno == EPERM);
    CHECK(mremap(base, AEP_SIZE, 4096, 0) == MAP_FAILED && errno == EPERM);
    CHECK(mremap(base, AEP_SIZE, AEP_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x100000000000) ==
          MAP_FAILED);
    CHECK(mmap(base, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
              MAP_FAILED &&
          errno == EPERM);
    CHECK(munmap((void*)AEP_SHADOW, 4096) && errno == EPERM);
    CHECK(mprotect((void*)AEP_SHADOW, 4096, PROT_READ) && errno == EPERM);
    return true;
}

static bool no_advice(const struct test* test) {
    static const int advice[] = {MADV_DONTNEED, MADV_REMOVE,     MADV_FREE,      MADV_DONTFORK,
                                 MADV_DODUMP,   MADV_HUGEPAGE,   MADV_COLD,      MADV_PAGEOUT,
                                 MADV_WILLNEED, MADV_WIPEONFORK, MADV_SEQUENTIAL};
    volatile char* data;

    (void)test;
    become_member(new_context());
    data = new_data(4096);
    data[0] = 1;
    /* First what does no harm if it is taken. */
    CHECK(madvise((void*)AEP_BASE, AEP_SIZE, MADV_SEQUENTIAL) && errno == EINVAL);
    for (size_t i = 0; i < sizeof advice / sizeof *advice; i++)
        CHECK(madvise((void*)AEP_MMAP_BASE, 4096, advice[i]) && errno == EINVAL);
    CHECK(madvise((void*)AEP_SHADOW, 4096, MADV_DONTFORK) && errno == EPERM);
    CHECK(data[0] == 1);
    return true;
}

enum { AT_TEXT, AT_DATA, AT_END };

/* Data is no text, text is not writable, and what is not handed out is not there. */
static bool protection(const struct test* test) {
    struct request* r = new_request();
    int context = new_context(), status;
    pid_t pid;

    pid = fork();
    if (!pid) {
        volatile char* data;

        become_member(context);
        data = new_data(4096);
        data[0] = (char)0xc3; /* ret */
        r->arg[0] = test->value[1] == AT_TEXT ? (long)AEP_BASE : (long)data;
        if (test->value[1] == AT_END) r->arg[0] += 4096;
        enter(r, test->value[0]);
        _exit(0);
    }
    status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == test->value[2]);
    CHECK(!r->done);
    return true;
}

/* The same question about data that is there, read. */
static bool protection_control(const struct test* test) {
    struct test readable = {.name = test->name, .value = {OP_READ, AT_DATA, SIGSEGV}};

    return protection(&readable);
}

/* An address range that is taken: the process stays as it is, and can join once it is free. */
static bool join_is_all_or_nothing(const struct test* test) {
    int context = new_context();
    long where[] = {AEP_BASE + AEP_SIZE - 4096, AEP_BASE, AEP_SHADOW};

    for (int i = 0; i < 3; i++) {
        void* page =
            mmap((void*)where[i], 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

        CHECK(page == (void*)where[i]);
        if (test->value[0]) {
            CHECK(!munmap(page, 4096));
            become_member(context);
        } else {
            CHECK(join(context, getpid()) == -EBUSY);
        }
        CHECK(!maps_contain(getpid(), "[aep]") && !maps_contain(getpid(), "[aep_shadow]"));
        CHECK(!munmap(page, 4096));
    }
    CHECK(join(context, getpid()) == 0);
    CHECK(join(context, getpid()) == -EBUSY);
    enter(new_request(), OP_RETURN);
    return true;
}

static bool join_control(const struct test* test) {
    struct test joined = *test;

    joined.value[0] = 1;
    return join_is_all_or_nothing(&joined);
}

/* Pages of the context are real ones: other processes read them, futexes in them are shared. */
static bool remote_access(const struct test* test) {
    int context = new_context();
    char byte = 0;
    struct iovec to = {&byte, 1}, from = {(void*)AEP_MMAP_BASE, 1};
    struct request* r = new_request();
    pid_t pid;

    (void)test;
    pid = fork();
    if (!pid) {
        become_member(context);
        new_data(4096)[0] = 'd';
        r->inside = 1;
        body_op(r);
        for (;;) pause();
    }
    CHECK(EVENTUALLY(r->inside));
    CHECK(process_vm_readv(pid, &to, 1, &from, 1, 0) == 1 && byte == 'd');
    byte = 'e';
    CHECK(process_vm_writev(pid, &to, 1, &from, 1, 0) == 1);
    become_member(context);
    CHECK(*(volatile char*)AEP_MMAP_BASE == 'e');
    /* The text cannot be written to, by this way neither. */
    from.iov_base = (void*)AEP_BASE;
    CHECK(process_vm_writev(pid, &to, 1, &from, 1, 0) == -1 && errno == EFAULT);
    return true;
}

static bool remote_access_control(const struct test* test) {
    char byte = 0;
    struct iovec to = {&byte, 1}, from = {(void*)AEP_MMAP_BASE, 1};

    (void)test;
    CHECK(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1);
    return true;
}

static void body_hold_data(struct request* r) {
    *new_data(4096) = 'm';
    r->inside = 1;
    for (;;) pause();
}

/* Whoever made the context is gone: another process goes on with it, from a member. */
static bool outlives_its_maker(const struct test* test) {
    struct request* r = new_request();
    int context = new_context(), again;
    pid_t member = test->value[0] ? fork() : spawn(context, body_hold_data, r);
    int pidfd;

    if (!member)
        for (;;) pause();
    CHECK(test->value[0] || EVENTUALLY(r->inside));
    close(context);
    pidfd = pidfd_of(member);
    again = (int)aep_ops(AEP_CONTEXT, pidfd, 0, 0, 0, 0);
    if (again < 0) return fail("no context: %d", again);
    become_member(again);
    CHECK(*(volatile char*)AEP_MMAP_BASE == 'm');
    return true;
}

/* Of a process that is no member there is none. */
static bool outlives_control(const struct test* test) {
    struct test other = *test;

    other.value[0] = 1;
    return outlives_its_maker(&other);
}

static bool shared_futex(const struct test* test) {
    int context = new_context();
    volatile int* word;
    pid_t pid;

    become_member(context);
    word = (volatile int*)new_data(4096);
    pid = fork();
    if (!pid) {
        while (*word == 0)
            syscall(SYS_futex, test->value[0] ? (void*)new_request() : (void*)word, FUTEX_WAIT, 0,
                    NULL, NULL, 0);
        _exit(0);
    }
    CHECK(EVENTUALLY(state_of(pid) == 'S'));
    *word = 1;
    CHECK(EVENTUALLY(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) == 1));
    CHECK(wait_status(pid) == 0);
    return true;
}

static bool shared_futex_control(const struct test* test) {
    struct test other = *test;

    other.value[0] = 1;
    return shared_futex(&other);
}

const struct test context_tests[] = {
    {"context.shared_faults",
     shared_faults,
     0,
     {0},
     shared_faults_control,
     .expected = "wait_status(pid) == 0"},
    {"context.fork_inherits", fork_inherits, PART_INHERIT, .expected = "pid >= 0"},
    {"context.exec_drops",
     exec_drops,
     0,
     {0},
     exec_drops_control,
     .expected = "!maps_contain(getpid(), "},
    {"context.tenants_are_separate",
     tenants_are_separate,
     0,
     {0},
     tenants_control,
     .expected = "wait_status(pid) == 0"},
    {"context.mapping_is_sealed", mapping_is_sealed, PART_SEAL,
     .expected = "munmap(base, 4096) && errno == EPERM"},
    {"context.no_advice", no_advice, PART_ADVISE,
     .expected = "madvise((void*)AEP_BASE, AEP_SIZE, MADV_SEQUENTIAL)"},
    {"context.data_is_no_text",
     protection,
     0,
     {OP_JUMP, AT_DATA, SIGSEGV},
     protection_control,
     .expected = "WIFSIGNALED(status) && WTERMSIG(status) == test->value[2]"},
    {"context.text_is_read_only",
     protection,
     0,
     {OP_WRITE, AT_TEXT, SIGSEGV},
     protection_control,
     .expected = "WIFSIGNALED(status) && WTERMSIG(status) == test->value[2]"},
    {"context.beyond_the_end",
     protection,
     0,
     {OP_READ, AT_END, SIGBUS},
     protection_control,
     .expected = "WIFSIGNALED(status) && WTERMSIG(status) == test->value[2]"},
    {"context.join_is_all_or_nothing",
     join_is_all_or_nothing,
     0,
     {0},
     join_control,
     .expected = "!maps_contain(getpid()"},
    {"context.remote_access",
     remote_access,
     0,
     {0},
     remote_access_control,
     .expected = "process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1"},
    {"context.outlives_its_maker",
     outlives_its_maker,
     0,
     {0},
     outlives_control,
     .expected = "no context"},
    {"context.shared_futex",
     shared_futex,
     0,
     {0},
     shared_futex_control,
     .expected = "syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) == 1)"},
    {NULL},
};
