// Purpose: makes chunks clean, so that they read as zero: holes, or on a device zeros.
// Who calls it: pool_backing.cpp, joined_backing.cpp, reclaim.cpp, node/chunk_cache.cpp, failed_memory.cpp.
// Crash rule: a chunk that is partly clean still names its owner; zeros are in the device's memory,
//             and not only in a cache, before the call returns.
#pragma once

#include "dsm-core/pool/tables.hpp"
#include "shim/backing/pool_file.hpp"

namespace aep {

/// Cleans a chunk, mapped or not, by the pool's descriptor. 0 or -errno; -EFAULT: memory in it has failed.
long clean_chunk(const PoolFile& file, int fd, u32 chunk);

/// Cleans a chunk that is about to be given back, unless memory in it has failed: then it is marked, and on a device not
/// touched again. 0 or -errno: it must not be given back.
long clean_to_give_back(const PoolFile& file, const PoolTables& tables, int fd, u32 chunk);

/// Cleans chunks that this process has mapped for writing. False: they are as they were.
bool clean_chunks(const PoolFile& file, uptr address, usize bytes);

}  // namespace aep
