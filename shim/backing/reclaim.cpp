// Purpose: takes back what dead nodes held: whoever gets a dead node's lock punches its chunks,
//          frees them, frees the entry.
// Who calls it: node_identity.cpp (an entry to take over), pool_backing.cpp (no chunk is free).
// Crash rule: each step may be the last: the lock goes with the reclaimer, the entry is not free,
//             so the next one begins again; a chunk is free only after it is clean.
#include <errno.h>

#include "dsm-core/era/region.hpp"
#include "dsm-core/pool/crash_points.hpp"
#include "shim/backing/living_chunks.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/pool_clean.hpp"
#include "shim/backing/pool_shared.hpp"
#include "shim/sys/proc_file.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// The word of one of the nodes that share objects. False: it cannot be read.
bool read_era_node(const PoolFile& file, int fd, u32 node, era::NodeWord& word) {
    const u64 at = file.superblock.era_offset + node * sizeof(era::NodeEntry);
    return read_pool(file, fd, &word, sizeof word, at);
}

/// Whether the entry is that of a machine's node that is not known to be dead: its locks are told
/// to its own system only, so what counts is what the nodes say of each other.
bool lives_elsewhere(const PoolFile& file, const PoolNodeEntry& entry, int fd) {
    const Superblock& s = file.superblock;
    u8 here[16];
    read_boot_id(here);
    if (__builtin_memcmp(here, entry.boot_id, sizeof here) == 0) return false;
    // A file is this system's alone: who is no node of machines is one from before a reboot.
    if (entry.era_node == 0 || entry.era_node > s.era.nodes)
        return file.memory == PoolMemory::device;
    era::NodeWord node{};
    return !read_era_node(file, fd, entry.era_node - 1, node) ||
           (node.state() != era::NodeState::free && node.generation() == entry.era_generation);
}

/// Whether somebody else is giving the chunks of a node back, and lives as far as the nodes know.
/// On one system the lock that the caller holds keeps all others out.
bool somebody_is_at_it(const PoolFile& file, PoolNodeWord word, u32 by, int fd) {
    if (word.state() != PoolNodeState::reclaiming || word.by() == by || word.by() == 0)
        return false;
    const u32 node = PoolNodeWord::node_of(word.by());
    era::NodeWord other{};
    return node >= file.superblock.era.nodes || !read_era_node(file, fd, node, other) ||
           (other.state() != era::NodeState::free &&
            PoolNodeWord::reclaimer(node, other.generation()) == word.by());
}

}  // namespace

long reclaim_node(const PoolFile& file, const PoolTables& tables, int fd, u32 i, u32 by) {
    AEP_POOL_CRASH_POINT("reclaim: locked");
    std::atomic<u64>& entry = tables.nodes[i].word;
    PoolNodeWord word = tables.node(i);  // before it is judged: it may become another's meanwhile
    if (lives_elsewhere(file, tables.nodes[i], fd) || somebody_is_at_it(file, word, by, fd))
        return -EBUSY;
    const u32 generation = word.generation();
    const PoolNodeWord ours = PoolNodeWord::make(PoolNodeState::reclaiming, generation, by);
    // Machines exclude each other by this word. acquire: what a former reclaimer did is seen.
    if (!entry.compare_exchange_strong(word.bits, ours.bits, std::memory_order_acq_rel))
        return -EBUSY;
    AEP_POOL_CRASH_POINT("reclaim: announced");
    const LivingChunks living(file, fd);
    if (living.unknown()) return -ENOMEM;
    long freed = 0;
    u32 chunk = 0;
    while ((chunk = next_chunk_of_node(tables, i, chunk)) < tables.chunk_count) {
        const Owner dead{i, tables.chunk(chunk).generation()};
        if (living.contain(chunk)) {
            keep_chunk_in_pool(tables, dead, chunk);
            ++chunk;
            continue;
        }
        const long result = clean_to_give_back(file, tables, fd, chunk);
        if (sys::failed(result)) return result;
        AEP_POOL_CRASH_POINT("reclaim: punched");
        freed += free_chunk(tables, dead, chunk) ? 1 : 0;
        AEP_POOL_CRASH_POINT("reclaim: one chunk");
        ++chunk;
    }
    AEP_POOL_CRASH_POINT("reclaim: all chunks");
    // release: whoever takes the entry finds no chunk that names it.
    entry.store(PoolNodeWord::make(PoolNodeState::free, generation).bits,
                std::memory_order_release);
    AEP_POOL_CRASH_POINT("reclaim: entry free");
    return freed;
}

bool somebody_reclaims(const PoolTables& tables) {
    for (u32 i = 0; i < tables.node_count; ++i)
        if (tables.node(i).state() == PoolNodeState::reclaiming) return true;
    return false;
}

long reclaim_dead_nodes(PoolHere& pool, u32 from, u32 limit) {
    const PoolTables& tables = pool.tables;
    int fd = -1;
    long freed = 0;
    for (u32 step = 0; step < tables.node_count && limit != 0; ++step) {
        const u32 i = (from + step) % tables.node_count;
        const bool own = pool.has_node && i == pool.owner.node;
        if (own || tables.node(i).state() == PoolNodeState::free) continue;
        // A description of its own: our own nodes' locks are held by others and count as alive.
        if (fd < 0) {
            fd = reopen_pool_file(pool.file);
            if (fd < 0) return fd;
        }
        --limit;
        if (try_node_lock(fd, i) != NodeLock::taken) continue;
        if (tables.node(i).state() != PoolNodeState::free) {
            const long result = reclaim_node(pool.file, tables, fd, i, pool.reclaimer);
            freed += result > 0 ? result : 0;
        }
        // By hand, not by close: a child of a raw clone may have inherited the descriptor.
        release_node_lock(fd, i);
    }
    if (fd >= 0) sys::close(fd);
    return freed;
}

}  // namespace aep
