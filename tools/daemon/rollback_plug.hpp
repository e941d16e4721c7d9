// Purpose: the provider `rollback` in the daemon: nothing is captured, nothing completed; what a
//          dead client left open is undone by the host. The host's own operations are performed by
//          a process beside it, for they walk tables that clients write.
// Who calls it: daemon/main.cpp makes it, the daemon's loop and recovery use it.
// Crash rule: a performer that dies leaves the host's slot open like any client's: it is undone and
//             asked for again. The next performer begins with nothing before the former is gone.
//
// No capability, no tracing, no second look at a process: any user, any container, any kernel.
#pragma once

#include "tools/daemon/completer_keeper.hpp"
#include "tools/node/completion.hpp"
#include "tools/node/host.hpp"

namespace aep {

class RollbackPlug final : public Capture, public Completion, private CompleterOwner {
  public:
    explicit RollbackPlug(Log log, CompleterOptions options = {})
        : log_(std::move(log)), performer_(*this, std::move(options), log_) {}

    Provider kind() const override { return Provider::rollback; }
    std::string start(const WatchedContext& watched) override;

    void begin() override { performer_.want(); }  // before it is needed
    /// An open operation of a client is never completed; pending: a former daemon's completer may
    /// be at it. The host's is, while its performer lives.
    SlotOutcome complete(u32 slot) override;
    SlotOutcome begin_operation(u32 slot) override;
    bool performs_here() const override { return false; }
    int event_fd() const override { return performer_.event_fd(); }
    void on_event() override { performer_.on_event(); }

  private:
    std::string watch_completer(pid_t) override { return ""; }  // it is a member of nothing
    bool answered(const CompleterReport&) override { return true; }
    void given_up(u32 slot, const std::string& why) override;
    bool former_is_gone();

    bool former_gone_ = false;
    Log log_;
    CompleterKeeper performer_;  // the last: it ends before what it tells
};

}  // namespace aep
