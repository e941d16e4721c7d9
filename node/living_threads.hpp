// Purpose: the threads that /proc shows, by the numbers that they have for themselves: whether one
//          is gone although its process lives.
// Who calls it: the node host, for operations that a thread left open which died alone.
// Crash rule: reads only.
#pragma once

#include <sys/types.h>

#include <optional>
#include <vector>

#include "dsm-core/base/types.hpp"

namespace aep {

class LivingThreads {
  public:
    /// Whether process `pid` has no thread any more that calls itself `tid` in its pid namespace,
    /// nor has a process that may share its memory. False where that cannot be seen. Cost: a file
    /// where the thread lives and its process is in our pid namespace; else, once, one for each
    /// thread of the system.
    bool is_gone(pid_t pid, u32 tid);

  private:
    struct Process {
        pid_t number;
        u32 depth;             // how many pid namespaces it is in, seen from ours
        bool whole;            // all of its threads were seen
        std::vector<u32> own;  // of those that live: their numbers in their own pid namespace
        bool may_have(u32 tid) const;
    };
    static std::vector<Process> read();

    std::optional<std::vector<Process>> all_;
};

}  // namespace aep
