// Purpose: the provider `kernel` in the daemon: clients become members of a context of the
//          kernel's, which lets their operations end before they die; the host's own operations are
//          performed by a member, too, the completer.
// Who calls it: daemon/main.cpp makes it, the daemon's loop and recovery use it.
// Crash rule: the kernel's context lives as long as a member of it; the next daemon gets it from
//             one. An operation that the completer has begun ends, whoever is killed. One that it
//             had not begun is asked for again, by whoever comes: a completer begins with nothing
//             before the former one is gone.
#pragma once

#include "node/unique_fd.hpp"
#include "tools/daemon/performing_plug.hpp"

namespace aep {

class KernelPlug final : public PerformingPlug {
  public:
    explicit KernelPlug(Log log, CompleterOptions options = {})
        : PerformingPlug(std::move(log), std::move(options)) {}

    Provider kind() const override { return Provider::kernel; }
    std::string start(const WatchedContext& watched) override;
    std::string watch(u32 client, pid_t pid, int pidfd) override;

  private:
    /// What is open there was broken off, by a fault or at the grace period's end.
    SlotOutcome complete_clients(u32 slot) override;
    std::string find_or_make();
    std::string watch_completer(pid_t pid) override;

    UniqueFd kernel_context_;
};

}  // namespace aep
