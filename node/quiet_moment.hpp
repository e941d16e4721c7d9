// Purpose: whether a walk over the tables of sharing saw one state, though nobody was stopped for it.
// Who calls it: the check and the survey of objects.
// Crash rule: reads only.
#pragma once

#include <vector>

#include "dsm-core/context/format.hpp"

namespace aep {

/// No operation of sharing was under way in any slot when it began.
class QuietMoment {
  public:
    QuietMoment() : quiet_(look(before_)) {}
    /// Whether it was quiet then.
    bool began() const { return quiet_; }
    /// Whether it has been ever since. After all that was read.
    bool lasted() const {
        std::atomic_thread_fence(std::memory_order_acquire);
        std::vector<u32> now;
        return quiet_ && look(now) && now == before_;
    }

  private:
    static bool look(std::vector<u32>& turns) {
        turns.resize(context().max_slots);
        for (u32 i = 0; i < context().max_slots; ++i) {
            turns[i] = slot_at(i).turns.load(std::memory_order_acquire);
            if (turns[i] % 2 != 0) return false;
        }
        return true;
    }

    std::vector<u32> before_;
    bool quiet_;
};

}  // namespace aep
