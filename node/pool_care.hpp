// Purpose: pools as things that people make, look at, make larger and remove, with no context of their own: aep pool.
// Who calls it: cli/pool.cpp.
// Crash rule: making: pool_create.hpp, pool_device.hpp. Growing: pool_grow.hpp. Removing: a file goes at once; a device (or a file on DAX) that is cleared in part is no
//             pool any more, and clearing it again ends that.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "shim/backing/pool_file.hpp"

namespace aep {

/// One of the contexts that share a pool, on this machine or another.
struct PoolMemberFacts {
    u32 node = 0;  // its number, from 1 on
    std::string name;
    std::string
        state;  // "live", "silent": no lock of this machine says that it lives; "recovering"
    u32 generation = 0;
    u64 bytes = 0;  // of chunks
};

/// Whether what is in a pool's memory is there after a power cut of all that it lies in.
enum class Persistence : u8 {
    unknown,
    none,  // tmpfs, hugetlbfs, a device of memory
    kept,  // persistent memory, a disk
};

/// What can be seen of a pool from outside.
struct PoolFacts {
    std::string path;
    PoolMemory memory = PoolMemory::file;
    Persistence persistence = Persistence::unknown;
    u64 bytes = 0;        // of file or device, as far as the pool goes by now
    u64 room_bytes = 0;   // that it may grow to
    u64 present = 0;      // of them that have memory behind them
    u64 chunk_bytes = 0;  // of all chunks
    u64 free_bytes = 0, kept_bytes = 0, retired_bytes = 0;
    u32 processes = 0;  // that have chunks and live, members among them
    u32 dead = 0;       // that do not; the next one that needs room reclaims their entries
    EraShape shape;     // of what nodes share; nodes 0: nothing
    PoolTerms terms;
    u64 shared_bytes = 0;
    std::vector<PoolMemberFacts> members;

    bool in_use() const { return processes != 0 || !members.empty(); }
};

/// Makes a pool. Throws NodeError (EEXIST: something is there already; EINVAL after a line on stderr that says why).
void make_pool(const std::string& path, const PoolPlan& plan);

/// Throws NodeError (ENOENT; EINVAL: none, or damaged, after a line on stderr that says how). Nothing is changed. Cost: a
/// look at each chunk's word.
PoolFacts look_at_pool(const std::string& path);

/// Makes a pool `bytes` large, or by so much larger, while anybody uses it. Throws NodeError (EINVAL after a line on stderr that says
/// why). See grow_pool_file.
void grow_pool(const std::string& path, u64 bytes, bool more);

/// Removes a file, or clears a device or a file on DAX, which takes as long as writing all of it: `progress(done, all)` is told now and then.
/// Throws NodeError (EBUSY: in use, unless `force`; who uses it goes on with what he has mapped).
void destroy_pool(const std::string& path, bool force,
                  const std::function<void(u64 done, u64 all)>& progress);

}  // namespace aep
