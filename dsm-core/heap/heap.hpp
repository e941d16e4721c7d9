// Purpose: the heap: what one thread allocates from. For each size class a FIFO queue of pages with
// free blocks, and
//          one list of pages without any.
// Who calls it: the fast path (inline, through a thread-local pointer) and the operations in
// op/heap_ops.cpp. Crash rule: lists change only inside operations; the fast path touches nothing but one
// page (see page.hpp).
//
// Heaps lie in the domain, at the same address in every process, and hold pointers to metadata
// only.
#pragma once

#include "dsm-core/heap/page.hpp"

namespace aep {

enum class HeapState : u32 {
    unused,     // never used, or emptied and on the free list
    live,       // some thread allocates from it
    abandoned,  // its thread is gone; waits to be adopted
};

struct PageQueue {
    PageDesc* head;  // never null: an empty queue points at an empty page, so that malloc needs no
                     // null check
    PageDesc* last;  // null: empty
};

struct Heap {
    PageDesc* direct[DIRECT_COUNT];  // head of the queue that serves a request of 16*i bytes
    PageQueue queues[CLASS_COUNT];
    u32 tag;         // what its pages' first slices have, but for flags
    u32 page_count;  // pages of this heap, whether queued or full
    PageDesc* full;  // pages without free blocks, doubly linked
    PageDesc* empty_page;
    u64 occupied[2];  // bit = class: its queue has a page
    u64 idle[2];      // bit = class: its only page was wholly free at the last look
    u32 ticks;        // fresh pages taken so far
    Heap* next;       // on the abandoned or the unused list
    std::atomic<HeapState> state;
    // Odd: an operation is open, of the heap's thread or of one that takes pages back from it.
    std::atomic<u32> sequence;
    std::atomic<PageDesc*> remote_pages;  // pages with remote frees, pushed by the freers

    u32 id() const { return tag >> TAG_OWNER_SHIFT; }
};

/// A heap's id is the index of its domain times HEAP_IDS plus its number there, 1 .. MAX_HEAPS;
/// number 0 owns nothing.
inline constexpr u32 HEAP_IDS = 8192;
inline constexpr u32 MAX_HEAPS = HEAP_IDS - 1;
inline constexpr u32 HEAPS_PER_STEP = 64;  // how many the domain maps at a time
inline constexpr usize HEAP_STRIDE = 4 * KiB;
static_assert(sizeof(Heap) <= HEAP_STRIDE);

/// Makes zeroed memory an empty heap.
void heap_init(Heap* h, u32 id, PageDesc* empty_page);

/// Links a page with free blocks as the last of its queue / unlinks it.
void heap_enqueue(Heap* h, PageDesc* d);
void heap_dequeue(Heap* h, PageDesc* d);
/// Links a page without free blocks to the full list / unlinks it.
void heap_add_full(Heap* h, PageDesc* d);
void heap_remove_full(Heap* h, PageDesc* d);
/// From the full list to its queue: it has blocks to give again.
void heap_unfile_full(Heap* h, PageDesc* d);

inline bool queue_empty(const PageQueue& q) { return q.last == nullptr; }

/// Makes a page without blocks at hand have some, without an operation; false: that takes one. What
/// others have freed comes before blocks that are untouched: it is warm, and the page stays as it
/// is. Owner only.
bool heap_fill_hand(const Heap* h, PageDesc* d);

/// The same of any page, and short as a rule.
inline bool heap_refill(const Heap* h, PageDesc* d) {
    return page_hand(d) != 0 || AEP_LIKELY(page_turn(d)) || heap_fill_hand(h, d);
}

/// A block of class `c` from the first of the heap's pages, without an operation; false: that takes one. Owner only.
[[gnu::always_inline]] inline bool heap_take(const Heap* h, u32 c, uptr& block, bool& fresh_zero) {
    PageDesc* d = h->queues[c].head;
    if (c > LAST_DIRECT_CLASS && AEP_LIKELY(page_take_lowest(d, block, fresh_zero))) return true;
    return heap_refill(h, d) && page_take_tracked(d, block, fresh_zero);
}

}  // namespace aep
