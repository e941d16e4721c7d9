// What the kill programs share: a supervisor that is itself not preloaded, starts workers that are,
// and kills them. Used by kill_pool and kill_identity. Crash rule: workers end when the supervisor
// does (parent-death signal).
#pragma once

#include <sys/prctl.h>

#include "tests/conformance/check.hpp"

namespace kill_test {

inline constexpr const char* k_library = "AEP_TEST_LIBRARY";

/// First call of main in the supervisor: starts it again without the preload, so that only workers
/// use the pool.
inline void leave_the_pool(char** argv) {
    const char* preload = getenv("LD_PRELOAD");
    if (preload == nullptr) {
        REQUIRE(getenv(k_library) != nullptr, "run me through run.sh pool LIBRARY");
        return;
    }
    setenv(k_library, preload, 1);
    unsetenv("LD_PRELOAD");
    execv("/proc/self/exe", argv);
    REQUIRE(false, "exec failed");
}

/// In a fresh child: becomes this program under the preload, with these arguments.
[[noreturn]] inline void become_worker(const char* kind, const char* argument) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("LD_PRELOAD", getenv(k_library), 1);
    execl("/proc/self/exe", "kill-worker", kind, argument, nullptr);
    _exit(127);
}

inline pid_t start_worker(const char* kind, const char* argument) {
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) become_worker(kind, argument);
    return pid;
}

/// The worker that allocates all the pool has in blocks of 64 KiB, checks them, and writes how many
/// it got to fd 3 (a pipe). Returns its exit code.
inline int take_all() {
    constexpr size_t size = 65536;
    static void* blocks[16384];
    size_t n = 0;
    while (n < 16384 && (blocks[n] = malloc(size)) != nullptr) {
        check::fill(blocks[n], size, n);
        ++n;
    }
    REQUIRE(n < 16384, "the pool has no end");
    for (size_t i = 0; i < n; ++i) {
        CHECK_PATTERN(blocks[i], size, i);
        free(blocks[i]);
    }
    REQUIRE(write(3, &n, sizeof n) == sizeof n);
    return check::result();
}

/// Runs take_all in a process of its own; how many blocks it got.
inline size_t count_all() {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        if (ends[1] == 3)
            fcntl(3, F_SETFD, 0);
        else
            REQUIRE(dup2(ends[1], 3) == 3);
        become_worker("take-all", "");
    }
    close(ends[1]);
    size_t n = 0;
    const bool told = read(ends[0], &n, sizeof n) == sizeof n;
    close(ends[0]);
    CHECK_CHILD(check::wait_status(pid));
    CHECK(told);
    return n;
}

}  // namespace kill_test
