// Purpose: makes a pool larger while any number of processes, of any nodes, use it.
// Who calls it: node/pool_care.cpp (aep pool grow), tests.
// Crash rule: first the file is made longer, then one store says so: a kill at any instruction leaves the old size or the new
//             one. A file that is longer than its pool is as good as before, and the next try goes on from there.
#pragma once

#include "shim/backing/pool_shared.hpp"

namespace aep {

/// Makes the pool behind `fd`, whose tables are mapped, one of `bytes`, rounded down to whole chunks; at most its room. Who
/// uses it finds the new chunks when it next needs one. Of several at once on one system one goes first. True also if it is as large
/// already. False after a message: nothing has changed. Cost: of a device, a look at all that is new.
bool grow_pool_file(const PoolFile& file, int fd, const PoolTables& tables, u64 bytes);

/// Bytes of the pool as it is now, tables and chunks.
inline u64 bytes_there(const Superblock& s, const PoolTables& tables) {
    return s.chunks_offset + u64{tables.chunks_there()} * CHUNK_SIZE;
}

}  // namespace aep
