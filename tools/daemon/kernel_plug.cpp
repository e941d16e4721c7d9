// Purpose: see kernel_plug.hpp.
// Who calls it: see kernel_plug.hpp.
// Crash rule: see kernel_plug.hpp.
#include "tools/daemon/kernel_plug.hpp"

#include <sys/syscall.h>

#include "aep-lib/provider/kernel_provider.hpp"
#include "aep-lib/provider/seen.hpp"
#include "tools/node/node_error.hpp"

namespace aep {
namespace {

UniqueFd open_pidfd(pid_t pid) {
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace

std::string KernelPlug::start(const WatchedContext& watched) {
    for (const std::string& line : missing_for_kernel()) return line;
    const std::string why = keeper_.prepare(watched, -1);
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
    auto made = make_kernel_context(keeper_.context_fd(), keeper_.image_fd(), header);
    if (!made) return made.error();
    kernel_context_ = UniqueFd(*made);
    return "";
}

std::string KernelPlug::watch(u32, pid_t pid, int pidfd) {
    // The next daemon looks for its members by their numbers.
    if (std::string why = why_not_seen(pid, pidfd); !why.empty()) return why;
    return join_kernel_context(kernel_context_.get(), pidfd, context());
}

std::string KernelPlug::watch_completer(pid_t pid) {
    const UniqueFd pidfd = open_pidfd(pid);
    return watch(0, pid, pidfd.get());
}

SlotOutcome KernelPlug::complete(u32 index) {
    const Slot& slot = slot_at(index);
    // Its thread is gone from the image, or has never been there.
    if (index != host_slot())
        return is_open(slot) ? SlotOutcome::no_capture : SlotOutcome::completed;
    // A former completer may still be in it until ours has come to work.
    if (!keeper_.want() || !keeper_.works() || keeper_.asked(index)) return SlotOutcome::pending;
    return is_open(slot) ? SlotOutcome::no_capture : SlotOutcome::completed;
}

SlotOutcome KernelPlug::begin_operation(u32 slot) {
    keeper_.ask(slot);
    return SlotOutcome::pending;
}

/// The kernel has let it end, or has broken it off: complete() sees which.
void KernelPlug::given_up(u32 slot, const std::string& why) {
    log_(LogLevel::error, "the operation in slot " + std::to_string(slot) + " is given up: " + why);
}

}  // namespace aep
