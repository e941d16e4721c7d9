// Purpose: see heap_ops.hpp.
// Who calls it: see heap_ops.hpp.
// Crash rule: see heap_ops.hpp.
#include "dsm-core/op/heap_ops.hpp"

#include "dsm-core/heap/adoption.hpp"
#include "dsm-core/heap/crash_points.hpp"
#include "dsm-core/heap/remote.hpp"
#include "dsm-core/heap/take_back.hpp"

namespace aep {

namespace {

/// An idle page is looked at each time the heap has taken this many fresh pages, and released at
/// the second look.
constexpr u32 IDLE_TICKS = 16;

/// Gives a wholly free page back, unless another heap's list still links it.
bool release_page(Domain& dom, Heap* h, PageDesc* d, u64 now) {
    if (d->remote_queued.load(std::memory_order_relaxed) != 0) return false;
    heap_dequeue(h, d);
    give_page(dom, h, d, now);
    return true;
}

/// A page became wholly free: it is released unless it is the last one of its class, which stays
/// for a while.
void page_emptied(Domain& dom, Heap* h, PageDesc* d, u64 now) {
    const PageQueue& q = h->queues[d->size_class];
    if (q.head != q.last) release_page(dom, h, d, now);
}

/// Releases the wholly free pages that classes keep: those that were so at the last look already,
/// or `all`.
void release_idle(Domain& dom, Heap* h, bool all, u64 now) {
    for (u32 w = 0; w < 2; ++w) {
        u64 idle = 0;
        for (u64 set = h->occupied[w]; set != 0; set &= set - 1) {
            const u32 c = w * 64 + lowest_bit(set);
            PageDesc* d = h->queues[c].head;
            if (!page_all_free(d)) continue;
            const u64 bit = u64{1} << (c % 64);
            if (!(all || (h->idle[w] & bit) != 0) || !release_page(dom, h, d, now)) idle |= bit;
        }
        h->idle[w] = idle;
    }
}

/// Files a page of which blocks came back where it then belongs.
void refile(Domain& dom, Heap* h, PageDesc* d, u64 now) {
    if (d->standing == Standing::full && page_must_move(d)) heap_unfile_full(h, d);
    if (page_all_free(d)) page_emptied(dom, h, d, now);
}

/// Takes in the remote frees of one page that is the heap's.
void collect_page(Domain& dom, Heap* h, PageDesc* d, uptr& bad, u64 now) {
    if (page_collect_remote(d, bad) == 0) return;
    AEP_HEAP_CRASH_POINT("heap: page collected");
    refile(dom, h, d, now);
}

/// Takes in the remote frees of all pages that were queued to the heap; pages of other heaps are
/// sent on.
void drain_remote(Domain& dom, Heap* h, uptr& bad, u64 now) {
    if (h->remote_pages.load(std::memory_order_relaxed) == nullptr) return;
    PageDesc* d = h->remote_pages.exchange(nullptr, std::memory_order_acq_rel);
    AEP_HEAP_CRASH_POINT("heap: remote list taken");
    while (d != nullptr) {
        PageDesc* next = d->remote_next;
        remote_unqueue(d);
        if (owner_of(d) == h->id()) {
            collect_page(dom, h, d, bad, now);
        } else {
            remote_requeue(d);
        }
        d = next;
    }
}

/// Gives an exhausted page further blocks; false: none can be written.
bool extend(PageDesc* d) {
    const bool extended = page_extend(d);
    AEP_HEAP_CRASH_POINT("page: extended");
    return extended;
}

/// The first queued page of the class that has a free block, after everything that can be had
/// without a fresh page; else the first that would have one if more of it were committed. Remote
/// frees are taken in only from pages that reached our list: a page whose freer has marked a block
/// but not yet queued it must not become free, and be something else, before that freer is done
/// with it.
PageDesc* usable_page(Domain& dom, Heap* h, u32 c, bool thorough, uptr& bad, u64 now) {
    PageQueue& q = h->queues[c];
    const PageDesc* seen = nullptr;  // the first of the uncommitted ones, which go to the end
    for (;;) {
        while (!queue_empty(q) && q.head != seen) {
            PageDesc* d = q.head;
            if (page_seek(d, thorough)) return d;
            const bool whole = d->extended == d->capacity;
            // What others have freed comes first: it is warm, and the page stays as it is.
            if (!whole && h->remote_pages.load(std::memory_order_relaxed) != nullptr) {
                drain_remote(dom, h, bad, now);
                continue;
            }
            if (!whole && extend(d)) return d;
            heap_dequeue(h, d);
            AEP_HEAP_CRASH_POINT("heap: full page filed");
            if (whole) {
                heap_add_full(h, d);
            } else {
                heap_enqueue(h, d);
                if (seen == nullptr) seen = d;
            }
        }
        if (h->remote_pages.load(std::memory_order_relaxed) == nullptr) break;
        drain_remote(dom, h, bad, now);
        if (queue_empty(q)) return nullptr;
        seen = nullptr;
    }
    return queue_empty(q) ? nullptr : q.head;
}

/// Before memory runs out, the few free blocks of full pages are used, too.
void unfile_full_pages(Heap* h, u32 c) {
    for (PageDesc *d = h->full, *next; d != nullptr; d = next) {
        next = d->next;
        if (d->size_class == c && page_live(d) != d->capacity) heap_unfile_full(h, d);
    }
}

}  // namespace

// ---- Pages and runs

op::FindPage::Reply perform(Domain& dom, const op::FindPage& o) {
    uptr bad = 0;
    Heap* h = o.heap;
    const u32 c = o.size_class;
    if (o.thorough) unfile_full_pages(h, c);
    PageDesc* d = usable_page(dom, h, c, o.thorough, bad, o.now);
    if (d == nullptr && !o.own_only && adopt_one(dom, h))
        d = usable_page(dom, h, c, o.thorough, bad, o.now);
    if (d == nullptr) {
        if (++h->ticks % IDLE_TICKS == 0) release_idle(dom, h, false, o.now);
        return {.status = Status::miss, .twice_freed = bad};
    }
    return {.status = page_hand(d) == 0 ? Status::uncommitted : Status::ok,
            .tight = page_is_tight(d) && page_awaits_memory(d),
            .page = d,
            .twice_freed = bad};
}

op::TakeRun::Reply perform(Domain& dom, const op::TakeRun& o) {
    const u32 owner = o.heap == nullptr ? 0 : o.heap->id();
    // None begins or ends anywhere.
    if (o.slices == 0 || o.alignment == 0) return {.status = Status::miss};
    const bool anywhere = o.first_chunk == 0 && o.end_chunk == 0;
    const Run run =
        anywhere ? dom.arena.take(o.slices, o.alignment, owner, o.thorough)
                 : dom.arena.take_between(o.first_chunk, o.end_chunk, o.slices, o.alignment, owner);
    return {.status = run ? Status::ok : Status::miss, .run = run};
}

op::CommitRun::Reply perform(Domain& dom, const op::CommitRun& o) {
    dom.arena.set_committed(o.first, o.slices);
    return {};
}

op::GiveRun::Reply perform(Domain& dom, const op::GiveRun& o) {
    dom.arena.give(o.first, o.slices, o.now);
    return {};
}

op::MakePage::Reply perform(Domain&, const op::MakePage& o) {
    PageDesc* d = desc_of(o.run.first);
    page_init(d, o.size_class, o.heap->id(), o.run.zero, o.run.committed);
    page_extend(d);
    AEP_HEAP_CRASH_POINT("page: made");
    ++o.heap->page_count;
    heap_enqueue(o.heap, d);
    AEP_HEAP_CRASH_POINT("page: listed");
    return {.page = d};
}

op::ExtendPage::Reply perform(Domain&, const op::ExtendPage& o) {
    o.page->committed = o.committed;
    if (page_hand(o.page) == 0) extend(o.page);
    return {};
}

op::RefilePage::Reply perform(Domain& dom, const op::RefilePage& o) {
    AEP_HEAP_CRASH_POINT("free: refiling");
    refile(dom, o.heap, o.page, o.now);
    return {};
}

op::QueuePage::Reply perform(Domain&, const op::QueuePage& o) {
    remote_requeue(o.page);
    return {};
}

// ---- Large objects

op::MakeLarge::Reply perform(Domain& dom, const op::MakeLarge& o) {
    PageDesc* d = desc_of(o.run.first);
    d->slices = o.run.slices;
    d->block_size = 0;
    d->committed = round_down(o.run.committed, SLICE_SIZE);
    dom.large_bytes.fetch_add(o.run.bytes(), std::memory_order_relaxed);
    dom.large_count.fetch_add(1, std::memory_order_relaxed);
    AEP_HEAP_CRASH_POINT("large: born");
    d->tag.store(TAG_LARGE, std::memory_order_release);
    return {};
}

op::FreeLarge::Reply perform(Domain& dom, const op::FreeLarge& o) {
    PageDesc* d = desc_of(slice_at(o.address));
    // The exchange is the commit: of two threads that free the same object one sees it gone.
    u32 expected = TAG_LARGE | (d->tag.load(std::memory_order_relaxed) & TAG_SHARED);
    if (!d->tag.compare_exchange_strong(expected, TAG_RESERVED, std::memory_order_acq_rel)) {
        return {.status = Status::not_live};
    }
    AEP_HEAP_CRASH_POINT("large: freed");
    dom.large_bytes.fetch_sub(usize{d->slices} << SLICE_SHIFT, std::memory_order_relaxed);
    dom.large_count.fetch_sub(1, std::memory_order_relaxed);
    dom.arena.give(slice_of(d), d->slices, o.now);
    return {};
}

op::GrowLarge::Reply perform(Domain& dom, const op::GrowLarge& o) {
    PageDesc* d = desc_of(slice_at(o.address));
    const u32 old_slices = d->slices;
    Run added;
    switch (dom.arena.grow(slice_of(d), old_slices, o.slices, added)) {
        case GrowResult::blocked:
            return {.status = Status::miss};
        case GrowResult::beyond_last_chunk:
            return {.status = Status::beyond_end, .missing = ChunkIndex{dom.arena.chunk_limit()}};
        case GrowResult::grown:
            break;
    }
    if (d->committed == usize{old_slices} << SLICE_SHIFT) {
        d->committed += round_down(added.committed, SLICE_SIZE);
    }
    dom.large_bytes.fetch_add(added.bytes(), std::memory_order_relaxed);
    return {.added = added};
}

op::ShrinkLarge::Reply perform(Domain& dom, const op::ShrinkLarge& o) {
    PageDesc* d = desc_of(slice_at(o.address));
    const u32 old_slices = d->slices;
    const u32 kept = o.slices;
    d->slices = kept;
    if (d->committed > usize{kept} << SLICE_SHIFT) d->committed = usize{kept} << SLICE_SHIFT;
    AEP_HEAP_CRASH_POINT("large: shrunk");
    dom.large_bytes.fetch_sub(usize{old_slices - kept} << SLICE_SHIFT, std::memory_order_relaxed);
    dom.arena.give(SliceIndex{raw(slice_of(d)) + kept}, old_slices - kept, o.now);
    return {};
}

op::CommitLarge::Reply perform(Domain& dom, const op::CommitLarge& o) {
    PageDesc* d = desc_of(slice_at(o.address));
    dom.arena.set_committed(slice_of(d), o.slices);
    d->committed = usize{o.slices} << SLICE_SHIFT;
    return {};
}

// ---- Chunks and free memory

op::AddChunks::Reply perform(Domain& dom, const op::AddChunks& o) {
    dom.arena.add(o.first, o.count, {o.zero, o.committed, o.dirty, o.coarse}, o.now);
    return {};
}

op::BeginPurge::Reply perform(Domain& dom, const op::BeginPurge& o) {
    const Arena::Purge p = dom.arena.purge_begin(o.now, o.decay_ms);
    return {.status = p.mask == 0 ? Status::miss : Status::ok, .chunk = p.chunk, .slices = p.mask};
}

op::EndPurge::Reply perform(Domain& dom, const op::EndPurge& o) {
    dom.arena.purge_end({o.chunk, o.slices}, o.zero_slices, o.committed);
    dom.purged_bytes.fetch_add(u64{bits_in(o.slices)} << SLICE_SHIFT, std::memory_order_relaxed);
    return {};
}

op::DetachChunk::Reply perform(Domain& dom, const op::DetachChunk& o) {
    const ChunkIndex c = dom.arena.detach_free_chunk(o.keep);
    return {.status = c == NO_CHUNK ? Status::miss : Status::ok, .chunk = c};
}

// ---- Heaps

op::AcquireHeap::Reply perform(Domain& dom, const op::AcquireHeap& o) {
    LockScope scope(dom.heaps_lock);
    if (Heap* h = o.unused ? nullptr : pop_heap(dom.abandoned)) {
        dom.abandoned_count.fetch_sub(1, std::memory_order_relaxed);
        h->state.store(HeapState::live, std::memory_order_relaxed);
        return {.heap = h};
    }
    Heap* h = pop_heap(dom.unused);
    if (h == nullptr) {
        if (dom.heaps_used == dom.heaps_mapped.load(std::memory_order_relaxed)) {
            return {.status = Status::need_heaps};
        }
        h = heap_at(dom, ++dom.heaps_used);
        heap_init(h, index_of(dom) * HEAP_IDS + dom.heaps_used, &dom.empty_page);
    }
    h->state.store(HeapState::live, std::memory_order_relaxed);
    AEP_HEAP_CRASH_POINT("heap: acquired");
    return {.heap = h};
}

op::AbandonHeap::Reply perform(Domain& dom, const op::AbandonHeap& o) {
    uptr bad = 0;
    Heap* h = o.heap;
    drain_remote(dom, h, bad, o.now);
    // Only heads have blocks at hand, and what was a head may be in the middle of a queue later,
    // where nobody would see that it is wholly free.
    for (const PageQueue& q : h->queues) {
        if (!queue_empty(q)) page_give_hand(q.head);
    }
    release_idle(dom, h, true, o.now);
    AEP_HEAP_CRASH_POINT("heap: idle pages released");
    LockScope scope(dom.heaps_lock);
    abandon_heap(dom, h);
    AEP_HEAP_CRASH_POINT("heap: abandoned");
    return {.twice_freed = bad};
}

op::AddHeaps::Reply perform(Domain& dom, const op::AddHeaps& o) {
    dom.heaps_mapped.store(o.mapped, std::memory_order_release);
    return {};
}

op::Trim::Reply perform(Domain& dom, const op::Trim& o) {
    uptr bad = 0;
    while (adopt_one(dom, o.heap)) {
    }
    drain_remote(dom, o.heap, bad, o.now);
    release_idle(dom, o.heap, true, o.now);
    return {.twice_freed = bad};
}

op::RepairAfterFork::Reply perform(Domain& dom, const op::RepairAfterFork& o) {
    repair_after_fork(dom, o.heap, o.now);
    return {};
}

op::TakeBack::Reply perform(Domain& dom, const op::TakeBack& o) {
    const u32 slices = take_back(dom, o.heap, o.now);
    return {.status = slices == 0 ? Status::miss : Status::ok, .slices = slices};
}

// ---- What the fast path does inline

op::TakeBlock::Reply perform(Domain& dom, const op::TakeBlock& o) {
    PageDesc* d = o.heap->queues[o.size_class].head;
    op::TakeBlock::Reply reply{};
    if (page_hand(d) == 0) {
        const auto found = perform(dom, op::FindPage{o.heap, o.size_class, o.now});
        reply.status = found.status;
        reply.twice_freed = found.twice_freed;
        if (reply.status != Status::ok) return reply;
        d = found.page;
    }
    if (d->block_size > MAX_DIRECT) {
        page_take_tracked(d, reply.block, reply.fresh_zero);
    } else {
        page_take(d, reply.block);
    }
    return reply;
}

op::FreeBlock::Reply perform(Domain& dom, const op::FreeBlock& o) {
    if (o.index >= MAX_BLOCKS || !page_clear_bit(o.page, o.index)) {
        return {.status = Status::not_live};
    }
    return page_regain(o.page) ? perform(dom, op::RefilePage{o.heap, o.page, o.now}) : Done{};
}

op::FreeForeign::Reply perform(Domain&, const op::FreeForeign& o) {
    switch (page_mark_remote(o.page, o.index)) {
        case RemoteMark::already_marked:
            return {.status = Status::not_live};
        case RemoteMark::first_of_page:
            remote_requeue(o.page);
            break;
        case RemoteMark::marked:
            break;
    }
    return {};
}

}  // namespace aep
