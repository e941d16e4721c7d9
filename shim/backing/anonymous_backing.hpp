// Purpose: the part of the anonymous backing that the pool backing uses when its pool cannot be
//          reached: chunks of anonymous memory at window indices beyond the pool.
// Who calls it: pool_backing.cpp and its like; everyone else goes through backing.hpp.
// Crash rule: the memory dies with the process.
#pragma once

#include "shim/backing/backing.hpp"

namespace aep {

/// Anonymous chunks are taken from window indices at or above `first` from now on.
void anonymous_begin_at(ChunkIndex first);

/// Backing::provide, ::purge and ::release of anonymous memory.
ChunkRun anonymous_provide(u32 count, u32 align, ChunkIndex at);
bool anonymous_purge(uptr address, usize bytes);
bool anonymous_release(ChunkIndex first, u32 count);

}  // namespace aep
