// Purpose: see fault_signal.hpp.
// Who calls it: see fault_signal.hpp.
// Crash rule: see fault_signal.hpp.
#include "shim/watch/fault_signal.hpp"

#include <signal.h>
#include <ucontext.h>

#include <atomic>

#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

extern "C" void aep_return_from_signal();
// In these bytes, by which unwinders know the end of a handler.
asm(".text\n.balign 16\n.hidden aep_return_from_signal\n.type aep_return_from_signal, @function\n"
    "aep_return_from_signal:\n\tmovq $15, %rax\n\tsyscall\n"
    ".size aep_return_from_signal, . - aep_return_from_signal\n");

namespace aep {

namespace {

/// As the kernel has it.
struct Action {
    void (*handler)(int, siginfo_t*, void*);
    unsigned long flags;
    void (*restorer)();
    u64 mask;
};
constexpr unsigned long HAS_RESTORER = 0x0400'0000;

long change(const Action* to, Action* from) {
    return sys::call(__NR_rt_sigaction, SIGSEGV, sys::word(to), sys::word(from), sizeof(u64));
}

std::atomic<FaultLook*> look{nullptr};
/// What comes second. Written by whoever finds the program's own, which is rare; words, each written whole.
Action second{};

bool is_default(const Action& action) {
    return action.handler == nullptr ||
           reinterpret_cast<uptr>(action.handler) == reinterpret_cast<uptr>(SIG_IGN);
}

/// The fault that was last handed to the program's handler, and from where: of which thread, the addresses say. Of two
/// threads that fault at once the later one counts; the other's handler may be called again.
std::atomic<const siginfo_t*> handed_info{nullptr};
std::atomic<uptr> handed_frame{0};

/// The instruction faults again, and ends the process as it would have without us.
void end_as_by_default() {
    const Action by_default{};
    change(&by_default, nullptr);
}

void on_fault(int signal, siginfo_t* info, void* context) {
    const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
    // The handler that we called has called us, as what it had found. One that jumped out leaves the same words, but
    // the next fault comes at the same place then, or with other ones.
    const uptr frame = reinterpret_cast<uptr>(__builtin_frame_address(0));
    if (handed_info.load(std::memory_order_relaxed) == info &&
        frame < handed_frame.load(std::memory_order_relaxed))
        return end_as_by_default();
    constexpr long long WRITE = 2;  // of the page fault's error code
    FaultLook* const explain = look.load(std::memory_order_relaxed);
    if (info->si_code > 0 && explain != nullptr)
        explain(reinterpret_cast<uptr>(info->si_addr), (machine.gregs[REG_ERR] & WRITE) != 0,
                static_cast<uptr>(machine.gregs[REG_RIP]),
                static_cast<uptr>(machine.gregs[REG_RBP]));
    const Action next = second;
    if (is_default(next)) {
        end_as_by_default();
        // Sent, not a fault: it does not come again by itself.
        if (info->si_code <= 0) sys::tgkill(sys::getpid(), sys::gettid(), signal);
    } else {
        sys::call(__NR_rt_sigprocmask, SIG_BLOCK, sys::word(&next.mask), 0, sizeof next.mask);
        handed_frame.store(frame, std::memory_order_relaxed);
        handed_info.store(info, std::memory_order_relaxed);
        next.handler(signal, info, context);
        handed_info.store(nullptr, std::memory_order_relaxed);
    }
}

}  // namespace

void keep_fault_signal(FaultLook* explain) {
    look.store(explain, std::memory_order_relaxed);
    Action now{};
    if (sys::failed(change(nullptr, &now)) || now.handler == on_fault) return;
    second = now;
    const Action ours{on_fault, SA_SIGINFO | SA_ONSTACK | HAS_RESTORER | (now.flags & SA_NODEFER),
                      aep_return_from_signal, 0};
    change(&ours, nullptr);
}

}  // namespace aep
