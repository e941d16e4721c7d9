// Purpose: see kept_chunks.hpp.
// Who calls it: see kept_chunks.hpp.
// Crash rule: see kept_chunks.hpp.
#include "node/kept_chunks.hpp"

#include "shim/backing/living_chunks.hpp"

namespace aep {

u32 free_kept_chunks(const NodePool& pool, ChunkCache& cache) {
    const PoolTables& tables = pool.tables();
    u32 kept = 0;
    while (kept < tables.chunk_count && tables.chunk(kept).state() != ChunkState::kept) ++kept;
    if (kept == tables.chunk_count) return 0;
    const LivingChunks living(pool.file(), pool.fd());
    if (living.unknown()) return 0;
    u32 freed = 0;
    for (u32 c = kept; c < tables.chunk_count; ++c) {
        if (tables.chunk(c).state() != ChunkState::kept || living.contain(c)) continue;
        std::atomic<u32>& owner = chunk_owner(c);
        u32 nobody = OWNER_NOBODY;
        if (!owner.compare_exchange_strong(nobody, OWNER_RETURNING, std::memory_order_acq_rel))
            continue;
        if (claim_kept_chunk(tables, pool.owner(), c))
            freed += cache.give_back(c);
        else
            owner.store(OWNER_NOBODY, std::memory_order_release);
    }
    return freed;
}

}  // namespace aep
