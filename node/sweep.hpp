// Purpose: what a sweep did, and how long its parts may take.
// Who calls it: the node host's parts, the daemon.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// What a sweep did, and whether another one soon makes sense.
struct Sweep {
    u32 recovered = 0;
    u32 chunks_recovered = 0;
    u32 chunks_returned = 0;  // from the cache to the pool
    u32 nodes_reclaimed_chunks = 0;
    u32 nodes_recovered = 0;  // of those that share objects
    bool drained = false;     // it was to leave the pool, and nothing keeps it
    bool busy = false;        // something waits: a frozen client, a chunk in the cache
};

/// How long one sweep gives chunks back, and as long gives up references: somebody may wait to be
/// let in.
inline constexpr u64 LONGEST_SHARE_OF_SWEEP_NS = 20'000'000;

}  // namespace aep
