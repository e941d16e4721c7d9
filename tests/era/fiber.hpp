// Purpose: a function with a stack of its own that can be left in the middle: continued later, or
//          never, like a program on a machine that loses power.
// Who calls it: tests/era/world.hpp.
// Crash rule: a fiber that is never continued runs no destructors; its function must own nothing.
#pragma once

#include <ucontext.h>

#include <functional>
#include <memory>

#include "dsm-core/base/types.hpp"

namespace aep::era::test {

/// Runs functions one after the other on the same stack.
class Fiber {
  public:
    /// Prepares to run `body`; `finished` says where to go afterwards and must not return.
    void start(const std::function<void()>& body, const std::function<void()>& finished) {
        if (stack_ == nullptr) stack_ = std::make_unique<char[]>(STACK);
        body_ = &body;
        finished_ = &finished;
        getcontext(&context_);
        context_.uc_stack.ss_sp = stack_.get();
        context_.uc_stack.ss_size = STACK;
        context_.uc_link = nullptr;
        const u64 self = reinterpret_cast<u64>(this);
        makecontext(&context_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
                    static_cast<u32>(self), static_cast<u32>(self >> 32));
    }
    ucontext_t* context() { return &context_; }

  private:
    static constexpr usize STACK = 128 * KiB;

    static void enter(u32 low, u32 high) {
        auto* self = reinterpret_cast<Fiber*>(u64{high} << 32 | low);
        (*self->body_)();
        (*self->finished_)();
    }

    ucontext_t context_{};
    std::unique_ptr<char[]> stack_;
    const std::function<void()>* body_ = nullptr;
    const std::function<void()>* finished_ = nullptr;
};

}  // namespace aep::era::test
