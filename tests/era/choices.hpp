// Purpose: where an execution may go on in several ways: one after the other, all of them (depth
//          first, by repeating the execution with another last choice), or at random.
// Who calls it: tests/era/world.hpp.
// Crash rule: no state that outlives the test.
#pragma once

#include <random>
#include <vector>

#include "dsm-core/base/types.hpp"

namespace aep::era::test {

/// The choices of one execution after the other.
class Choices {
  public:
    /// Every combination of choices.
    Choices() = default;
    /// Random ones. Choice 0, "nothing special", comes up in `calm` of `calm + 1` cases.
    Choices(u64 seed, u32 calm) : random_(true), calm_(calm), engine_(seed) {}

    /// A number below `n`.
    u32 choose(u32 n) {
        if (n < 2) return 0;
        if (random_) return engine_() % (calm_ + 1) != 0 ? 0 : static_cast<u32>(engine_() % n);
        if (at_ == taken_.size()) taken_.push_back({0, n});
        return taken_[at_++].choice;
    }
    /// An even choice, also at random.
    u32 choose_evenly(u32 n) { return random_ ? static_cast<u32>(engine_() % n) : choose(n); }

    /// Prepares the next execution. False: all have been.
    bool next() {
        at_ = 0;
        if (random_) return true;
        while (!taken_.empty() && taken_.back().choice + 1 == taken_.back().of) taken_.pop_back();
        if (taken_.empty()) return false;
        ++taken_.back().choice;
        return true;
    }

  private:
    struct Taken {
        u32 choice;
        u32 of;
    };
    bool random_ = false;
    u32 calm_ = 0;
    std::mt19937_64 engine_;
    std::vector<Taken> taken_;
    usize at_ = 0;
};

}  // namespace aep::era::test
