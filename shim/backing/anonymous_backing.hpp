// Purpose: the part of the anonymous backing that the pool backing uses when its pool cannot be
//          reached: chunks of anonymous memory at window indices beyond the pool.
// Who calls it: pool_backing.cpp, process.cpp and thread.cpp; everyone else goes through
// backing.hpp. Crash rule: the memory dies with the process.
#pragma once

#include "shim/backing/backing.hpp"

namespace aep {

/// Anonymous chunks are taken from window indices at or above `first` from now on.
void anonymous_begin_at(ChunkIndex first);

/// Chunks are of huge pages, where the system permits, as soon as the heap has `from` bytes, and
/// more than a chunk for each of the threads' heaps, of which there are `count`.
void anonymous_use_huge_pages(usize from);
void anonymous_serve_heaps(u32 count);

/// Backing::provide, ::purge and ::release of anonymous memory.
ChunkRun anonymous_provide(u32 count, u32 align, ChunkIndex at);
bool anonymous_purge(uptr address, usize bytes);
bool anonymous_release(ChunkIndex first, u32 count);

}  // namespace aep
