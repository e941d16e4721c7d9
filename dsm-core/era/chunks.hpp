// Purpose: taking a chunk for a node and giving it back, between machines: one word, one
//          compare-and-swap, no record.
// Who calls it: a node when its heap grows or shrinks.
// Crash rule: a chunk is free or names its node; recovery finds it by that. A change that was lost
//             with the cache of its node is one that this node never made.
#pragma once

#include "dsm-core/era/transaction.hpp"
#include "dsm-core/pool/format.hpp"

namespace aep::era {

/// Takes chunk `chunk`, if it is free, for the node whose word is `live`. busy: it is not free.
/// fenced. Safe from any number of lanes. Cost: 1 fence.
template <class Memory>
Status claim_chunk(Memory& m, const Tables& t, u32 node, NodeWord live, u32 chunk) {
    if (m.load(t.node(node)) != live.bits) return Status::fenced;
    const u64 owned = ChunkWord::owned(node, live.generation()).bits;
    if (!m.cas(t.chunks[chunk], FREE_CHUNK.bits, owned)) return Status::busy;
    m.flush(t.chunks[chunk]);
    m.fence();  // before anything in the chunk is shared: a free chunk holds nothing
    // Declared dead meanwhile: recovery may have passed this word already, so give it back; if
    // recovery has it, the word is no longer ours and stays.
    if (m.load(t.node(node)) != live.bits) {
        m.cas(t.chunks[chunk], owned, FREE_CHUNK.bits);
        m.flush(t.chunks[chunk]);
        m.fence();
        return Status::fenced;
    }
    return Status::ok;
}

/// Gives a clean chunk back. busy: it is not the node's. fenced. Cost: 2 fences.
template <class Memory>
Status return_chunk(Memory& m, const Tables& t, u32 node, NodeWord live, u32 chunk) {
    if (m.load(t.node(node)) != live.bits) return Status::fenced;
    m.fence();  // the caller has flushed the chunk's zeros: they come before the word
    const u64 owned = ChunkWord::owned(node, live.generation()).bits;
    if (!m.cas(t.chunks[chunk], owned, FREE_CHUNK.bits)) return Status::busy;
    m.flush(t.chunks[chunk]);
    m.fence();
    return Status::ok;
}

}  // namespace aep::era
