// The other ways to make a process copy: _Fork, syscall(SYS_fork), syscall(SYS_clone) and clone()
// without CLONE_VM, which run no atfork handlers, and clone() with CLONE_VM | CLONE_VFORK, which
// shares the memory. The heap must be private (or shared) all the same. Run by CTest through run.sh
// in both modes. Crash rule: check.hpp.
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include "tests/conformance/population.hpp"

static check::Population<300> s_all;
static check::Population<300> s_own;
static check::Pipe* s_to_parent;
static check::Pipe* s_to_child;

static int child_main() {
    s_all.check();
    s_all.repaint(2);
    s_own.make(300000, 50);
    s_to_parent->send();
    s_to_child->receive();
    s_all.check();
    s_own.check();
    s_all.renew();
    s_all.check();
    s_own.free_all();
    s_all.free_all();
    return check::result();
}

static int on_new_stack(void*) {
    check::failures = 0;
    return child_main();
}

static pid_t by_underscore_fork() { return _Fork(); }
static pid_t by_sys_fork() { return static_cast<pid_t>(syscall(SYS_fork)); }
static pid_t by_sys_clone() { return static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
static pid_t by_sys_clone3() {
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } arguments = {0, 0, 0, 0, SIGCHLD, 0, 0, 0};
    return static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
}
alignas(16) static char s_stack[256 << 10];
static pid_t by_clone() { return clone(on_new_stack, s_stack + sizeof s_stack, SIGCHLD, nullptr); }

static void one_way(const char* name, pid_t (*make)()) {
    check::begin_case(name);
    s_all.make(300000, 1);
    check::Pipe to_parent;
    check::Pipe to_child;
    s_to_parent = &to_parent;
    s_to_child = &to_child;
    const pid_t pid = make();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        check::failures = 0;
        _exit(child_main());
    }
    to_parent.receive();
    s_all.check();
    s_all.repaint(3);
    s_all.renew();
    s_own.make(300000, 60);
    to_child.send();
    CHECK_CHILD(check::wait_status(pid));
    s_all.check();
    s_own.check();
    s_all.free_all();
    s_own.free_all();
}

static void repeat(const char* name, pid_t (*make)()) {
    check::begin_case(name);
    s_all.make(60000, 4);
    for (int round = 0; round < 12; ++round) {
        const pid_t pid = make();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            check::failures = 0;
            s_all.check();
            s_all.repaint(99);
            s_all.renew();
            _exit(check::result());
        }
        s_all.renew();
        CHECK_CHILD(check::wait_status(pid));
        s_all.check();
    }
    s_all.free_all();
}

static char* s_shared;
static int shares_memory(void*) {
    // Same address space: what it writes, allocates and frees is the parent's.
    check::fill(s_shared, 1000, 8);
    free(s_shared);
    s_shared = static_cast<char*>(malloc(2000));
    if (s_shared == nullptr) return 1;
    check::fill(s_shared, 2000, 9);
    return 0;
}

static void with_shared_memory() {
    check::begin_case("clone with CLONE_VM | CLONE_VFORK");
    s_all.make(300000, 6);
    s_shared = static_cast<char*>(malloc(1000));
    REQUIRE(s_shared != nullptr);
    const pid_t pid =
        clone(shares_memory, s_stack + sizeof s_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);
    REQUIRE(pid >= 0);
    CHECK_CHILD(check::wait_status(pid));
    CHECK_PATTERN(s_shared, 2000, 9);
    free(s_shared);
    s_all.check();
    s_all.free_all();
}

static std::atomic<bool> s_stop;
static void* churn(void*) {
    check::Random random(7);
    void* blocks[100] = {};
    while (!s_stop) {
        void*& p = blocks[random.below(100)];
        free(p);
        p = malloc(random.below(20000));
    }
    for (void* p : blocks) free(p);
    return nullptr;
}

int main() {
    check::begin();
    for (const bool threads : {false, true}) {
        // With a second thread that allocates all the time, and without.
        pthread_t thread;
        s_stop = false;
        if (threads) REQUIRE(pthread_create(&thread, nullptr, churn, nullptr) == 0);
        one_way("_Fork", by_underscore_fork);
        one_way("syscall(SYS_fork)", by_sys_fork);
        one_way("syscall(SYS_clone)", by_sys_clone);
        one_way("syscall(SYS_clone3)", by_sys_clone3);
        one_way("clone() on a new stack", by_clone);
        repeat("_Fork, repeated", by_underscore_fork);
        repeat("syscall(SYS_fork), repeated", by_sys_fork);
        with_shared_memory();
        s_stop = true;
        if (threads) REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    return check::result();
}
