// Purpose: the node's operations: how a client takes chunks from the pool for itself, and how they
//          come back. They touch what all clients share, so each of them must complete once begun.
// Who calls it: the image's dispatcher on behalf of clients; recovery directly.
// Crash rule: completed after a kill, or not: each chunk's word says whose it is, CLAIMING before
// the
//             pool's word changes, and recovery takes all that are a dead client's. Counts are
//             hints.
//
// What two at once may see: one compare-and-swap on a chunk's word decides.
//
//   claim | claim, one chunk     one gets it, the other goes on behind it; of two runs that overlap
//                                both may fail although one would fit, and what they had is cached
//   claim | another node's       the pool's word decides; the loser's word is NOBODY's again
//   claim | return               taken, or overlooked by a search that has passed it
//   claim | claim, near a limit  never beyond it: each counts first. Both may be refused
//   keep | give_kept             whoever comes second sees the other: given to the cache, once
//                                (recovery marks and then counts, the last drop counts and then looks)
//   reclaim | claim              the chunk is the dead client's until it is in the cache
//   chunks_cached | all          too small for a moment, never too large: a search may be left out
#pragma once

#include "dsm-core/context/format.hpp"
#include "dsm-core/pool/tables.hpp"

namespace aep {

/// How many chunks the node's cache has: a hint.
inline u64 chunks_in_cache() {
    const auto count = static_cast<i64>(context().chunks_cached.load(std::memory_order_relaxed));
    return count < 0 ? 0 : static_cast<u64>(count);
}

/// Perform the node's operations (op/node_operations.hpp) for client `client` (1 .. max_clients).
op::ClaimChunks::Reply perform(u32 client, const op::ClaimChunks& o);
op::ReturnChunk::Reply perform(u32 client, const op::ReturnChunk& o);

/// Recovery of a client whose process is gone, or of the one that began it: gives chunk `chunk` to
/// the cache if it is the client's; its metadata must be clear by then. True if it was. Idempotent.
bool reclaim_chunk(u32 client, u32 chunk);

/// Recovery: chunk `chunk` of a dead client, whose metadata must be clear by then, is kept for the
/// exports in it. True if it was the client's. Idempotent.
bool keep_chunk(u32 client, u32 chunk);

/// Bytes of chunks that living clients hold. Cost: a look at each client's entry.
u64 bytes_of_clients();

/// One chunk less is in the cache.
void taken_from_cache();

/// Gives a kept chunk to the cache, if it is one: its last export is gone.
void give_kept_chunk(u32 chunk);

}  // namespace aep
