// Purpose: what a thread left open that died alone, in a process that lives on: by its exit in a
//          signal handler on top of an operation, by a filter that ends threads.
// Who calls it: the node host's sweep.
// Crash rule: as for any slot of the dead. A host that is killed in here is followed by one that
//             has to see the slot unchanged once more.
//
// No connection and no lock tells of such a death, only that a slot stays open and that /proc does
// not show its thread any more. Whom it cannot show is believed alive.
#pragma once

#include <vector>

#include "node/operation_recovery.hpp"

namespace aep {

class LoneDeaths {
  public:
    /// All of them outlive it.
    LoneDeaths(const ServedContext& served, const Protection& protection,
               OperationRecovery& operations, const Log& log)
        : served_(served), protection_(protection), operations_(operations), log_(log) {}

    /// Once a second: ends operations whose thread is dead. Slots stay their process's: it may use
    /// them again.
    void finish(u64 now_ms);

  private:
    bool may_be_left_behind(u32 slot) const;
    void finish(u32 slot, u32 client, u32 tid);

    const ServedContext& served_;
    const Protection& protection_;
    OperationRecovery& operations_;
    const Log& log_;
    std::vector<u32> open_before_;  // a slot: its sequence at the last look; 0: it was even
    u64 next_look_ms_ = 0;
};

}  // namespace aep
