/* Purpose: operations that wait, or are waited for, where others decide how long: a fault or a read
 *          that a program answers, the version 1 freezer, the whole system out of memory.
 * Who calls it: harness.c.
 * Crash rule: see harness.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/selftests/harness.h"

/* Registers a page of its own, says where and with which descriptor, and reads it inside. */
static void body_missing_page(struct request* r) {
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    r->arg[0] = (long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    range.range.start = (unsigned long)r->arg[0];
    range.range.len = 4096;
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range)) _exit(9);
    r->first = fd;
    enter(r, OP_READ);
}

/* A thread is killed in a fault from inside that waits for a program: it dies after the answer. */
static bool answered_fault(const struct test* test) {
    struct request* r = new_request();
    struct uffdio_zeropage zero;
    struct uffd_msg message;
    long before = deferrals();
    int uffd, status;
    pid_t pid;

    (void)test;
    pid = spawn(new_context(), body_missing_page, r);
    CHECK(EVENTUALLY(r->inside));
    uffd = (int)syscall(SYS_pidfd_getfd, pidfd_of(pid), (int)r->first, 0);
    CHECK(uffd >= 0 && read(uffd, &message, sizeof message) == sizeof message);
    CHECK(message.event == UFFD_EVENT_PAGEFAULT);
    CHECK(!kill(pid, SIGKILL));
    CHECK(EVENTUALLY(deferrals() > before || is_dead(pid)));
    CHECK(!is_dead(pid) && !r->done);
    zero.range.start = (unsigned long)r->arg[0];
    zero.range.len = 4096;
    zero.mode = 0;
    CHECK(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
    status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(r->done);
    return true;
}

#define FILE_OF_A_PROGRAM "/tmp/file"

/* What the program behind the file and the test tell each other. */
struct server {
    volatile int reading, answer;
};

static void reply(int fd, const struct fuse_in_header* in, int error, void* body, size_t bytes) {
    struct fuse_out_header header = {
        .len = (unsigned)(sizeof header + bytes), .error = error, .unique = in->unique};
    struct iovec parts[] = {{&header, sizeof header}, {body, bytes}};

    if (writev(fd, parts, 2) != header.len) _exit(1);
}

/* A file system (FUSE) that is one file of one page. It is read when the test says so. */
static void serve(int fd, struct server* server) {
    static char request[FUSE_MIN_READ_BUFFER], page[4096];
    const struct fuse_in_header* in = (const struct fuse_in_header*)request;
    /* The reader waits for its page, where a kill ends the wait, not for our answer. */
    struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION,
                                 .minor = FUSE_KERNEL_MINOR_VERSION,
                                 .max_readahead = 4096,
                                 .flags = FUSE_ASYNC_READ,
                                 .max_write = 4096};
    struct fuse_attr_out attributes = {
        .attr = {.ino = 1, .size = 4096, .blocks = 8, .mode = S_IFREG | 0644, .nlink = 1}};
    struct fuse_open_out opened = {0};

    while (read(fd, request, sizeof request) > 0) {
        switch (in->opcode) {
            case FUSE_INIT:
                reply(fd, in, 0, &init, sizeof init);
                break;
            case FUSE_GETATTR:
                reply(fd, in, 0, &attributes, sizeof attributes);
                break;
            case FUSE_OPEN:
                reply(fd, in, 0, &opened, sizeof opened);
                break;
            case FUSE_READ:
                server->reading = 1;
                while (!server->answer) pause_a_little();
                reply(fd, in, 0, page, sizeof page);
                break;
            case FUSE_FORGET:
            case FUSE_INTERRUPT:
                break;
            default:
                reply(fd, in, -ENOSYS, NULL, 0);
        }
    }
    _exit(0);
}

/* Maps the file and reads it inside. */
static void body_file(struct request* r) {
    struct stat status;
    int fd = open(FILE_OF_A_PROGRAM, O_RDONLY);

    if (fd < 0 || fstat(fd, &status)) _exit(9);
    r->arg[0] = (long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    enter(r, OP_READ);
}

/* The same for a page of a file that a program has to read: it waits for the page, and the kill,
 * which would end that wait, is seen when the page is there. */
static bool answered_read(const struct test* test) {
    struct request* r = new_request();
    struct server* server =
        mmap(NULL, sizeof *server, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), status;
    long before = deferrals();
    char options[64];
    pid_t pid;

    (void)test;
    CHECK(fd >= 0);
    close(open(FILE_OF_A_PROGRAM, O_CREAT | O_RDONLY | O_CLOEXEC, 0600));
    snprintf(options, sizeof options, "fd=%d,rootmode=100644,user_id=0,group_id=0", fd);
    CHECK(!mount("none", FILE_OF_A_PROGRAM, "fuse", 0, options));
    if (!fork()) serve(fd, server);
    close(fd);
    pid = spawn(new_context(), body_file, r);
    CHECK(EVENTUALLY(server->reading));
    CHECK(r->inside && !kill(pid, SIGKILL));
    server->answer = 1;
    status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(r->done && deferrals() > before);
    CHECK(!umount(FILE_OF_A_PROGRAM));
    return true;
}

#define FREEZER "/tmp/freezer"

static bool freezer_says(const char* state) {
    char text[32] = "";
    int fd = open(FREEZER "/aep/freezer.state", O_RDONLY);
    ssize_t got = read(fd, text, sizeof text - 1);

    close(fd);
    return got > 0 && !strncmp(text, state, strlen(state));
}

static bool freezer_v1(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals();
    bool frozen_inside;
    pid_t pid;

    (void)test;
    mkdir(FREEZER, 0755);
    CHECK(!mount("none", FREEZER, "cgroup", 0, "freezer"));
    mkdir(FREEZER "/aep", 0755);
    r->op = OP_HOLD;
    pid = spawn(new_context(), body_op, r);
    CHECK(EVENTUALLY(r->inside));
    CHECK(write_file(FREEZER "/aep/tasks", "%d", pid));
    CHECK(write_file(FREEZER "/aep/freezer.state", "FROZEN"));
    frozen_inside =
        !EVENTUALLY(deferrals() > before || freezer_says("FROZEN")) || freezer_says("FROZEN");
    if (!frozen_inside) CHECK(proceeds(r));
    r->go = 1;
    CHECK(frozen_inside || EVENTUALLY(freezer_says("FROZEN")));
    CHECK(write_file(FREEZER "/aep/freezer.state", "THAWED"));
    CHECK(WIFEXITED(wait_status(pid)) && r->done);
    CHECK(!rmdir(FREEZER "/aep"));
    CHECK(!umount(FREEZER));
    CHECK(!frozen_inside);
    return true;
}

/* Half of the memory, then an operation that stays inside. */
static void body_large(struct request* r) {
    size_t bytes = (size_t)r->arg[0];
    char* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    write_file("/proc/self/oom_score_adj", "1000");
    if (madvise(memory, bytes, MADV_POPULATE_WRITE)) _exit(9);
    enter(r, OP_HOLD);
}

/* The system has no memory left and kills a member that is inside: it completes first. */
static bool system_out_of_memory(const struct test* test) {
    struct request* r = new_request();
    long before = deferrals(), all = free_kib() * 1024, filled = 0, since;
    int status;
    pid_t victim, hog;

    (void)test;
    /* Nobody gets on for seconds; the victim, inside, uses its CPU time all the while. */
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "60000"));
    r->arg[0] = all / 2;
    victim = spawn(new_context(), body_large, r);
    CHECK(EVENTUALLY(r->inside));
    hog = fork();
    if (!hog) {
        char* memory = mmap(NULL, all, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        write_file("/proc/self/oom_score_adj", "500");
        for (long i = 0; i < all; i += 4096) {
            memory[i] = 1;
            __atomic_store_n(&r->arg[1], i, __ATOMIC_RELAXED);
        }
        _exit(0);
    }
    /* Until it gets no more. Nothing here may need memory itself: there is none for anybody. */
    CHECK(EVENTUALLY(__atomic_load_n(&r->arg[1], __ATOMIC_RELAXED)));
    for (since = now_ms(); now_ms() - since < 2000; pause_a_little()) {
        if (filled == __atomic_load_n(&r->arg[1], __ATOMIC_RELAXED)) continue;
        filled = __atomic_load_n(&r->arg[1], __ATOMIC_RELAXED);
        since = now_ms();
    }
    CHECK(proceeds(r));
    r->go = 1;
    status = wait_status(victim);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(r->done && deferrals() > before);
    kill(hog, SIGKILL);
    waitpid(hog, NULL, 0);
    CHECK(write_file("/sys/kernel/mm/aep/grace_period_ms", "2000"));
    return true;
}

const struct test wait_tests[] = {
    {"wait.answered_fault", answered_fault, PART_DEFER, .expected = "!is_dead(pid) && !r->done"},
    {"wait.answered_read", answered_read, PART_DEFER,
     .expected = "r->done && deferrals() > before"},
    {"wait.freezer_v1", freezer_v1, PART_DEFER, .expected = "!frozen_inside"},
    {"wait.system_out_of_memory", system_out_of_memory, PART_DEFER, .expected = "proceeds(r)"},
    {NULL},
};
