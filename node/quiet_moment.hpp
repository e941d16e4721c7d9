// Purpose: whether a walk over the tables of sharing saw one state, though nobody was stopped for it.
// Who calls it: the check and the survey of objects.
// Crash rule: reads only.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// No operation of sharing was under way when it began.
class QuietMoment {
  public:
    // acquire: what is read of the tables is not older.
    QuietMoment() : before_(sharing().version.load(std::memory_order_acquire)) {}
    /// Whether it was quiet then: the number is even between operations.
    bool began() const { return before_ % 2 == 0; }
    /// Whether it has been ever since. After all that was read.
    bool lasted() const {
        std::atomic_thread_fence(std::memory_order_acquire);
        // relaxed: the fence is between what was read and this.
        return began() && sharing().version.load(std::memory_order_relaxed) == before_;
    }

  private:
    u64 before_;
};

}  // namespace aep
