// Purpose: see fault_signal.hpp.
// Who calls it: see fault_signal.hpp.
// Crash rule: see fault_signal.hpp.
#include "shim/sys/fault_signal.hpp"

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

long change(int signal, const Action* to, Action* from) {
    return sys::call(__NR_rt_sigaction, signal, sys::word(to), sys::word(from), sizeof(u64));
}

/// What is kept of one signal.
struct Kept {
    int signal;
    std::atomic<FaultLook*> look{nullptr};
    /// What comes second. Written by whoever finds the program's own, which is rare; words, each written whole.
    Action second{};
    /// The fault that was last handed to the program's handler, and from where: of which thread, the addresses say. Of two
    /// threads that fault at once the later one counts; the other's handler may be called again.
    std::atomic<const siginfo_t*> handed_info{nullptr};
    std::atomic<uptr> handed_frame{0};
};
constinit Kept all_kept[] = {{.signal = SIGSEGV}, {.signal = SIGBUS}};

Kept& kept_of(int signal) { return all_kept[signal == SIGBUS ? 1 : 0]; }

bool is_ignored(const Action& action) {
    return reinterpret_cast<uptr>(action.handler) == reinterpret_cast<uptr>(SIG_IGN);
}

/// Of a fault: it cannot be ignored.
bool is_default(const Action& action) { return action.handler == nullptr || is_ignored(action); }

/// The instruction faults again, and ends the process as it would have without us.
void end_as_by_default(int signal) {
    const Action by_default{};
    change(signal, &by_default, nullptr);
}

Fault fault_of(const siginfo_t& info, const void* context) {
    constexpr long long WRITE = 2;  // of the page fault's error code
    const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
    return {info.si_code, reinterpret_cast<uptr>(info.si_addr),
            (machine.gregs[REG_ERR] & WRITE) != 0, static_cast<uptr>(machine.gregs[REG_RIP]),
            static_cast<uptr>(machine.gregs[REG_RBP])};
}

void on_fault(int signal, siginfo_t* info, void* context) {
    Kept& kept = kept_of(signal);
    // The handler that we called has called us, as what it had found. One that jumped out leaves the same words, but
    // the next fault comes at the same place then, or with other ones.
    const uptr frame = reinterpret_cast<uptr>(__builtin_frame_address(0));
    if (kept.handed_info.load(std::memory_order_relaxed) == info &&
        frame < kept.handed_frame.load(std::memory_order_relaxed))
        return end_as_by_default(signal);
    FaultLook* const explain = kept.look.load(std::memory_order_relaxed);
    if (info->si_code > 0 && explain != nullptr) {
        if (const uptr at = explain(fault_of(*info, context)); at != 0) {
            static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(at);
            return;
        }
    }
    const Action next = kept.second;
    // Sent, not a fault: it does not come again by itself, and can be ignored. So it is with news of a page that nobody
    // has touched.
    const bool is_news = signal == SIGBUS && info->si_code == BUS_MCEERR_AO;
    const bool is_sent = info->si_code <= 0 || is_news;
    if (is_sent && is_ignored(next)) return;
    if (is_default(next)) {
        end_as_by_default(signal);
        // Nor is what the machine has reported touched again, only to be reported once more.
        const bool is_report = signal == SIGBUS && info->si_code == BUS_MCEERR_AR;
        if (is_sent || is_report) sys::tgkill(sys::getpid(), sys::gettid(), signal);
    } else {
        sys::call(__NR_rt_sigprocmask, SIG_BLOCK, sys::word(&next.mask), 0, sizeof next.mask);
        kept.handed_frame.store(frame, std::memory_order_relaxed);
        kept.handed_info.store(info, std::memory_order_relaxed);
        next.handler(signal, info, context);
        kept.handed_info.store(nullptr, std::memory_order_relaxed);
    }
}

}  // namespace

void keep_fault_signal(int signal, FaultLook* explain) {
    Kept& kept = kept_of(signal);
    kept.look.store(explain, std::memory_order_relaxed);
    Action now{};
    if (sys::failed(change(signal, nullptr, &now)) || now.handler == on_fault) return;
    kept.second = now;
    // Where there is no handler, what is sent and ignored interrupts no call that can be begun anew.
    const unsigned long of_theirs =
        is_default(now) ? SA_RESTART : now.flags & (SA_NODEFER | SA_RESTART);
    const Action ours{on_fault, SA_SIGINFO | SA_ONSTACK | HAS_RESTORER | of_theirs,
                      aep_return_from_signal, 0};
    change(signal, &ours, nullptr);
}

}  // namespace aep
