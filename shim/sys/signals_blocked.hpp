// Purpose: a scope in which no signal handler runs on the calling thread: none can fork there, jump
//          out of it, or end the thread in the middle of it.
// Who calls it: aside.cpp and process.cpp (the start), join.cpp (a child that joins anew),
//          headroom.cpp (looks), idle_heaps.cpp (visits).
// Crash rule: the mask is the thread's.
#pragma once

#include <signal.h>

#include "shim/sys/syscall.hpp"

namespace aep {

/// All signals of the thread are blocked for a scope, those of libc too, but for what tells of a
/// fault: a blocked one would end the program past its own handler (a sandbox answers system calls
/// in that of SIGSYS). Cost: two system calls.
class SignalsBlocked {
  public:
    enum Later { LATER };
    SignalsBlocked() { begin(); }
    /// Of a scope that may have to begin in the middle, and end there.
    explicit SignalsBlocked(Later) {}
    ~SignalsBlocked() { end(); }
    void begin() {
        change(~faults());
        begun_ = true;
    }
    void end() {
        if (begun_) change(before_);
        begun_ = false;
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

  private:
    static constexpr u64 faults() {
        constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
        u64 mask = 0;
        for (const int signal : SIGNALS) mask |= u64{1} << (signal - 1);
        return mask;
    }
    void change(u64 mask) {
        sys::call(__NR_rt_sigprocmask, SIG_SETMASK, sys::word(&mask), sys::word(&before_),
                  sizeof mask);
    }
    u64 before_ = 0;
    bool begun_ = false;
};

}  // namespace aep
