// Purpose: makes chunks clean, so that they read as zero: holes, or on a device zeros.
// Who calls it: pool_backing.cpp, joined_backing.cpp, reclaim.cpp, node/chunk_cache.cpp.
// Crash rule: a chunk that is partly clean still names its owner; zeros are in the device's memory,
//             and not only in a cache, before the call returns.
#pragma once

#include "shim/backing/pool_file.hpp"

namespace aep {

/// Cleans a chunk, mapped or not, by the pool's descriptor. 0 or -errno.
long clean_chunk(const PoolFile& file, int fd, u32 chunk);

/// Cleans chunks that this process has mapped for writing. False: they are as they were.
bool clean_chunks(const PoolFile& file, uptr address, usize bytes);

}  // namespace aep
