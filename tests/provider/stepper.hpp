// Purpose: a victim that goes through an operation one instruction at a time.
// Who calls it: the tests that kill at a chosen instruction.
#pragma once

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/provider/victim.hpp"

namespace aep::test {

/// Stops for the tracer right before the operation.
template <class O>
void traced(const O& o, u32 slot = 0) {
    Slot& s = slot_at(slot);
    s.op = number_of<O>();
    copy_message<O>(s.request, &o);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSTOP);
    enter_image()(&s);
    _exit(0);
}

/// A victim whose `body` ends in traced(): stopped before the first instruction in the image.
class Stepper {
  public:
    Stepper(Node& node, std::function<void()> body) : node_(node) {
        victim_ = node.spawn([&] {
            ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
            body();
        });
        int status = 0;
        do {
            waitpid(victim_, &status, 0);
        } while (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP);
        alive_ = WIFSTOPPED(status);
        while (alive_ && !inside()) step();
    }
    bool step() {
        int status = 0;
        ptrace(PTRACE_SINGLESTEP, victim_, nullptr, nullptr);
        waitpid(victim_, &status, 0);
        return alive_ = WIFSTOPPED(status);
    }
    u64 rip() const {
        user_regs_struct registers{};
        ptrace(PTRACE_GETREGS, victim_, nullptr, &registers);
        return registers.rip;
    }
    bool inside() const {
        const u64 at = rip();
        return at >= node_.image.text_begin && at < node_.image.text_end;
    }
    void kill_it() {
        kill(victim_, SIGKILL);
        wait_for(victim_);
        node_.provider->remove_member(static_cast<u32>(victim_), CLIENT);
    }
    bool alive() const { return alive_; }
    pid_t pid() const { return victim_; }

  private:
    Node& node_;
    pid_t victim_;
    bool alive_ = false;
};

}  // namespace aep::test
