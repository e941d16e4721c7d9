// Purpose: runs a test's body in a forked child, so that state which a process has once (the
//          window, fd 2, limits) is fresh in every test and tests stay independent of their
//          order.
// Who calls it: the unit tests of shim/.
// Crash rule: the child is waited for; a signal or a failed expectation in it fails the test.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

namespace aep::test {

/// Says that a part of a test cannot run here; for a whole test there is GTEST_SKIP.
inline void cannot_run(const char* part, const char* why) {
    std::printf("CANNOT RUN: %s: %s\n", part, why);
}

/// waitpid that a signal does not disturb.
inline int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/// Forks; the child runs `body` and ends with 0 if all its expectations held and it skipped
/// nothing, else 1.
template <class Body>
pid_t start_child(Body body) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        body();
        std::fflush(nullptr);
        // A test that cannot run has to say so itself, before it makes a child.
        _exit(::testing::Test::HasFailure() || ::testing::Test::IsSkipped() ? 1 : 0);
    }
    EXPECT_GT(child, 0);
    return child;
}

/// Runs `body` in a child and expects that it ends well.
template <class Body>
void in_child(Body body) {
    const int status = wait_for(start_child(body));
    EXPECT_TRUE(WIFEXITED(status)) << "the child was ended by signal " << WTERMSIG(status);
    EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

/// Limits this process's address space to `bytes` more than it uses (a sanitizer uses terabytes of
/// it).
inline void limit_address_space(unsigned long bytes) {
    unsigned long pages = 0;
    FILE* statm = std::fopen("/proc/self/statm", "r");
    ASSERT_NE(statm, nullptr);
    EXPECT_EQ(std::fscanf(statm, "%lu", &pages), 1);
    std::fclose(statm);
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = pages * 4096 + bytes;
    ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

/// What a child's body wrote to fd 2, and how it ended.
struct Output {
    std::string text;
    int status = 0;
};

/// Runs `body` in a child and returns its fd 2.
template <class Body>
Output stderr_of(Body body) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = start_child([&] {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        body();
    });
    close(ends[1]);
    Output output;
    char buffer[512];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
        output.text.append(buffer, static_cast<size_t>(n));
    close(ends[0]);
    output.status = wait_for(child);
    return output;
}

}  // namespace aep::test
