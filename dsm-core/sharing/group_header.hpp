// Purpose: what stands at the beginning of a group's memory, in the pool: the state of its allocator and the table of its
//          readers. Nothing of the core looks at it.
// Who calls it: the allocator inside a group (shim/sharing/group_arena.hpp); the survey of objects, which tells what is in it.
// Crash rule: see shim/sharing/group_arena.hpp. Whoever holds the group can write all of it: a reader believes none of it.
#pragma once

#include "dsm-core/op/share_operations.hpp"

namespace aep {

inline constexpr u32 GROUP_EXACT_BINS = 64;
inline constexpr u32 GROUP_BINS = GROUP_EXACT_BINS + (32 - 6) * 4;
inline constexpr u32 GROUP_READERS = op::MAX_GROUP_READERS;

/// At the start of the group's first block.
struct GroupHeader {
    u64 key;          // of this group's seals: a former group's blocks are none of its own
    u64 bump;         // the newest part is untouched from here on
    u64 freed;        // bytes, since the last sweep
    u64 period;       // 1 .. LAST_PERIOD: of what is deferred now
    u64 deferred[2];  // bytes, by the parity of their period
    u64 filled[(GROUP_BINS + 63) / 64];  // bins that are not empty, one bit each
    u64 bins[GROUP_BINS];                // first block of each; the next one stands in the block
    u64 readers[GROUP_READERS];          // GroupReader
};

}  // namespace aep
