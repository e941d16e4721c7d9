// Purpose: memory of others in this process: chunks that become accessible with what is received,
//          and which of its own memory others can reach.
// Who calls it: the rest of this folder.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/base/types.hpp"
#include "dsm-core/sharing/format.hpp"
#include "shim/backing/pool_attach.hpp"

namespace aep {

/// Whether all chunks of others are accessible: since something was received, or was about to be.
bool pool_is_accessible();
/// Makes them so. False: too many mappings.
bool make_pool_accessible();

/// Makes the chunks of others accessible that an object lies in. Until a process receives
/// something, a wild store of its own reaches nobody else's memory. False: too many mappings.
bool make_accessible(u64 address, usize bytes);

/// What is received from here on can be read, but not written (or written again): chunks of others are one or the other. 0; -EBUSY: something
/// has been received already, and may be written; -ENOMEM: too many mappings; -EDEADLK.
long make_guests_read_only(bool read_only);
/// What lies there can be written although that of others cannot: its chunks can. False: too many mappings.
bool make_writable(u64 address, usize bytes);
/// Whether what lies there can be written.
bool is_writable(u64 address);

/// Whether the bytes lie in chunks that others can map: of ours, not made private by a fork.
inline bool can_be_shared(const void* p, usize bytes) {
    const ChunkSpan span = chunks_of(reinterpret_cast<u64>(p), bytes);
    for (u32 c = span.first; c < span.end; ++c)
        if (!in_pool(c) || pool.state(c) != ChunkView::ours) return false;
    return true;
}

/// In a forked child: whether what lies there is its own copy of an object of its parent's.
bool is_copy_of_the_parents(const void* p);

/// In a forked child: what was received is its parent's.
void forget_guests();

}  // namespace aep
