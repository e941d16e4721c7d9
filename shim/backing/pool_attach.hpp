// Purpose: the pool of this process and its mappings: all of the file shared, a dormant private
//          view for fork, and the tables in sight. One process has one pool, whether it is a node
//          of its own (pool_backing) or a client of a context (joined_backing).
// Who calls it: pool_backing.cpp, joined_backing.cpp.
// Crash rule: mappings die with the process.
#pragma once

#include "shim/backing/pool_shared.hpp"

namespace aep {

/// The pool of this process. Constant-initialised.
extern PoolHere pool;

inline bool in_pool(u32 chunk) { return chunk < pool.tables.chunk_count; }
inline u32 chunk_index(uptr address) {
    return static_cast<u32>((address - HEAP_BASE) >> CHUNK_SHIFT);
}

/// Maps everything a process with a pool needs, from the descriptor of pool.file, which has been
/// verified, and checks the tables. False after a message, with nothing mapped.
bool map_whole_pool(int fd);

/// In a forked child: maps what the parent's mapping was, around the chunks that are private to us.
/// 0 or -errno.
long map_pool_again(int fd);

/// Undoes map_whole_pool.
void unmap_whole_pool();

/// In a forked child: the shared mapping is not inherited, and neither is the node.
void pool_in_child();

/// Makes chunks that are ours accessible, and part of core dumps. 0 or -errno.
long open_chunks_here(u32 first, u32 count);
/// Chunks that are ours no longer; `accessible`: they stay so, as those of others.
void close_chunks_here(u32 first, u32 count, bool accessible);

/// Whether more than half of the pool's chunks are somebody's, about: some are looked at.
bool pool_is_scarce();

/// False in a child that was made behind our back (a clone that no fork hook saw): the pool's
/// chunks are not mapped in it, so the heap cannot be used. Always true in private mode, where
/// copy-on-write makes any child whole.
bool in_attached_process();

/// The pool of this process; for tests and statistics.
const PoolHere& pool_here();

}  // namespace aep
