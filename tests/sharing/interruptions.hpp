// Purpose: a signal handler that runs again and again on top of whatever the process does.
// Who calls it: the sharing peer's commands.
// Crash rule: private to the process.
#pragma once

#include <signal.h>
#include <sys/time.h>

#include <chrono>

namespace aep::test {

/// While it lives.
class Interruptions {
  public:
    Interruptions(std::chrono::microseconds between, void (*handler)(int)) {
        struct sigaction action {};
        action.sa_handler = handler;
        sigaction(SIGALRM, &action, nullptr);
        every(between.count());
    }
    ~Interruptions() { every(0); }
    Interruptions(const Interruptions&) = delete;
    Interruptions& operator=(const Interruptions&) = delete;

  private:
    static void every(long us) {
        const itimerval timer{{0, us}, {0, us}};
        setitimer(ITIMER_REAL, &timer, nullptr);
    }
};

}  // namespace aep::test
