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

/// Numbers of operations beyond those of a domain (Op).
enum class NodeOp : u32 {
    claim_chunks = 0x100,  // a=count, b=alignment in chunks, mask=exact first chunk or NO_CHUNK
                           // -> value=first chunk, mask=1: all of them are clean, 0: some hold
                           // memory and data; miss: the pool has no such run; limit
    return_chunk,          // a=chunk, b=1: it is clean and goes back to the pool, 0: to the cache
                           // -> ok, or miss: it is not the client's
    end,
};

/// Performs a node operation for client `client` (1 .. max_clients).
Reply perform_node(u32 client, NodeOp op, const Request& request);

/// Whether the number is one of an operation that exists.
constexpr bool known_operation(u32 number) {
    return number < static_cast<u32>(Op::count) ||
           (number >= static_cast<u32>(NodeOp::claim_chunks) &&
            number < static_cast<u32>(NodeOp::end));
}

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
