// Purpose: the domain: everything one process allocates from: the arena, the table of heaps.
//          It lies at a fixed address, in private memory or in a context,
//          and holds no process-private pointer.
// Who calls it: op/heap_ops.cpp; the driver maps it.
// Crash rule: lists of heaps change under heaps_lock, inside operations.
#pragma once

#include "dsm-core/heap/arena.hpp"
#include "dsm-core/heap/heap.hpp"

namespace aep {

struct Domain {
    PageDesc empty_page;  // what empty queues point at; never written after the start

    Lock heaps_lock;
    std::atomic<u32> heaps_used;                 // numbers 1 .. heaps_used were ever given out
    std::atomic<u32> heaps_mapped;               // memory is there for numbers 1 .. heaps_mapped
    Heap* abandoned AEP_GUARDED_BY(heaps_lock);  // singly linked
    Heap* unused AEP_GUARDED_BY(heaps_lock);
    std::atomic<u32> abandoned_count;

    std::atomic<u32> visitors;  // open operations of threads that have no heap

    std::atomic<u64> purged_bytes;
    std::atomic<u64> large_bytes;  // in live large objects
    std::atomic<u64> large_count;

    alignas(CACHE_LINE) Arena arena;  // last: it is sparse from its middle on
};

inline constexpr usize HEAPS_OFFSET = 8 * MiB;
static_assert(sizeof(Domain) <= HEAPS_OFFSET);
static_assert(HEAPS_OFFSET + HEAP_IDS * HEAP_STRIDE <= DOMAIN_STRIDE);

/// Makes zeroed memory the empty domain with that index.
inline void domain_init(Domain& dom, u32 index) { dom.arena.init(index); }

/// The domain with this index, 0 <= index < MAX_DOMAINS.
inline Domain& domain_at(u32 index) {
    return *reinterpret_cast<Domain*>(DOMAINS_BASE + usize{index} * DOMAIN_STRIDE);
}
inline u32 index_of(const Domain& dom) {
    return static_cast<u32>((reinterpret_cast<uptr>(&dom) - DOMAINS_BASE) / DOMAIN_STRIDE);
}
/// The heap with this id, in whatever domain it is: its number there lies between 1 and
/// heaps_mapped.
inline Heap* heap_of_id(u32 id) {
    const uptr heaps = DOMAINS_BASE + usize{id / HEAP_IDS} * DOMAIN_STRIDE + HEAPS_OFFSET;
    return reinterpret_cast<Heap*>(heaps + usize{id % HEAP_IDS} * HEAP_STRIDE);
}
/// The heap with number `n` of a domain.
inline Heap* heap_at(const Domain& dom, u32 n) { return heap_of_id(index_of(dom) * HEAP_IDS + n); }

}  // namespace aep
