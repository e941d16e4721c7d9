// Purpose: see take_back.hpp.
// Who calls it: op/heap_ops.cpp.
// Crash rule: see take_back.hpp.
#include "dsm-core/heap/take_back.hpp"

#include "dsm-core/heap/remote.hpp"

namespace aep {

void give_page(Domain& dom, Heap* h, PageDesc* d, u64 now) {
    --h->page_count;
    page_give_hand(d);  // the bitmaps of what is given back are clear
    AEP_HEAP_CRASH_POINT("page: released");
    const u32 slices = d->slices;
    for (u32 i = 1; i < slices; ++i) d[i].tag.store(TAG_FREE, std::memory_order_relaxed);
    dom.arena.give(slice_of(d), slices, now, d->committed);
}

namespace {

/// Whether the owner's fast path may take blocks from the page, or may come to: it does from the
/// heads of queues. And a queue keeps two pages, so that no page becomes the only one of its class:
/// that is noted in the page, in a word that the fast path uses.
bool is_owners(const Heap* h, const PageDesc* d) {
    if (d->standing == Standing::full) return false;
    const PageQueue& q = h->queues[d->size_class];
    return q.head == d || (q.head->next == d && q.last == d);
}

/// Takes the page off its heap's lists and gives it back.
void release(Domain& dom, Heap* h, PageDesc* d, u64 now) {
    remote_unqueue(d);
    uptr stray = 0;  // none: each mark is that of a live block
    page_collect_remote(d, stray);
    if (d->standing == Standing::full)
        heap_remove_full(h, d);
    else
        heap_dequeue(h, d);
    AEP_HEAP_CRASH_POINT("heap: page taken back");
    give_page(dom, h, d, now);
}

/// Puts pages that are linked from `first` to `last`, and flagged as queued, on the heap's list
/// again.
void push_all(Heap* h, PageDesc* first, PageDesc* last) {
    PageDesc* head = h->remote_pages.load(std::memory_order_relaxed);
    do {
        last->remote_next = head;
    } while (!h->remote_pages.compare_exchange_weak(head, first, std::memory_order_seq_cst));
}

/// The caller makes sure that nobody else uses the heap's lists.
u32 take_back_here(Domain& dom, Heap* h, u64 now) {
    PageDesc* d = h->remote_pages.exchange(nullptr, std::memory_order_acq_rel);
    PageDesc* first = nullptr;  // those that stay
    PageDesc* last = nullptr;
    u32 slices = 0;
    while (d != nullptr) {
        PageDesc* next = d->remote_next;
        if (owner_of(d) != h->id()) {  // see drain_remote
            remote_unqueue(d);
            remote_requeue(d);
        } else if (!is_owners(h, d) && page_is_deserted(d)) {
            const u32 given = d->slices;
            release(dom, h, d, now);
            slices += given;
        } else {
            d->remote_next = first;
            if (first == nullptr) last = d;
            first = d;
        }
        d = next;
    }
    if (first != nullptr) push_all(h, first, last);
    return slices;
}

}  // namespace

u32 take_back(Domain& dom, Heap* h, u64 now) {
    if (h->remote_pages.load(std::memory_order_relaxed) == nullptr) return 0;
    if (h->state.load(std::memory_order_relaxed) == HeapState::live)
        return take_back_here(dom, h, now);
    // Whoever adopts or acquires it finds it in its list, under this lock.
    LockScope scope(dom.heaps_lock);
    return h->state.load(std::memory_order_relaxed) == HeapState::abandoned
               ? take_back_here(dom, h, now)
               : 0;
}

}  // namespace aep
