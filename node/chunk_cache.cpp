// Purpose: see chunk_cache.hpp.
// Who calls it: see chunk_cache.hpp.
// Crash rule: see chunk_cache.hpp.
#include "node/chunk_cache.hpp"

#include "dsm-core/context/node_ops.hpp"
#include "node/crash_points.hpp"
#include "node/metadata.hpp"
#include "node/process_facts.hpp"
#include "node/sweep.hpp"
#include "shim/backing/pool_clean.hpp"

namespace aep {

ChunkCache::ChunkCache(const ServedContext& served, const NodePool& pool, u64 decay_ms)
    : served_(served), pool_(pool), decay_ms_(decay_ms), cached_since_(context().chunk_count) {}

bool ChunkCache::take_out(u32 chunk) {
    u32 expected = OWNER_CACHED;
    // acquire: its metadata is as the last holder's recovery left it.
    if (!chunk_owner(chunk).compare_exchange_strong(expected, OWNER_RETURNING,
                                                    std::memory_order_acq_rel))
        return false;
    taken_from_cache();
    return true;
}

bool ChunkCache::is_ours(u32 chunk) const {
    const Owner us = pool_.owner();
    return pool_.tables().chunk(chunk).unmarked().bits ==
           ChunkWord::owned(us.node, us.generation).bits;
}

bool ChunkCache::give_back(u32 chunk) {
    std::atomic<u32>& owner = chunk_owner(chunk);
    if (!take_out(chunk) && owner.load(std::memory_order_acquire) != OWNER_RETURNING) return false;
    AEP_NODE_CRASH_POINT("decay: announced");
    // Given back before a crash: it may be another node's by now.
    if (is_ours(chunk)) {
        punch_chunk_metadata(served_.fd(), chunk);
        if (clean_to_give_back(pool_.file(), pool_.tables(), pool_.fd(), chunk) != 0) {
            // Only clean chunks are free: it stays ours.
            owner.store(OWNER_CACHED, std::memory_order_release);
            context().chunks_cached.fetch_add(1, std::memory_order_relaxed);
            return false;
        }
        AEP_NODE_CRASH_POINT("decay: punched");
        free_chunk(pool_.tables(), pool_.owner(), chunk);
        // A hint: who gets low chunks has few descriptors below its own, all of which it needs.
        std::atomic<u32>& next = context().next_chunk;
        if (chunk < next.load(std::memory_order_relaxed))
            next.store(chunk, std::memory_order_relaxed);
    }
    AEP_NODE_CRASH_POINT("decay: free in the pool");
    owner.store(OWNER_NOBODY, std::memory_order_release);
    return true;
}

/// Whether so little is free that others may find nothing.
bool ChunkCache::pool_is_short() const {
    const PoolTables& tables = pool_.tables();
    const u32 there = tables.chunks_there();
    const u32 enough = there / 64 + 1;
    u32 free = 0;
    for (u32 i = 0; i < there && free < enough; ++i)
        free += tables.chunk(i).bits == FREE_CHUNK.bits;
    if (free >= enough) return false;
    for (u32 i = 0; i < tables.node_count; ++i)  // alone, we need not hurry
        if (i != pool_.owner().node && tables.node(i).state() == PoolNodeState::live) return true;
    return false;
}

void ChunkCache::finish_returns() {
    for (u32 c = 0; c < context().chunk_count; ++c)
        if (chunk_owner(c).load(std::memory_order_acquire) == OWNER_RETURNING) give_back(c);
}

void ChunkCache::recount() {
    std::atomic<u64>& count = context().chunks_cached;
    u64 said = count.load(std::memory_order_relaxed);
    u64 cached = 0;
    for (u32 c = 0; c < context().chunk_count; ++c)
        cached += chunk_owner(c).load(std::memory_order_relaxed) == OWNER_CACHED;
    if (cached != said) count.compare_exchange_strong(said, cached, std::memory_order_relaxed);
}

u32 ChunkCache::give_back_unused(u64 now_ms, bool all) {
    if (chunks_in_cache() == 0 && !all) return 0;
    const u64 end = all ? ~u64{0} : monotonic_ns() + LONGEST_SHARE_OF_SWEEP_NS;
    all = all || pool_is_short();
    u32 returned = 0;
    for (u32 c = 0; c < context().chunk_count; ++c) {
        u64& since = cached_since_[c];
        if (chunk_owner(c).load(std::memory_order_relaxed) != OWNER_CACHED) {
            since = 0;
            continue;
        }
        if (since == 0) since = now_ms;
        // What has failed waits for nobody.
        const bool failed = pool_.tables().chunk(c).has_failed();
        if (!all && !failed && now_ms - since < decay_ms_) continue;
        returned += give_back(c);
        since = 0;
        if (monotonic_ns() > end) break;
    }
    return returned;
}

}  // namespace aep
