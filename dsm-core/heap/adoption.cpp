// Purpose: see adoption.hpp.
// Who calls it: op/heap_ops.cpp.
// Crash rule: inside an operation.
#include "dsm-core/heap/adoption.hpp"

#include "dsm-core/heap/remote.hpp"

namespace aep {

namespace {

void set_owner(PageDesc* d, Heap* h) {
    // A freer may set the remote flag meanwhile. seq_cst: pairs with remote_requeue, which reads
    // the owner after it pushed.
    const u32 change = (d->tag.load(std::memory_order_relaxed) ^ h->tag) &
                       ~(u32{TAG_KIND_MASK} | TAG_REMOTE | TAG_SHARED);
    d->tag.fetch_xor(change, std::memory_order_seq_cst);
    for (u32 i = 1; i < d->slices; ++i)
        d[i].tag.store(make_tag(h->id(), TAG_TAIL), std::memory_order_relaxed);
    ++h->page_count;
}

/// Calls f(descriptor, kind) for the head of every run in the domain.
template <class F>
void for_each_run(const Domain& dom, F&& f) {
    const u32 limit = dom.arena.chunk_limit();
    for (u32 c = dom.arena.chunk_first(); c < limit; ++c) {
        const ChunkDesc* chunk = chunk_desc(ChunkIndex{c});
        if (!dom.arena.holds(chunk)) continue;
        for (u64 used = ~chunk->free; used != 0; used &= used - 1) {
            PageDesc* d = desc_of(SliceIndex{raw(first_slice(ChunkIndex{c})) + lowest_bit(used)});
            f(d, kind_of(d->tag.load(std::memory_order_relaxed)));
        }
    }
}

}  // namespace

Heap* pop_heap(Heap*& list) {
    Heap* h = list;
    if (h != nullptr) {
        list = h->next;
        h->next = nullptr;
    }
    return h;
}

void abandon_heap(Domain& dom, Heap* h) {
    const bool empty = h->page_count == 0;
    Heap*& list = empty ? dom.unused : dom.abandoned;
    h->next = list;
    list = h;
    h->state.store(empty ? HeapState::unused : HeapState::abandoned, std::memory_order_relaxed);
    if (!empty) dom.abandoned_count.fetch_add(1, std::memory_order_relaxed);
}

bool adopt_one(Domain& dom, Heap* h) {
    if (dom.abandoned_count.load(std::memory_order_relaxed) == 0) return false;
    Heap* orphan;
    {
        LockScope scope(dom.heaps_lock);
        orphan = pop_heap(dom.abandoned);
        if (orphan == nullptr) return false;
        // In our hands alone: nobody takes pages back from it.
        orphan->state.store(HeapState::unused, std::memory_order_relaxed);
        dom.abandoned_count.fetch_sub(1, std::memory_order_relaxed);
    }
    for (u32 c = 0; c < CLASS_COUNT; ++c) {
        while (!queue_empty(orphan->queues[c])) {
            PageDesc* d = orphan->queues[c].head;
            heap_dequeue(orphan, d);
            set_owner(d, h);
            heap_enqueue(h, d);
        }
    }
    while (orphan->full != nullptr) {
        PageDesc* d = orphan->full;
        heap_remove_full(orphan, d);
        set_owner(d, h);
        heap_add_full(h, d);
    }
    orphan->page_count = 0;
    // After every tag: pages that were queued to the orphan go on to their new owner.
    PageDesc* d = orphan->remote_pages.exchange(nullptr, std::memory_order_seq_cst);
    while (d != nullptr) {
        PageDesc* next = d->remote_next;
        remote_unqueue(d);
        remote_requeue(d);
        d = next;
    }
    LockScope scope(dom.heaps_lock);
    abandon_heap(dom, orphan);
    return true;
}

namespace {

/// One page in a fork child. Only the survivor's own pages were in nobody's hands, but for the
/// marks of others.
void repair_page(PageDesc* d, Heap* owner, bool survivors) {
    if (!survivors) {
        page_rebuild(d);
        if (d->standing == Standing::full && page_must_move(d)) heap_unfile_full(owner, d);
        return;
    }
    // A freer may have been stopped between its mark and the summary.
    u64 summary = 0;
    for (u32 w = 0; w < page_words(d); ++w)
        if (d->bits[w].freed.load(std::memory_order_relaxed) != 0) summary |= u64{1} << w;
    if (summary == 0) return;
    d->remote_summary.store(summary, std::memory_order_relaxed);
    d->tag.fetch_or(TAG_REMOTE, std::memory_order_relaxed);
    remote_requeue(d);
}

}  // namespace

void repair_after_fork(Domain& dom, Heap* survivor, u64 now) {
    dom.heaps_lock.reset();
    dom.arena.lock().reset();
    dom.visitors.store(0, std::memory_order_relaxed);
    bool others = false;
    for (u32 n = 1; n <= dom.heaps_used; ++n) {
        Heap* h = heap_at(dom, n);
        if (h == survivor) continue;
        // Its thread, or a visitor, was about to perform something there, or had just done so.
        h->sequence.store(0, std::memory_order_relaxed);
        others |= h->state.load(std::memory_order_relaxed) == HeapState::live;
    }
    if (!others) return;
    for_each_run(dom, [&](PageDesc* d, u32 kind) {
        Heap* owner = heap_of_id(owner_of(d));
        if (kind == TAG_RESERVED && owner != survivor) {
            // Its thread was between taking the run and making something of it.
            dom.arena.give(slice_of(d), d->slices, now);
        } else if (kind == TAG_PAGE) {
            repair_page(d, owner, owner == survivor);
        }
    });
    for (u32 n = 1; n <= dom.heaps_used; ++n) {
        Heap* h = heap_at(dom, n);
        if (h == survivor || h->state.load(std::memory_order_relaxed) != HeapState::live) continue;
        abandon_heap(dom, h);
    }
}

}  // namespace aep
