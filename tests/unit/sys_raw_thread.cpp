// Purpose: a thread that libc does not know: it runs, no signal reaches it, nobody waits for it, and
//          whatever is refused while it is made leaves nothing.
// Who calls it: ctest.
// Crash rule: each test is a child of its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>
#include <fstream>
#include <string>

#include "shim/sys/raw_thread.hpp"
#include "tests/unit/in_child.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep::test {
namespace {

std::atomic<long> number{0};
std::atomic<long> turns{0};

/// Counts, without libc: what a raw thread may do.
void count_for_ever() {
    long result = SYS_gettid;
    asm volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
    number = result;
    for (;;) turns = turns + 1;
}

void wait_until_it_runs() {
    const long before = turns;
    while (turns == before) sched_yield();
}

/// Ranges of the address space; /proc is read without an allocation in between.
int mappings() {
    const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    static char text[1 << 20];
    size_t length = 0;
    for (ssize_t got; (got = read(fd, text + length, sizeof text - length)) > 0;)
        length += static_cast<size_t>(got);
    close(fd);
    int lines = 0;
    for (size_t i = 0; i < length; ++i) lines += text[i] == '\n';
    return lines;
}

std::string field_of(long tid, const std::string& name) {
    std::ifstream status("/proc/self/task/" + std::to_string(tid) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.compare(0, name.size(), name) == 0) return line.substr(name.size());
    return "";
}

sigset_t blocked() {
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, nullptr, &set);
    return set;
}

TEST(RawThread, RunsWithAllSignalsBlocked) {
    in_child([] {
        RawThread thread;
        ASSERT_EQ(thread.start(count_for_ever), 0);
        wait_until_it_runs();
        EXPECT_EQ(field_of(number, "SigBlk:\t"), "fffffffffffbfeff");  // but SIGKILL and SIGSTOP
        sigset_t own = blocked();
        EXPECT_EQ(sigismember(&own, SIGTERM), 0);  // its maker's are as they were
    });
}

/// Forks; the child's only thread that libc knows ends, while a raw one runs on. pthread_exit
/// unwinds, so it is not called below a test's body.
void* fork_and_end(void* child) {
    *static_cast<pid_t*>(child) = fork();
    if (*static_cast<pid_t*>(child) != 0) return nullptr;
    RawThread thread;
    if (thread.start(count_for_ever) != 0) _exit(2);
    wait_until_it_runs();
    pthread_exit(nullptr);
}

TEST(RawThread, IsNotWaitedFor) {
    pid_t child = -1;
    pthread_t forker;
    ASSERT_EQ(pthread_create(&forker, nullptr, fork_and_end, &child), 0);
    pthread_join(forker, nullptr);
    ASSERT_GT(child, 0);
    EXPECT_EQ(wait_for(child), 0);
}

TEST(RawThread, LeavesNothingWhereItIsRefused) {
    struct Case {
        unsigned call, argument, bits, error;
    };
    for (const Case& one :
         {Case{SYS_clone, 0, CLONE_THREAD, EAGAIN}, Case{SYS_mprotect, 2, PROT_WRITE, ENOMEM},
          Case{SYS_mmap, 3, MAP_NORESERVE, ENOMEM}}) {
        in_child([&] {
            refuse_call(one.call, one.argument, one.bits, one.error);
            const int before = mappings();
            RawThread thread;
            EXPECT_EQ(thread.start(count_for_ever), -static_cast<long>(one.error)) << one.call;
            EXPECT_EQ(mappings(), before) << one.call;
            sigset_t own = blocked();
            EXPECT_EQ(sigismember(&own, SIGTERM), 0) << one.call;
        });
    }
}

TEST(RawThread, AForkedChildForgetsItAndMayHaveOneOfItsOwn) {
    in_child([] {
        RawThread thread;
        ASSERT_EQ(thread.start(count_for_ever), 0);
        wait_until_it_runs();
        in_child([&] {
            const int before = mappings();
            thread.forget();
            EXPECT_EQ(mappings(), before - 2);  // its stack, and the page below
            thread.forget();
            EXPECT_EQ(mappings(), before - 2);
            ASSERT_EQ(thread.start(count_for_ever), 0);
            wait_until_it_runs();
        });
    });
}

}  // namespace
}  // namespace aep::test
