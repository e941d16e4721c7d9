// Purpose: see kernel_plug.hpp.
// Who calls it: see kernel_plug.hpp.
// Crash rule: see kernel_plug.hpp.
#include "tools/daemon/kernel_plug.hpp"

#include <sys/syscall.h>

#include "aep-lib/provider/kernel_provider.hpp"
#include "aep-lib/provider/seen.hpp"
#include "node/node_error.hpp"

namespace aep {
namespace {

UniqueFd open_pidfd(pid_t pid) {
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace

std::string KernelPlug::start(const WatchedContext& watched) {
    for (const std::string& line : missing_for_kernel()) return line;
    const std::string why = performer_.prepare(watched, -1);
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
    auto made = make_kernel_context(performer_.context_fd(), performer_.image_fd(), header);
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

/// Its thread is gone from the image, or has never been there.
SlotOutcome KernelPlug::complete_clients(u32 index) {
    return is_open(slot_at(index)) ? SlotOutcome::no_capture : SlotOutcome::completed;
}

}  // namespace aep
