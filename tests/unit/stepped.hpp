// Purpose: a process that is led through its work by single steps, so that a test comes between any two instructions of it.
// Who calls it: tests of what two at once may see: tests/node/log_ring.cpp, tests/unit/base_biased_lock.cpp.
// Crash rule: the process ends with the object.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace aep::test {

/// A process that stops itself here and there, and may be led on from there by single steps.
class Stepped {
  public:
    explicit Stepped(const std::function<void()>& body) : pid_(fork()) {
        if (pid_ == 0) {
            ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
            stop();
            body();
            stop();
            _exit(0);
        }
        next_stop();
    }
    ~Stepped() {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    /// In the process itself.
    static void stop() { syscall(SYS_tgkill, getpid(), gettid(), SIGSTOP); }

    void goes_on() {
        ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
        next_stop();
    }
    /// False: it stopped by itself.
    bool makes_steps(u32 count) {
        int signal = SIGTRAP;
        for (; count != 0 && signal == SIGTRAP; --count) {
            ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr);
            signal = next_stop();
        }
        return signal == SIGTRAP;
    }

  private:
    int next_stop() {
        int status = 0;
        EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
        EXPECT_TRUE(WIFSTOPPED(status));
        return WIFSTOPPED(status) ? WSTOPSIG(status) : SIGKILL;
    }

    pid_t pid_;
};

}  // namespace aep::test
