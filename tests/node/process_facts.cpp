// Purpose: what the daemon reads of other processes: it may end at any moment while it is read.
// Who calls it: ctest.
// Crash rule: children end by themselves.
#include "node/process_facts.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace aep {
namespace {

TEST(ProcessFacts, OfOneselfAndOfNobody) {
    EXPECT_NE(start_time_of(getpid()), 0u);
    EXPECT_FALSE(name_of(getpid()).empty());
    EXPECT_EQ(start_time_of(0), 0u);
    EXPECT_EQ(name_of(0), "");
    EXPECT_EQ(relations_of(getpid()).parent, getppid());
    EXPECT_EQ(relations_of(0).parent, 0);
    EXPECT_EQ(relations_of(0).threads, 0u);
}

TEST(ProcessFacts, ThreadsAreCounted) {
    const u32 before = relations_of(getpid()).threads;
    std::atomic<bool> done{false};
    std::thread another([&] { done.wait(false); });
    EXPECT_EQ(relations_of(getpid()).threads, before + 1);
    done = true;
    done.notify_one();
    another.join();
}

/// Opening /proc/PID/stat works and reading it fails when the process is reaped in between.
TEST(ProcessFacts, OfProcessesThatEndMeanwhile) {
    constexpr int CHILDREN = 1500;
    std::atomic<pid_t> child{0};
    std::atomic<bool> done{false};
    std::thread reader([&] {
        while (!done) {
            const pid_t pid = child;
            EXPECT_NO_THROW(start_time_of(pid));
            EXPECT_NO_THROW(name_of(pid));
            EXPECT_NO_THROW(relations_of(pid));
        }
    });
    for (int i = 0; i < CHILDREN; ++i) {
        const pid_t pid = fork();
        if (pid == 0) _exit(0);
        child = pid;
        waitpid(pid, nullptr, 0);
    }
    done = true;
    reader.join();
}

}  // namespace
}  // namespace aep
