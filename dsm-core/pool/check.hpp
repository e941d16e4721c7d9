// Purpose: walks every invariant of a pool file (an fsck without repair) and counts what is in
//          it.
// Who calls it: `aep check` (node/checker.cpp), tests, the fuzz target.
// Crash rule: reads only.
#pragma once

#include "dsm-core/pool/superblock.hpp"

namespace aep {

/// What pool_check found. The counts are valid as far as the walk came.
struct PoolReport {
    PoolFault fault;       // the first thing wrong, if any
    u32 chunks = 0;        // in the pool, as large as it is now
    u32 free_chunks = 0;   //
    u32 owned_chunks = 0;  //
    u32 kept_chunks = 0;   //
    u32 retired_chunks = 0;
    u32 nodes = 0;       // entries in the node table
    u32 live_nodes = 0;  // entries that are taken, by the living or the dead
    u32 reclaiming_nodes = 0;
};

/// Checks the pool in [mapped, mapped+bytes): superblock, node table, chunk table, and that every
/// owned chunk's node is taken, in the chunk's generation. True: nothing is wrong. The pool may be
/// in use: an ownership that changes during the walk is looked at again.
bool pool_check(const void* mapped, usize bytes, PoolReport& report);

}  // namespace aep
