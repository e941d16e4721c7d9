// Purpose: what the providers have in common that complete nothing themselves: the host's own
//          operations are performed by a process beside the daemon, for they walk tables that
//          clients write.
// Who calls it: KernelPlug and RollbackPlug are ones.
// Crash rule: a performer that dies leaves the host's slot as it is: open, then complete_or_undo()
//             sees to it; or even, then the operation is begun again. The next performer begins
//             with nothing before the former is gone.
#pragma once

#include "node/completion.hpp"
#include "tools/daemon/completer_keeper.hpp"

namespace aep {

class PerformingPlug : public Capture, public Completion, protected CompleterOwner {
  public:
    void begin() override { performer_.want(); }  // before it is needed: nobody waits for its start
    /// Of the host's slot: pending while a performer is, or may be, in it. Once performers are
    /// given up (CompleterKeeper::hopeless) nothing is begun any more: no_capture, and what asks
    /// for it poisons the context.
    SlotOutcome complete(u32 slot) final;
    SlotOutcome begin_operation(u32 slot) final;
    bool performs_here() const final { return false; }
    int event_fd() const final { return performer_.event_fd(); }
    void on_event() final { performer_.on_event(); }
    bool fails() const final { return performer_.fails(); }

  protected:
    PerformingPlug(Log log, CompleterOptions options)
        : log_(std::move(log)), performer_(*this, std::move(options), log_) {}

    /// What becomes of a client's slot.
    virtual SlotOutcome complete_clients(u32 slot) = 0;

    Log log_;
    CompleterKeeper performer_;

  private:
    bool given_up_for_good();
    bool answered(const CompleterReport&) final { return true; }
    void given_up(u32 slot, const std::string& why) final;

    bool said_ = false;  // that performers are given up
};

}  // namespace aep
