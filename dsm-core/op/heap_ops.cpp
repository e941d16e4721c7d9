// Purpose: see heap_ops.hpp.
// Who calls it: see heap_ops.hpp.
// Crash rule: see heap_ops.hpp.
#include "dsm-core/op/heap_ops.hpp"

#include "dsm-core/heap/adoption.hpp"
#include "dsm-core/heap/crash_points.hpp"
#include "dsm-core/heap/filing.hpp"
#include "dsm-core/heap/remote.hpp"
#include "dsm-core/heap/take_back.hpp"

namespace aep {

namespace {

bool is_coarse(SliceIndex first) { return chunk_desc(chunk_of(first))->coarse != 0; }

/// So many bytes of a run or a page that begins there are committed if `bytes` are.
u64 whole_pieces(SliceIndex first, u64 bytes) {
    return is_coarse(first) ? round_up(bytes, SLICE_SIZE) : bytes;
}

op::Refill::Reply describe(PageDesc* d, uptr twice_freed) {
    const bool ready = page_hand(d) != 0;
    op::Refill::Reply reply{
        .status = ready ? Status::ok : Status::uncommitted, .page = d, .twice_freed = twice_freed};
    if (!ready || (page_is_tight(d) && page_awaits_memory(d))) {
        reply.goal = whole_pieces(slice_of(d),
                                  commit_goal(d->size_class, usize{d->extended} * d->block_size));
    }
    return reply;
}

/// A reserved run becomes a page of the heap's.
PageDesc* make_page(Heap* h, u32 c, const Run& run) {
    PageDesc* d = desc_of(run.first);
    page_init(d, c, h->id(), run.zero, run.committed);
    page_extend(d);
    AEP_HEAP_CRASH_POINT("page: made");
    ++h->page_count;
    heap_enqueue(h, d);
    AEP_HEAP_CRASH_POINT("page: listed");
    return d;
}

/// The same, or what the run lacks.
op::Refill::Reply page_of_run(const op::Refill& o, const Run& run, uptr twice_freed) {
    op::Refill::Reply reply{.fresh = true, .twice_freed = twice_freed};
    const u64 goal = whole_pieces(run.first, commit_goal(o.size_class, 0));
    reply.bitmaps = !Arena::has_bitmaps(run.first);
    if (run.committed >= goal && !reply.bitmaps) {
        reply.page = make_page(o.heap, o.size_class, run);
        return reply;
    }
    reply.status = Status::uncommitted;
    reply.run = run;
    reply.goal = goal;
    return reply;
}

void make_large(Domain& dom, const Run& run) {
    PageDesc* d = desc_of(run.first);
    d->slices = run.slices;
    d->block_size = 0;
    d->committed = round_down(run.committed, SLICE_SIZE);
    dom.large_bytes.fetch_add(run.bytes(), std::memory_order_relaxed);
    dom.large_count.fetch_add(1, std::memory_order_relaxed);
    AEP_HEAP_CRASH_POINT("large: born");
    d->tag.store(TAG_LARGE, std::memory_order_release);
}

/// The caller has made the first run.committed bytes of a reserved run writable.
void note_committed(Domain& dom, const Run& run) {
    const u32 whole = static_cast<u32>(run.committed >> SLICE_SHIFT);
    if (whole != 0) dom.arena.set_committed(run.first, whole);
}

/// A run of slices, of chunks that were just added unless others were quicker; else of any.
Run take_run(Domain& dom, const op::Refill& o) {
    const u32 slices = page_slices(o.size_class), owner = o.heap->id();
    if (o.chunks.count != 0) {
        const u32 first = raw(o.chunks.first);
        const u32 end = first + o.chunks.count;
        if (const Run run = dom.arena.take_between(first, end, slices, 1, owner)) return run;
    }
    return dom.arena.take(slices, 1, owner, o.thorough);
}

}  // namespace

// ---- Pages and runs

op::Refill::Reply perform(Domain& dom, const op::Refill& o) {
    if (o.page != nullptr) {
        o.page->committed = o.committed;
        if (page_hand(o.page) == 0) extend_page(o.page);
        return {.page = o.page};
    }
    if (o.run) {
        if (o.bitmaps != 0) dom.arena.set_bitmaps(chunk_of(o.run.first), o.bitmaps);
        note_committed(dom, o.run);
        return page_of_run(o, o.run, 0);
    }
    PageFound found{};
    if (o.chunks.count != 0) {
        perform(dom, o.chunks);
        if (o.bitmaps != 0) dom.arena.set_bitmaps(o.chunks.first, o.bitmaps);
    } else {
        found = find_page(dom, {.heap = o.heap,
                                .size_class = o.size_class,
                                .thorough = o.thorough,
                                .own_only = o.own_only,
                                .now = o.now});
        if (found.page != nullptr) return describe(found.page, found.twice_freed);
    }
    if (!o.fresh) return {.status = Status::miss, .twice_freed = found.twice_freed};
    Run run = take_run(dom, o);
    if (!run) return {.status = Status::need_chunks, .twice_freed = found.twice_freed};
    if (o.chunks.count != 0 && run.first == first_slice(o.chunks.first) &&
        o.committed > run.committed) {
        run.committed = o.committed;
        note_committed(dom, run);
    }
    return page_of_run(o, run, found.twice_freed);
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

op::GiveRun::Reply perform(Domain& dom, const op::GiveRun& o) {
    dom.arena.give(o.first, o.slices, o.now);
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
    if (o.chunks.count != 0) perform(dom, o.chunks);
    Run run = o.run;
    if (run) {
        note_committed(dom, run);
    } else {
        if (o.slices == 0 || o.alignment == 0) return {.status = Status::miss};
        const u32 owner = o.heap == nullptr ? 0 : o.heap->id();
        run = dom.arena.take(o.slices, o.alignment, owner, o.thorough);
        if (!run) return {.status = Status::need_chunks};
    }
    const u64 goal = whole_pieces(run.first, o.bytes);
    if (run.committed < goal) return {.status = Status::uncommitted, .run = run, .goal = goal};
    make_large(dom, run);
    return {.run = run};
}

op::FreeLarge::Reply perform(Domain& dom, const op::FreeLarge& o) {
    PageDesc* d = desc_of(slice_at(o.address));
    // The exchange is the commit: of two threads that free the same object one sees it gone.
    u32 expected = TAG_LARGE | (d->tag.load(std::memory_order_relaxed) & TAG_SHARED);
    if (!d->tag.compare_exchange_strong(expected, TAG_RESERVED, std::memory_order_acq_rel))
        return {.status = Status::not_live};
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
    if (d->committed == usize{old_slices} << SLICE_SHIFT)
        d->committed += round_down(added.committed, SLICE_SIZE);
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
    dom.arena.add(o.first, o.count, {o.zero, o.committed, o.dirty, o.coarse, o.sparse}, o.now);
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
        if (dom.heaps_used == dom.heaps_mapped.load(std::memory_order_relaxed))
            return {.status = Status::need_heaps};
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
    for (const PageQueue& q : h->queues)
        if (!queue_empty(q)) page_give_hand(q.head);
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
        const PageFound found =
            find_page(dom, {.heap = o.heap, .size_class = o.size_class, .now = o.now});
        d = found.page;
        reply.twice_freed = found.twice_freed;
        reply.status = d == nullptr ? Status::miss : describe(d, 0).status;
        if (reply.status != Status::ok) return reply;
    }
    if (d->block_size > MAX_DIRECT)
        page_take_tracked(d, reply.block, reply.fresh_zero);
    else
        page_take(d, reply.block);
    return reply;
}

op::FreeBlock::Reply perform(Domain& dom, const op::FreeBlock& o) {
    if (o.index >= MAX_BLOCKS || !page_clear_bit(o.page, o.index))
        return {.status = Status::not_live};
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
