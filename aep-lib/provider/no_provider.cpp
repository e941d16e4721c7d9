// Purpose: provider none: nothing is watched, nothing captured.
// Who calls it: the daemon, where eBPF may not be used.
// Crash rule: no state.
#include "aep-lib/provider/provider.hpp"

namespace aep {
namespace {

class NoProvider final : public CaptureProvider {
  public:
    Provider kind() const override { return Provider::none; }
    std::string add_member(u32, u32) override { return {}; }
    void remove_member(u32, u32) override {}
    void keep_completer(u32) override {}
    CaptureEntry* captures() const override { return nullptr; }
    int captures_fd() const override { return -1; }
    int doorbell_fd() const override { return -1; }
    void drain(const std::function<void(const DoorbellRecord&)>&) override {}
};

}  // namespace

std::unique_ptr<CaptureProvider> no_provider() { return std::make_unique<NoProvider>(); }

}  // namespace aep
