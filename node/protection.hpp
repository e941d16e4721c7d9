// Purpose: what becomes of an operation whose thread is gone: who completes it, and whether what
//          nobody completes is undone.
// Who calls it: the node host sets the provider; its parts ask.
// Crash rule: the provider is named in the context; the next host names its own.
#pragma once

#include "dsm-core/sharing/logged.hpp"
#include "node/completion.hpp"

namespace aep {

class Protection {
  public:
    /// `completion` outlives it.
    explicit Protection(Completion& completion) : completion_(completion) {}

    /// With any but `none` what is not completed is undone. The context is mapped.
    void set_provider(Provider provider) {
        context().provider.store(static_cast<u32>(provider));
        provider_ = provider;
    }
    Provider provider() const { return provider_; }
    /// Whether what nobody completes is undone.
    bool undoes() const { return provider_ != Provider::none && undo_log_works; }
    Completion& completion() const { return completion_; }

  private:
    Completion& completion_;
    Provider provider_ = Provider::none;
};

}  // namespace aep
