// Purpose: what operations have written into the context's ring, as lines of the log.
// Who calls it: the node host's sweep.
// Crash rule: reads only. What a daemon has not yet said when it dies, the next one says again or
//             not at all.
#pragma once

#include "dsm-core/context/log_ring.hpp"
#include "node/failed_memory.hpp"

namespace aep {

class EventLog {
  public:
    /// From what is written in the mapped context from now on. Both outlive it.
    EventLog(const Log& log, FailedMemory& failed);

    /// Puts what was written since into the log, a line for each kind of event and client; memory that has failed is
    /// noted, the first time from what there is of before, too.
    void say_new();

  private:
    void note(const LogEntry& entry);

    const Log& log_;
    FailedMemory& failed_;
    LogReader reader_;
    bool noted_former_ = false;
};

}  // namespace aep
