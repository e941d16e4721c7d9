// Purpose: small programs, one a word, whose system calls of the library are let fail one by one: each does what a
//          program does, accepts every documented error of it, then does it all once more, when nothing may fail.
// Who calls it: tests/inject/sweep.py, under the preload and the injector.
// Crash rule: makes nothing outside of its process but what the library does.
//
// Exit status: 0: as it should be; 1: wrong, and standard error says what. Standard output names each error that was
// accepted ("said: fork ENOMEM"), and at the end the memory in use and the descriptors.
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "include/aep/dsm.h"
#include "tests/conformance/check.hpp"

namespace {

/// No error is accepted any more.
bool strict = false;
/// The process has forked: what it had is private, and groups of it cannot be made (EXDEV).
bool forked = false;

/// Whether `what` has said a documented error; any other ends the test as a failure. True: it has worked.
bool worked(const char* what, bool well, std::initializer_list<int> documented) {
    if (well) return true;
    const int error = errno;
    for (const int one : documented) {
        if (error == one && !strict) {
            dprintf(1, "said: %s %s\n", what, strerrorname_np(error));
            return false;
        }
    }
    errno = error;
    check::fail(__FILE__, __LINE__, what, " %s said %s", strict ? "when nothing fails" : "",
                strerrorname_np(error));
    return false;
}

/// A block with its pattern.
struct Block {
    unsigned char* at = nullptr;
    size_t bytes = 0;
    uint64_t seed = 0;

    void fill(uint64_t with) {
        seed = with;
        if (at != nullptr) check::fill(at, bytes, with);
    }
    void verify() const {
        if (at != nullptr) CHECK_PATTERN(at, bytes, seed);
    }
    bool allocate(size_t size, uint64_t with) {
        errno = 0;
        at = static_cast<unsigned char*>(std::malloc(size));
        if (!worked("malloc", at != nullptr, {ENOMEM})) return false;
        bytes = size;
        fill(with);
        return true;
    }
    void resize(size_t size) {
        if (at == nullptr) return;
        errno = 0;
        void* moved = std::realloc(at, size);
        if (worked("realloc", moved != nullptr, {ENOMEM})) {
            at = static_cast<unsigned char*>(moved);
            const size_t kept = bytes < size ? bytes : size;
            CHECK_PATTERN(at, kept, seed);
            bytes = size;
            fill(seed + 1);
        }
        verify();
    }
    void release() {
        verify();
        std::free(at);
        at = nullptr;
    }
};

constexpr size_t SIZES[] = {16, 100, 1000, 5000, 30000, 70000, 300000, 1500000, 3000000, 6000000};

void heap() {
    Block blocks[sizeof SIZES / sizeof *SIZES * 3];
    size_t n = 0;
    for (int round = 0; round < 3; ++round)
        for (const size_t size : SIZES) blocks[n].allocate(size, n), ++n;
    for (Block& block : blocks) block.verify();
    for (size_t i = 0; i < n; i += 2) blocks[i].resize(blocks[i].bytes * 3);
    for (size_t i = 1; i < n; i += 2) blocks[i].resize(blocks[i].bytes / 3 + 1);
    for (int used = 0; used < 2; ++used) {  // fresh memory, then what was written here
        errno = 0;
        auto* zero = static_cast<unsigned char*>(std::calloc(9, 1 << 20));
        if (worked("calloc", zero != nullptr, {ENOMEM})) {
            CHECK(check::all_zero(zero, 9 << 20), "calloc's memory is zero");
            std::memset(zero, 1, 5 << 20);
        }
        std::free(zero);
    }
    void* aligned = nullptr;
    errno = posix_memalign(&aligned, 1 << 21, 100);
    if (worked("posix_memalign", errno == 0, {ENOMEM}))
        CHECK(reinterpret_cast<uintptr_t>(aligned) % (1 << 21) == 0);
    std::free(aligned);
    for (Block& block : blocks) block.release();
    malloc_trim(0);
}

/// Many blocks of one size, so that pages and their tables grow, and idle memory.
void many() {
    static Block blocks[3000];
    for (Block& block : blocks) block.allocate(2000, 7);
    for (Block& block : blocks) block.release();
    malloc_trim(0);
    for (Block& block : blocks) block.allocate(64, 8);
    for (Block& block : blocks) block.release();
    malloc_trim(0);
}

void* thread_body(void* left) {
    auto** other = static_cast<Block**>(left);
    Block own[200];
    for (size_t i = 0; i < 200; ++i) own[i].allocate(i * 37 + 1, i);
    for (Block& block : own) block.release();
    if (*other != nullptr) (*other)->release();
    return nullptr;
}

void threads() {
    for (int round = 0; round < 3; ++round) {
        Block given[4];
        Block* pointers[4];
        pthread_t running[4];
        bool started[4];
        for (int i = 0; i < 4; ++i) {
            given[i].allocate(5000, 3);
            pointers[i] = &given[i];
            errno = pthread_create(&running[i], nullptr, thread_body, &pointers[i]);
            started[i] = worked("pthread_create", errno == 0, {EAGAIN, ENOMEM});
        }
        for (int i = 0; i < 4; ++i)
            if (started[i])
                pthread_join(running[i], nullptr);
            else
                given[i].release();
    }
    malloc_trim(0);
}

/// A pipe of which the other process's end is closed here, so that its death ends a wait.
struct Line : check::Pipe {
    void only(int end) {
        close(ends[1 - end]);
        ends[1 - end] = -1;
    }
    void reads() { only(0); }
    void writes() { only(1); }
};

/// A child and its parent go on with the heap as it was, each with its own.
void fork_once() {
    Block blocks[sizeof SIZES / sizeof *SIZES];
    size_t n = 0;
    for (const size_t size : SIZES) blocks[n].allocate(size, n), ++n;
    Line to_child;
    Line to_parent;
    errno = 0;
    const pid_t child = fork();
    if (child == 0) {
        check::failures = 0;
        to_child.reads();
        to_parent.writes();
        for (Block& block : blocks) block.verify();
        for (Block& block : blocks) block.fill(block.seed + 100);
        to_parent.send();
        to_child.receive();  // the parent has written, too
        for (Block& block : blocks) block.release();
        for (Block& block : blocks) block.allocate(9000, 5);
        Block huge;
        huge.allocate(10 << 20, 1);
        for (Block& block : blocks) block.release();
        huge.release();
        _exit(check::result());
    }
    if (!worked("fork", child > 0, {EAGAIN, ENOMEM})) {
        for (Block& block : blocks) block.release();
        return;
    }
    to_parent.reads();
    to_child.writes();
    to_parent.receive();
    for (Block& block : blocks) block.verify();
    for (Block& block : blocks) block.fill(block.seed + 200);
    to_child.send();
    CHECK_CHILD(check::wait_status(child));
    for (Block& block : blocks) block.release();
    Block after;
    after.allocate(7 << 20, 2);
    after.release();
}

void forks() {
    fork_once();
    fork_once();
    CHECK(waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD, "no child is left");
}

/// Other programs, in the usual ways, under the library as this one is.
void spawns() {
    Dl_info library{};
    CHECK(dladdr(reinterpret_cast<void*>(dsm_attach), &library) != 0);
    CHECK(setenv("LD_PRELOAD", library.dli_fname, 1) == 0);
    Block block;
    block.allocate(100000, 1);
    char* const words[] = {const_cast<char*>("true"), nullptr};
    pid_t child = 0;
    errno = posix_spawn(&child, "/bin/true", nullptr, nullptr, words, environ);
    if (worked("posix_spawn", errno == 0, {EAGAIN, ENOMEM})) CHECK_CHILD(check::wait_status(child));
    errno = 0;
    child = vfork();
    if (child == 0) {
        execve("/bin/true", words, environ);
        _exit(127);
    }
    if (worked("vfork", child > 0, {EAGAIN, ENOMEM})) CHECK_CHILD(check::wait_status(child));
    errno = 0;
    const int said = std::system("exit 0");
    worked("system", said == 0, {EAGAIN, ENOMEM});
    block.release();
}

/// The library's own thread gives memory back.
void background() {
    for (int round = 0; round < 3; ++round) {
        Block blocks[8];
        for (Block& block : blocks) block.allocate(900000, 4);
        for (Block& block : blocks) block.release();
    }
}

/// Whether this process has become no client, which it said at its start: then sharing says ENOTCONN.
bool no_client() { return dsm_attach(nullptr) != 0 && errno == ENOTCONN; }

void share() {
    errno = 0;
    if (!worked("dsm_attach", dsm_attach("injected") == 0, {ENOMEM, EAGAIN})) return;
    CHECK(dsm_self() != 0);
    CHECK(dsm_lookup("injected") == dsm_self());
    errno = 0;
    const int fd = dsm_fd();
    worked("dsm_fd", fd >= 0, {ENOMEM, EAGAIN, EMFILE, ENFILE});
    for (const size_t size : {100, 200000, 5000000}) {
        errno = 0;
        auto* object = static_cast<unsigned char*>(dsm_malloc(size));
        if (!worked("dsm_malloc", object != nullptr, {ENOMEM})) continue;
        check::fill(object, size, 9);
        errno = 0;
        const bool sent = dsm_send(dsm_self(), object) == 0;
        if (worked("dsm_send", sent, {ENOMEM, forked ? EXDEV : ENOMEM})) {
            if (fd >= 0) {
                pollfd one{fd, POLLIN, 0};
                CHECK(poll(&one, 1, 10'000) == 1, "the descriptor is up");
            }
            dsm_info info{};
            errno = 0;
            auto* received = static_cast<unsigned char*>(dsm_recv(DSM_ANY, 1000, &info));
            if (worked("dsm_recv", received != nullptr, {ENOMEM})) {
                CHECK(received == object);
                CHECK_PATTERN(received, size, 9);
                CHECK(dsm_free(received) == 0);
            } else {  // a call that fails has changed nothing: it is there still
                received = static_cast<unsigned char*>(dsm_recv(DSM_ANY, 1000, &info));
                CHECK(received == object, "what was not received waits");
                CHECK(dsm_free(received) == 0);
            }
            errno = 0;
            CHECK(dsm_recv(DSM_ANY, 0, nullptr) == nullptr && errno == EAGAIN);
        }
        CHECK(dsm_free(object) == 0);
    }
    if (forked) return;  // writing a group would be EXDEV
    errno = 0;
    dsm_group* group = dsm_group_create(100000);
    if (!worked("dsm_group_create", group != nullptr, {ENOMEM})) return;
    void* parts[100];
    for (void*& part : parts) {
        errno = 0;
        part = dsm_group_alloc(group, 40000);
        worked("dsm_group_alloc", part != nullptr, {ENOMEM});
    }
    for (void* part : parts)
        if (part != nullptr && part != parts[0]) CHECK(dsm_group_free(group, part) == 0);
    if (parts[0] != nullptr) CHECK(dsm_group_set_root(group, parts[0]) == 0);
    CHECK(dsm_unref(parts[0] != nullptr ? parts[0] : group) == 0);
}

void share_if_client() {
    if (no_client()) {
        dprintf(1, "said: no client\n");
        heap();
        return;
    }
    share();
}

/// A child of a client takes part anew.
void share_fork() {
    if (no_client()) {
        dprintf(1, "said: no client\n");
        return;
    }
    Block block;
    block.allocate(100000, 6);
    errno = 0;
    const pid_t child = fork();
    if (child == 0) {
        check::failures = 0;
        block.verify();
        Block fresh;
        fresh.allocate(5'000'000, 1);
        errno = 0;
        if (worked("dsm_attach", dsm_attach(nullptr) == 0,
                   {ENOMEM, EAGAIN, ENOTCONN, EMFILE, ENFILE})) {
            errno = 0;
            void* object = dsm_malloc(50);
            if (worked("dsm_malloc", object != nullptr, {ENOMEM})) {
                errno = 0;
                if (worked("dsm_send", dsm_send(dsm_self(), object) == 0, {ENOMEM, EXDEV})) {
                    void* received = dsm_recv(DSM_ANY, 1000, nullptr);
                    if (!worked("dsm_recv", received != nullptr, {ENOMEM}))
                        received = dsm_recv(DSM_ANY, 1000, nullptr);
                    CHECK(received == object);
                    dsm_free(received);
                }
                dsm_free(object);
            }
        }
        fresh.release();
        block.release();
        _exit(check::result());
    }
    forked = true;
    if (worked("fork", child > 0, {EAGAIN, ENOMEM})) CHECK_CHILD(check::wait_status(child));
    block.verify();
    block.fill(12);
    block.release();
    share();
}

/// A client that holds memory, objects and a message, and is killed.
[[noreturn]] void die() {
    Block blocks[20];
    for (Block& block : blocks) block.allocate(300000, 2);
    if (!no_client()) {
        void* object = dsm_malloc(100);
        if (object != nullptr) dsm_send(dsm_self(), object);
        dsm_group_create(1000);
    }
    raise(SIGKILL);
    _exit(1);
}

struct Scenario {
    const char* name;
    void (*body)();
};
constexpr Scenario SCENARIOS[] = {
    {"heap", heap},
    {"many", many},
    {"threads", threads},
    {"fork", forks},
    {"spawn", spawns},
    {"background", background},
    {"share", share_if_client},
    {"share_fork", share_fork},
    {"die", die},
};

int open_descriptors() {
    int count = 0;
    for (int fd = 3; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) != -1;
    return count;
}

}  // namespace

int main(int argc, char** argv) {
    check::begin();
    const int before = open_descriptors();
    for (const Scenario& one : SCENARIOS) {
        if (argc != 2 || std::strcmp(argv[1], one.name) != 0) continue;
        check::begin_case(one.name);
        one.body();
        strict = true;
        one.body();
        const struct mallinfo2 figures = mallinfo2();
        const int more = open_descriptors() - before;
        CHECK(more == (std::strncmp(one.name, "share", 5) == 0 && !no_client() ? 1 : 0),
              " %d descriptors more", more);
        dprintf(1, "in use: %zu\n", figures.uordblks);
        return check::result();
    }
    dprintf(2, "scenario: which?\n");
    return 2;
}
