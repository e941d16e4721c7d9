// Purpose: the node's operations: how a client takes chunks from the pool for itself, and how they
//          come back.
// Who calls it: a client's backing, through the image; the host for dead clients.
// Crash rule: see context/node_ops.hpp.
#pragma once

#include "dsm-core/op/operation.hpp"

namespace aep::op {

/// Takes a run of chunks, from the node's cache or from the pool.
struct ClaimChunks {
    static constexpr const char* NAME = "claim_chunks";
    u32 count = 0;
    u32 alignment = 1;         // in chunks; a power of two
    ChunkIndex at = NO_CHUNK;  // where it must begin; NO_CHUNK: anywhere
    friend constexpr bool operator==(const ClaimChunks&, const ClaimChunks&) = default;
    struct Reply {
        Status status = Status::ok;  // miss: there is no such run; limit
        ChunkIndex first = NO_CHUNK;
        bool clean = false;  // all of them; else some hold memory and data
    };
};

/// Gives back a chunk of the client's.
struct ReturnChunk {
    static constexpr const char* NAME = "return_chunk";
    ChunkIndex chunk{};
    bool clean = false;  // it goes back to the pool; else to the cache
    using Reply = Done;  // miss: it is not the client's
    friend constexpr bool operator==(const ReturnChunk&, const ReturnChunk&) = default;
};

using NodeOperations = OperationList<0x100, ClaimChunks, ReturnChunk>;

}  // namespace aep::op
