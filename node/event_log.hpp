// Purpose: what operations have written into the context's ring, as lines of the log.
// Who calls it: the node host's sweep.
// Crash rule: reads only. What a daemon has not yet said when it dies, the next one says again or
//             not at all.
#pragma once

#include "dsm-core/context/log_ring.hpp"
#include "node/log.hpp"

namespace aep {

class EventLog {
  public:
    /// From what is written in the mapped context from now on. `log` outlives it.
    explicit EventLog(const Log& log);

    /// Puts what was written since into the log, a line for each kind of event and client.
    void say_new();

  private:
    const Log& log_;
    LogReader reader_;
};

}  // namespace aep
