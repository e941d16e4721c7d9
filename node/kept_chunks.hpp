// Purpose: chunks of dead nodes that stay in the pool while objects lie in them, and their end.
// Who calls it: NodeUpkeep.
// Crash rule: a chunk that was kept is announced in the context before it is ours in the pool, like
//             one on its way back.
#pragma once

#include "node/chunk_cache.hpp"

namespace aep {

/// Frees those whose last object has gone. How many.
u32 free_kept_chunks(const NodePool& pool, ChunkCache& cache);

}  // namespace aep
