// Purpose: the provider `ebpf` in the daemon: captures by pinned programs, completion by a process
//          that is started again when it dies.
// Who calls it: daemon/main.cpp makes it, the daemon's loop and recovery use it.
// Crash rule: programs and captures outlive the daemon; a completer ends with its daemon, and what
//             it was in the middle of is captured for the next one.
#pragma once

#include <map>
#include <memory>

#include "aep-lib/provider/ebpf_provider.hpp"
#include "node/completion.hpp"
#include "node/host.hpp"
#include "node/unique_fd.hpp"
#include "tools/daemon/completer_keeper.hpp"

namespace aep {

class EbpfPlug final : public Capture, public Completion, private CompleterOwner {
  public:
    /// For the context at `paths`.
    EbpfPlug(const ContextPaths& paths, Log log, CompleterOptions options = {});

    Provider kind() const override { return Provider::ebpf; }
    std::string start(const WatchedContext& watched) override;
    std::string watch(u32 client, pid_t pid, int pidfd) override;
    void unwatch(u32 client, pid_t pid) override;
    int doorbell_fd() const override;
    void on_doorbell() override;
    void look_after() override;
    void remove() override;

    void begin() override { keeper_.want(); }  // before it is needed: nobody waits for its start
    SlotOutcome complete(u32 slot) override;
    SlotOutcome begin_operation(u32 slot) override;
    bool performs_here() const override { return false; }  // a completer does
    int event_fd() const override { return keeper_.event_fd(); }
    void on_event() override { keeper_.on_event(); }
    bool fails() const override { return keeper_.fails(); }

  private:
    std::string watch_completer(pid_t pid) override;
    void unwatch_completer(pid_t pid) override;
    void completer_works(pid_t pid) override;
    bool answered(const CompleterReport& report) override;
    void given_up(u32 slot, const std::string& why) override;

    std::string name_, context_file_;  // of the context
    std::string pins_;                 // where its programs are pinned
    Log log_;
    u64 looked_ms_ = 0;  // when somebody looked after them
    std::string said_;   // what was found then
    std::unique_ptr<CaptureProvider> provider_;
    ImageInfo image_info_{};
    std::map<u32, u32> hopeless_;  // slot -> sequence of the operation that cannot be completed
    CompleterKeeper keeper_;       // the last: it ends before what it tells
};

}  // namespace aep
