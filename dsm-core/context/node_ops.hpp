// Purpose: the node's operations: how a client takes chunks from the pool for itself, and how they
//          come back. They touch what all clients share, so each of them must complete once begun.
// Who calls it: the image's dispatcher on behalf of clients; recovery directly.
// Crash rule: completed after a kill, or not: each chunk's word says whose it is, CLAIMING before
// the
//             pool's word changes, and recovery takes all that are a dead client's. Counts are
//             hints.
#pragma once

#include "dsm-core/context/format.hpp"
#include "dsm-core/pool/tables.hpp"

namespace aep {

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
