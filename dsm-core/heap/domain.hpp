// Purpose: the domain: everything one process (private) or one context (joined) allocates from: the
// arena, the table of
//          heaps, the gate that fork closes. It lies at a fixed address and holds no
//          process-private pointer.
// Who calls it: ops.cpp; the driver maps it.
// Crash rule: lists of heaps change under heaps_lock, inside operations.
#pragma once

#include "dsm-core/heap/arena.hpp"
#include "dsm-core/heap/heap.hpp"

namespace aep {

struct Domain {
    PageDesc empty_page;  // always zero: what empty queues point at
    Arena arena;

    Lock heaps_lock;
    u32 heaps_used;                 // ids 1 .. heaps_used were ever given out
    std::atomic<u32> heaps_mapped;  // memory is there for ids 1 .. heaps_mapped
    Heap* abandoned;                // singly linked
    Heap* unused;
    std::atomic<u32> abandoned_count;

    std::atomic<u32> gate;      // 1: operations wait outside until fork is done
    std::atomic<u32> visitors;  // open operations of threads that have no heap

    std::atomic<u64> purged_bytes;
    std::atomic<u64> large_bytes;  // in live large objects
    std::atomic<u64> large_count;
};

inline constexpr usize HEAPS_OFFSET = 8 * MiB;
static_assert(sizeof(Domain) <= HEAPS_OFFSET);
static_assert(HEAPS_OFFSET + (MAX_HEAPS + 1) * HEAP_STRIDE <= DOMAIN_WINDOW);

inline Domain& domain() { return *reinterpret_cast<Domain*>(DOMAIN_BASE); }
/// The heap with this id; 1 <= id <= heaps_mapped.
inline Heap* heap_of_id(u32 id) {
    return reinterpret_cast<Heap*>(DOMAIN_BASE + HEAPS_OFFSET + usize{id} * HEAP_STRIDE);
}

}  // namespace aep
