// Purpose: takes back what dead nodes held: whoever gets a dead node's lock punches its chunks,
//          frees them, frees the entry.
// Who calls it: node_identity.cpp (an entry to take over), pool_backing.cpp (no chunk is free).
// Crash rule: each step may be the last: the lock goes with the reclaimer, the entry is not free,
//             so the next one begins again; a chunk is free only after it is clean.
#include <errno.h>
#include <linux/falloc.h>

#include "dsm-core/era/region.hpp"
#include "dsm-core/pool/crash_points.hpp"
#include "shim/living_chunks.hpp"
#include "shim/node_lock.hpp"
#include "shim/pool_shared.hpp"
#include "shim/proc_file.hpp"
#include "shim/syscall.hpp"

namespace aep {
namespace {

long punch_chunk(const PoolFile& file, int fd, u32 chunk) {
    constexpr int PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const u64 at = file.superblock.chunks_offset + usize{chunk} * CHUNK_SIZE;
    long result;
    do {
        result = sys::fallocate(fd, PUNCH, at, CHUNK_SIZE);
    } while (result == -EINTR);
    return result;
}

/// Whether the entry is that of a machine's node that is not known to be dead: its locks are told
/// to its own system only, so what counts is what the nodes say of each other.
bool lives_elsewhere(const PoolFile& file, const NodeEntry& entry, int fd) {
    const Superblock& s = file.superblock;
    if (entry.era_node == 0 || entry.era_node > s.era.nodes) return false;
    u8 here[16];
    read_boot_id(here);
    if (__builtin_memcmp(here, entry.boot_id, sizeof here) == 0) return false;
    u64 word = 0;
    const u64 at = s.era_offset + (entry.era_node - 1) * sizeof(era::NodeEntry);
    if (sys::pread(fd, &word, sizeof word, at) != sizeof word) return true;
    const era::NodeWord node{word};
    return node.state() != era::NodeState::free && node.generation() == entry.era_generation;
}

}  // namespace

long reclaim_node(const PoolFile& file, const PoolTables& tables, int fd, u32 i) {
    AEP_POOL_CRASH_POINT("reclaim: locked");
    if (lives_elsewhere(file, tables.nodes[i], fd)) {
        return -EBUSY;
    }
    std::atomic<u64>& entry = tables.nodes[i].word;
    const u32 generation = tables.node(i).generation();
    // Relaxed: the lock orders reclaimers among themselves; others only read it as a hint.
    entry.store(NodeWord::make(NodeState::reclaiming, generation).bits, std::memory_order_relaxed);
    AEP_POOL_CRASH_POINT("reclaim: announced");
    const LivingChunks living(file, fd);
    if (living.unknown()) {
        return -ENOMEM;
    }
    long freed = 0;
    u32 chunk = 0;
    while ((chunk = next_chunk_of_node(tables, i, chunk)) < tables.chunk_count) {
        const Owner dead{i, tables.chunk(chunk).generation()};
        if (living.contain(chunk)) {
            keep_chunk_in_pool(tables, dead, chunk);
            ++chunk;
            continue;
        }
        const long result = punch_chunk(file, fd, chunk);
        if (sys::failed(result)) {
            return result;
        }
        AEP_POOL_CRASH_POINT("reclaim: punched");
        freed += free_chunk(tables, dead, chunk) ? 1 : 0;
        AEP_POOL_CRASH_POINT("reclaim: one chunk");
        ++chunk;
    }
    AEP_POOL_CRASH_POINT("reclaim: all chunks");
    // release: whoever takes the entry finds no chunk that names it.
    entry.store(NodeWord::make(NodeState::free, generation).bits, std::memory_order_release);
    AEP_POOL_CRASH_POINT("reclaim: entry free");
    return freed;
}

bool somebody_reclaims(const PoolTables& tables) {
    for (u32 i = 0; i < tables.node_count; ++i) {
        if (tables.node(i).state() == NodeState::reclaiming) {
            return true;
        }
    }
    return false;
}

long reclaim_dead_nodes(PoolHere& pool, u32 from, u32 limit) {
    const PoolTables& tables = pool.tables;
    int fd = -1;
    long freed = 0;
    for (u32 step = 0; step < tables.node_count && limit != 0; ++step) {
        const u32 i = (from + step) % tables.node_count;
        const bool own = pool.has_node && i == pool.owner.node;
        if (own || tables.node(i).state() == NodeState::free) {
            continue;
        }
        // A description of its own: our own nodes' locks are held by others and count as alive.
        if (fd < 0) {
            fd = reopen_pool_file(pool.file);
            if (fd < 0) {
                return fd;
            }
        }
        --limit;
        if (try_node_lock(fd, i) != NodeLock::taken) {
            continue;
        }
        if (tables.node(i).state() != NodeState::free) {
            const long result = reclaim_node(pool.file, tables, fd, i);
            freed += result > 0 ? result : 0;
        }
        // By hand, not by close: a child of a raw clone may have inherited the descriptor.
        release_node_lock(fd, i);
    }
    if (fd >= 0) {
        sys::close(fd);
    }
    return freed;
}

}  // namespace aep
