// Purpose: what the parts of the pool backing share: the pool as this process sees it.
// Who calls it: pool_backing.cpp, node_identity.cpp, reclaim.cpp, freeze.cpp.
// Crash rule: process-local; a forked child has its own copy of it.
//
// What two at once may see of a chunk's state:
//
//   claim | become_guest    ours, whichever comes first: a guest is only what was `other`
//   give back | open        under guests_lock, both: accessible and a guest, or neither
//   purge | freeze          one, then the other: a fork has the purge's lock
//   is_accessible | open    all chunks, once guests_everywhere is seen; before, it asks under guests_lock
#pragma once

#include <atomic>

#include "dsm-core/base/lock.hpp"
#include "dsm-core/base/shared_word.hpp"
#include "dsm-core/pool/tables.hpp"
#include "shim/backing/pool_file.hpp"

namespace aep {

/// What this process knows of one chunk of the pool.
enum class ChunkView : u8 {
    other = 0,   // not ours: free, or another node's
    ours = 1,    // our node's, mapped shared
    frozen = 2,  // private to this process: our private heap's; still owned by the node it had
    pinned = 3,  // ours, but some of its OS pages are private already, because the program keeps
                 // them from children, or a fork was refused halfway: neither purged nor given back
    guest = 4,   // another client's or nobody's, accessible because we received an object
};

/// The pool of this process. Constant-initialised: usable before any constructor.
struct PoolHere {
    PoolFile file;
    PoolTables tables;  // in the shared mapping; not there while `attached` is false
    u8* here;           // one a chunk, in private memory; read and written by the functions below
    uptr private_view;  // dormant private mapping of all chunks, which freeze moves from; 0
                        // where fork copies
    bool attached;      // the pool is mapped (a forked child maps it when it first needs a chunk)
    bool has_node;      // `owner` is a node of ours, not inherited by any child so far
    Owner owner;
    u32 reclaimer;  // who we are in a PoolNodeWord that we reclaim; 0: no node of machines
    std::atomic<u32> freezes;  // how often a fork has made chunks of ours private
    uptr token;                // the mapping that keeps the node's lock
    Lock guests_lock;          // held while chunks of others become accessible, or ours no longer
    std::atomic<usize> bytes_open;        // in chunks that were ours, whatever is in them
    std::atomic<bool> guests_everywhere;  // chunks that are not ours are accessible
    std::atomic<bool> guests_read_only;   // if they are: for reading alone

    /// Atomic, because one thread may purge while another forks; nothing else is ordered by it.
    ChunkView state(u32 chunk) const {
        return static_cast<ChunkView>(read_shared(here[chunk], std::memory_order_relaxed));
    }
    /// From `other`, unless it is ours by now.
    void become_guest(u32 chunk) {
        u8 expected = static_cast<u8>(ChunkView::other);
        std::atomic_ref(here[chunk])
            .compare_exchange_strong(expected, static_cast<u8>(ChunkView::guest),
                                     std::memory_order_relaxed);
    }
    void set_state(u32 first, u32 count, ChunkView state) {
        for (u32 i = first; i < first + count; ++i)
            std::atomic_ref(here[i]).store(static_cast<u8>(state), std::memory_order_relaxed);
    }
};

/// Takes a node entry for this process: claims a free one, or that of a dead node after reclaiming
/// it. On success pool.owner and pool.token are set. 0; -errno when the pool's path does not lead
/// to the pool; -ENOSPC: no entry is free.
long take_node(PoolHere& pool);

/// Gives back the chunks and entries of up to `limit` dead nodes, looking at the entries after
/// `from` first. The number of chunks that became free; -errno when the pool cannot be opened.
long reclaim_dead_nodes(PoolHere& pool, u32 from, u32 limit);

/// Whether some process is reclaiming a node right now: waiting for it may yield chunks.
bool somebody_reclaims(const PoolTables& tables);

/// Reclaims node `i`, whose lock the description of `fd` holds, as `by` (PoolHere::reclaimer). The
/// number of chunks that became free, or -errno: then the rest is left for another try.
long reclaim_node(const PoolFile& file, const PoolTables& tables, int fd, u32 i, u32 by);

}  // namespace aep
