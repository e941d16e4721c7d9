// Purpose: see complete.hpp.
// Who calls it: see complete.hpp.
// Crash rule: killed anywhere in here, the slot's operation is as it was captured: before the jump
//             nothing has changed; inside the image the worker is captured like any thread, on the
//             same slot's stack, in place of what it began with; after the trap the sequence is
//             even.
//
// Why an operation is completed exactly once. Its thread is dead, or waits for us: it does not go
// on by itself. One completer of a context lives at a time (become_only_completer), and in it one
// worker has the slot (claim_slot). It begins only with an odd sequence and with a capture of that
// very sequence number (or a fatal one whose slot could not be read: nothing runs on the slot after
// it but completers), and the latest capture is the latest point that was reached. The image makes
// the sequence even as the operation's last step, and then nobody begins again.
#include "aep-lib/completer/complete.hpp"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <optional>

#include "aep-lib/image/image_info.hpp"

namespace aep {
namespace {

// SIGSYS: a system call that the filter does not know.
constexpr int FAULT_SIGNALS[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP, SIGSYS};
constexpr u64 TRAP_FLAG = 0x100;  // left by a debugger that stepped the thread

/// A worker's way through an operation.
struct Passage {
    u32 slot;
    u32 sequence;  // of the operation
    volatile CaptureEntry& entry;
    const Registers* begin = nullptr;  // where to go on; null: not asked to
    bool inside = false;
    bool left = false;  // before its end, as asked
    int signal = 0;     // that ended it; 0: the operation returned
    u64 rip = 0;
    gregset_t home{};  // where the worker left itself
};
thread_local Passage* passage = nullptr;

pid_t process = 0;
thread_local pid_t thread = 0;

bool is_in_image(u32 slot, u64 rip, u64 rsp) {
    return rip >= image_info().text_begin && rip < image_info().text_end &&
           rsp - stack_of_slot(slot) < STACK_BYTES;
}

/// Exchanges the worker's registers for the captured ones. Segment registers, vector registers and
/// the signal mask stay the worker's: the image uses none of them.
void go_in(int, siginfo_t*, void* context) {
    Passage* way = passage;
    if (way == nullptr || way->begin == nullptr || way->inside) return;  // not from us
    gregset_t& g = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    memcpy(way->home, g, sizeof g);
    const Registers& r = *way->begin;
    const auto put = [&g](int which, u64 value) { g[which] = static_cast<greg_t>(value); };
    put(REG_R8, r.r8);
    put(REG_R9, r.r9);
    put(REG_R10, r.r10);
    put(REG_R11, r.r11);
    put(REG_R12, r.r12);
    put(REG_R13, r.r13);
    put(REG_R14, r.r14);
    put(REG_R15, r.r15);
    put(REG_RDI, r.rdi);
    put(REG_RSI, r.rsi);
    put(REG_RBP, r.rbp);
    put(REG_RBX, r.rbx);
    put(REG_RDX, r.rdx);
    // After an interrupted futex call it is the kernel's own "restart", which the image ignores.
    put(REG_RAX, r.rax);
    put(REG_RCX, r.rcx);
    put(REG_RSP, r.rsp);
    put(REG_RIP, r.rip);
    put(REG_EFL, r.rflags & ~TRAP_FLAG);
    way->entry.gone_on = 1;  // until it is captured again, which writes a 0
    way->inside = true;
}

/// Back to the worker, although the operation is not over. Where it was interrupted the programs
/// have captured, like any handler that begins inside.
void leave(int, siginfo_t*, void* context) {
    Passage* way = passage;
    if (way == nullptr || !way->inside) return;  // it came too late
    gregset_t& g = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const auto at = [&g](int which) { return static_cast<u64>(g[which]); };
    volatile CaptureEntry& entry = way->entry;
    if (is_in_image(way->slot, at(REG_RIP), at(REG_RSP)) && entry.gone_on != 0) {
        // They are gone. To go on from the former capture would do a part of it twice.
        entry.kind = CAPTURE_NONE;
        const Registers r{at(REG_R15), at(REG_R14), at(REG_R13), at(REG_R12), at(REG_RBP),
                          at(REG_RBX), at(REG_R11), at(REG_R10), at(REG_R9),  at(REG_R8),
                          at(REG_RAX), at(REG_RCX), at(REG_RDX), at(REG_RSI), at(REG_RDI),
                          at(REG_RIP), at(REG_EFL), at(REG_RSP)};
        memcpy(const_cast<Registers*>(&entry.registers), &r, sizeof r);
        entry.client = 0;
        entry.gone_on = 0;
        // Only the compiler has to keep the order: it is for whoever looks after a kill.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        entry.kind = CAPTURE_HANDLER;
    }
    if (entry.sequence_known == 0) {
        entry.sequence = way->sequence;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        entry.sequence_known = 1;
    }
    memcpy(g, way->home, sizeof g);
    way->left = true;
    way->inside = false;
}

/// The operation returned into the trap page, or broke: back to the worker.
void come_out(int signal, siginfo_t* info, void* context) {
    Passage* way = passage;
    if (info->si_code <= 0) return;  // sent by somebody: no fault
    if (way == nullptr || !way->inside) {
        // A fault of the completer itself: die of it.
        ::signal(signal, SIG_DFL);
        return;
    }
    gregset_t& g = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    way->rip = static_cast<u64>(g[REG_RIP]);
    way->signal = signal == SIGILL && way->rip == image_info().shadow_return ? 0 : signal;
    memcpy(g, way->home, sizeof g);
    way->inside = false;
}

/// Goes on with the captured registers until the operation returns, breaks or is left.
void pass_through(const Registers& from, Passage& way) {
    way.begin = &from;
    passage = &way;
    syscall(SYS_tgkill, process, thread, GO_SIGNAL);
    passage = nullptr;
}

/// The capture that says where the open operation `sequence` of the slot is.
std::optional<Registers> find_capture(u32 index, u32 sequence, volatile CaptureEntry& entry) {
    const u32 kind = entry.kind;
    const bool current = entry.sequence_known != 0 ? entry.sequence == sequence
                                                   : kind == static_cast<u32>(CAPTURE_FATAL);
    const u32 owner = SlotOwner{slot_at(index).owner.load(std::memory_order_acquire)}.client();
    const u32 client = entry.client;
    Registers r;
    memcpy(&r, const_cast<const Registers*>(&entry.registers), sizeof r);
    if (kind == static_cast<u32>(CAPTURE_NONE) || !current || !is_in_image(index, r.rip, r.rsp) ||
        (client != 0 && client != owner))
        return std::nullopt;
    return r;
}

/// As above. Before Linux 6.16 a thread that ends without a signal is captured a moment after its
/// memory is gone, and with it the lock that says that it lives: worth a second look.
std::optional<Registers> await_capture(u32 index, u32 sequence, volatile CaptureEntry& entry) {
    constexpr timespec PAUSE{0, 1'000'000};
    for (int tries = 0; tries < 50; ++tries) {
        if (const auto found = find_capture(index, sequence, entry)) return found;
        nanosleep(&PAUSE, nullptr);
    }
    return std::nullopt;
}

}  // namespace

long prepare_completing() {
    if (image_info().shadow_return % 2 != 0) return -ENOEXEC;  // between two traps
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    process = getpid();
    // What leads in or out is not interrupted by what leads out.
    sigaddset(&action.sa_mask, LEAVE_SIGNAL);
    action.sa_sigaction = come_out;
    for (const int signal : FAULT_SIGNALS)
        if (sigaction(signal, &action, nullptr) != 0) return -errno;
    action.sa_sigaction = go_in;
    if (sigaction(GO_SIGNAL, &action, nullptr) != 0) return -errno;
    action.sa_sigaction = leave;
    return sigaction(LEAVE_SIGNAL, &action, nullptr) == 0 ? 0 : -errno;
}

void become_worker(void* signal_stack, usize bytes) {
    stack_t stack{};
    stack.ss_sp = signal_stack;
    stack.ss_size = bytes;
    sigaltstack(&stack, nullptr);
    sigset_t blocked;
    sigfillset(&blocked);
    sigdelset(&blocked, GO_SIGNAL);
    sigdelset(&blocked, LEAVE_SIGNAL);
    for (const int signal : FAULT_SIGNALS) sigdelset(&blocked, signal);
    pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
    thread = gettid();
}

bool claim_slot(u32 slot) {
    u32 nobody = 0;
    return slot_at(slot).completer.compare_exchange_strong(nobody, static_cast<u32>(process),
                                                           std::memory_order_acq_rel);
}

void release_slot(u32 slot) { slot_at(slot).completer.store(0, std::memory_order_release); }

void void_claims(u32 slots) {
    process = getpid();
    for (u32 i = 0; i < slots; ++i) release_slot(i);
}

CompleterReport perform_slot(u32 index) {
    Slot& slot = slot_at(index);
    enter_image()(&slot);
    return {index, CompleterOutcome::completed, slot.op, 0, 0};
}

bool complete_slot(u32 index, volatile CaptureEntry* captures, CompleterReport& report) {
    Slot& slot = slot_at(index);
    report = {index, CompleterOutcome::nothing_open, slot.op, 0, 0};
    const u32 sequence = slot.sequence.load(std::memory_order_acquire);
    if (sequence % 2 == 0) return true;
    const std::optional<Registers> from = await_capture(index, sequence, captures[index]);
    if (!from) {
        report.outcome = CompleterOutcome::no_capture;
        return true;
    }
    Passage way{.slot = index, .sequence = sequence, .entry = captures[index]};
    pass_through(*from, way);
    const bool ended = slot.sequence.load(std::memory_order_acquire) == sequence + 1;
    if (way.left && !ended) return false;
    // Counted when it is over: a completer that is killed in between leaves that to the next. What
    // the host performs is nobody's death.
    const u32 deaths = index == host_slot() ? 0 : 1;
    context().captured.fetch_add(deaths, std::memory_order_relaxed);
    if (way.signal != 0 || !ended) {
        report.outcome = CompleterOutcome::broken;
        report.signal = static_cast<u32>(way.signal);
        report.rip = way.rip;
        return true;
    }
    captures[index].kind = CAPTURE_NONE;
    context().completed.fetch_add(deaths, std::memory_order_relaxed);
    report.outcome = CompleterOutcome::completed;
    return true;
}

}  // namespace aep
