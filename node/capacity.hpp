// Purpose: how much of the pool's free memory can really be had: the least of what the pool, its file system, the memory
//          cgroup and the machine have left.
// Who calls it: the daemon's commands.
// Crash rule: reads only.
#pragma once

#include "shim/backing/headroom.hpp"
#include "shim/backing/pool_shared.hpp"

namespace aep {

/// Bytes; NO_LIMIT: none there.
struct Capacity {
    u64 pool = 0;  // free chunks
    // What free chunks may still take there, those that have their memory already included.
    u64 file_system = NO_LIMIT;
    u64 cgroup = NO_LIMIT;  // of the daemon, which clients need not be in
    // Memory that the kernel calls available, and swap; only where the pool is memory.
    u64 machine = NO_LIMIT;

    /// The least of them.
    u64 usable() const;
    /// Which one that is: "pool", "file system", "cgroup", "machine".
    const char* bound() const;
};

/// Of `free_bytes` in free chunks. Cost: some files of /proc and the cgroup.
Capacity capacity_of(const PoolHere& pool, u64 free_bytes);

/// MemAvailable and SwapFree in the text of /proc/meminfo, in bytes; NO_LIMIT: it does not say.
u64 parse_meminfo(const char* text);

}  // namespace aep
