// Purpose: how long a thread looks at a word before it sleeps on it, learnt from the waits before. A look pays where
//          the answer takes less time than a sleep; where it takes longer, it keeps a processor from the one that
//          is to give the answer.
// Who calls it: sharing.cpp, for each kind of wait.
// Crash rule: a guess; any value will do.
#pragma once

#include <algorithm>
#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

/// Of one kind of wait of this process. Threads share it and may lose each other's lessons.
class Patience {
  public:
    /// Looks: one each 0.2 us or so. The longest look is some 40 us, the shortest a message's way to and fro.
    static constexpr u32 SHORTEST = 8;
    static constexpr u32 LONGEST = 200;
    /// A sleep that ended sooner had better been a look.
    static constexpr u64 SHORT_SLEEP_NS = 20'000;

    u32 looks() const { return looks_.load(std::memory_order_relaxed); }

    /// That many of them were enough.
    void met_after(u32 looks) { learn(std::max(this->looks(), 2 * looks)); }
    /// They were not, and the first sleep after them took so long.
    void slept(u64 ns) { learn(ns < SHORT_SLEEP_NS ? 2 * looks() : looks() / 2); }

  private:
    void learn(u32 looks) {
        looks_.store(std::clamp(looks, SHORTEST, LONGEST), std::memory_order_relaxed);
    }

    std::atomic<u32> looks_{LONGEST};
};

}  // namespace aep
