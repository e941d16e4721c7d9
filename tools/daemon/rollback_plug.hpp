// Purpose: the provider `rollback` in the daemon: nothing is captured, nothing completed; what a
//          dead client left open is undone by the host.
// Who calls it: daemon/main.cpp makes it, the daemon's loop and recovery use it.
// Crash rule: a performer that dies leaves the host's slot open like any client's: it is undone and
//             asked for again.
//
// No capability, no tracing, no second look at a process: any user, any container, any kernel.
#pragma once

#include "tools/daemon/performing_plug.hpp"

namespace aep {

class RollbackPlug final : public PerformingPlug {
  public:
    explicit RollbackPlug(Log log, CompleterOptions options = {})
        : PerformingPlug(std::move(log), std::move(options)) {}

    Provider kind() const override { return Provider::rollback; }
    std::string start(const WatchedContext& watched) override;

  private:
    /// An open operation of a client is never completed; pending: a former daemon's completer may
    /// be at it.
    SlotOutcome complete_clients(u32 slot) override;
    std::string watch_completer(pid_t) override { return ""; }  // it is a member of nothing
    bool former_is_gone();

    bool former_gone_ = false;
};

}  // namespace aep
