// Purpose: see kernel_plug.hpp.
// Who calls it: see kernel_plug.hpp.
// Crash rule: see kernel_plug.hpp.
#include "tools/daemon/kernel_plug.hpp"

#include <sys/syscall.h>

#include "aep-lib/provider/kernel_provider.hpp"
#include "tools/node/node_error.hpp"

namespace aep {
namespace {

UniqueFd open_pidfd(pid_t pid) {
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace

std::string KernelPlug::start(const WatchedContext& watched) {
    for (const std::string& line : missing_for_kernel()) return line;
    const std::string why = completer_.prepare(watched);
    return why.empty() ? find_or_make() : why;
}

/// The kernel's context that a client of an earlier daemon is a member of, or a new one. (If there
/// are two, both show the same files: all that a member sees is in these.)
std::string KernelPlug::find_or_make() {
    const ContextHeader& header = context();
    for (u32 i = 1; i <= header.max_clients; ++i) {
        if (client_at(i).state.load() == static_cast<u32>(ClientState::free)) continue;
        const UniqueFd pidfd = open_pidfd(static_cast<pid_t>(client_at(i).pid));
        if (!pidfd) continue;
        if (auto found = kernel_context_of(pidfd.get(), header)) {
            kernel_context_ = UniqueFd(*found);
            return "";
        }
    }
    auto made = make_kernel_context(completer_.context_fd(), completer_.image_fd(), header);
    if (!made) return made.error();
    kernel_context_ = UniqueFd(*made);
    return "";
}

std::string KernelPlug::watch(u32, pid_t, int pidfd) {
    return join_kernel_context(kernel_context_.get(), pidfd, context());
}

void KernelPlug::begin() {
    have_completer();  // before it is needed: whoever waits for it waits less
}

/// Starts one if there is none.
bool KernelPlug::have_completer() {
    if (completer_.runs()) return true;
    ready_ = asked_ = false;
    const std::string why = completer_.start(-1);
    if (!why.empty()) log_(LogLevel::error, "no completer: " + why);
    return why.empty();
}

/// One that never came to work is started again by the next sweep only.
void KernelPlug::completer_died() {
    log_(LogLevel::warning, "the completer (pid " + std::to_string(completer_.pid()) + ") is dead");
    const bool worked = ready_;
    completer_.end();
    ready_ = asked_ = false;
    if (worked) have_completer();
}

SlotOutcome KernelPlug::complete(u32 index) {
    const Slot& slot = slot_at(index);
    // Its thread is gone from the image, or has never been there.
    if (index != host_slot())
        return is_open(slot) ? SlotOutcome::no_capture : SlotOutcome::completed;
    // A former completer may still be in it until ours has come to work.
    if (!have_completer() || !ready_ || asked_) return SlotOutcome::pending;
    return is_open(slot) ? SlotOutcome::no_capture : SlotOutcome::completed;
}

SlotOutcome KernelPlug::begin_operation(u32 slot) {
    asked_ = completer_.send_job(slot);
    return SlotOutcome::pending;
}

void KernelPlug::on_event() {
    const auto take_it = [this](const CompleterReport& report) { take(report); };
    if (!completer_.receive(take_it)) completer_died();
}

void KernelPlug::take(const CompleterReport& report) {
    switch (report.outcome) {
        case CompleterOutcome::started: {
            // Not before: the exec that made it the completer would have ended the membership.
            const UniqueFd pidfd = open_pidfd(completer_.pid());
            const std::string why = watch(0, completer_.pid(), pidfd.get());
            if (!why.empty()) log_(LogLevel::error, "the completer: " + why);
            if (why.empty()) completer_.send_job(BEGIN_JOB);
            break;
        }
        case CompleterOutcome::ready:
            ready_ = true;
            break;
        default:
            asked_ = false;
    }
}

}  // namespace aep
