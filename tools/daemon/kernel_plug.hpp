// Purpose: the provider `kernel` in the daemon: clients become members of a context of the
//          kernel's, which lets their operations end before they die; the host's own operations are
//          performed by a member, too, the completer.
// Who calls it: daemon/main.cpp makes it, the daemon's loop and recovery use it.
// Crash rule: the kernel's context lives as long as a member of it; the next daemon gets it from
//             one. An operation that the completer has begun ends, whoever is killed. One that it
//             had not begun is asked for again, by whoever comes: a completer begins with nothing
//             before the former one is gone.
#pragma once

#include "tools/daemon/completer_keeper.hpp"
#include "tools/node/completion.hpp"
#include "tools/node/host.hpp"
#include "tools/node/unique_fd.hpp"

namespace aep {

class KernelPlug final : public Capture, public Completion, private CompleterOwner {
  public:
    explicit KernelPlug(Log log, CompleterOptions options = {})
        : log_(std::move(log)), keeper_(*this, std::move(options), log_) {}

    Provider kind() const override { return Provider::kernel; }
    std::string start(const WatchedContext& watched) override;
    std::string watch(u32 client, pid_t pid, int pidfd) override;

    void begin() override { keeper_.want(); }  // before it is needed: nobody waits for its start
    /// Clients' slots: what is open there was broken off, by a fault or at the grace period's end.
    SlotOutcome complete(u32 slot) override;
    SlotOutcome begin_operation(u32 slot) override;
    bool performs_here() const override { return false; }  // a completer does
    int event_fd() const override { return keeper_.event_fd(); }
    void on_event() override { keeper_.on_event(); }

  private:
    std::string find_or_make();
    std::string watch_completer(pid_t pid) override;
    bool answered(const CompleterReport&) override { return true; }
    void given_up(u32 slot, const std::string& why) override;

    Log log_;
    UniqueFd kernel_context_;
    CompleterKeeper keeper_;  // the last: it ends before what it tells
};

}  // namespace aep
