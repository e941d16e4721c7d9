// Purpose: the operations of the slow path; see ops.hpp.
// Who calls it: the driver.
// Crash rule: see ops.hpp. Lock order: heaps_lock, then the arena's lock.
#include "dsm-core/heap/ops.hpp"

#include "dsm-core/heap/adoption.hpp"
#include "dsm-core/heap/crash_points.hpp"
#include "dsm-core/heap/remote.hpp"
#include "dsm-core/heap/take_back.hpp"

namespace aep {

namespace {

/// An idle page is looked at each time the heap has taken this many fresh pages, and released at
/// the second look.
constexpr u32 IDLE_TICKS = 16;

Reply hit(const void* p) { return {.value = reinterpret_cast<uptr>(p)}; }
Reply miss() { return {.status = Status::miss}; }

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

Reply find_page(Domain& dom, const Request& r) {
    uptr bad = 0;
    Heap* h = r.heap;
    const u32 c = static_cast<u32>(r.a);
    if (r.thorough) unfile_full_pages(h, c);
    PageDesc* d = usable_page(dom, h, c, r.thorough, bad, r.now);
    if (d == nullptr && !r.own_only && adopt_one(dom, h))
        d = usable_page(dom, h, c, r.thorough, bad, r.now);
    if (d == nullptr && ++h->ticks % IDLE_TICKS == 0) release_idle(dom, h, false, r.now);
    Reply reply = d == nullptr ? miss() : hit(d);
    if (d != nullptr && page_hand(d) == 0) reply.status = Status::uncommitted;
    if (d != nullptr) reply.mask = page_is_tight(d) && page_awaits_memory(d);
    reply.twice_freed = bad;
    return reply;
}

Reply take_block(Domain& dom, const Request& r) {
    Reply reply{};
    PageDesc* d = r.heap->queues[r.a].head;
    if (page_hand(d) == 0) {
        reply = find_page(dom, r);
        if (reply.status != Status::ok) return reply;
        d = reinterpret_cast<PageDesc*>(reply.value);
    }
    bool fresh_zero = false;
    if (d->block_size > MAX_DIRECT) {
        page_take_tracked(d, reply.value, fresh_zero);
    } else {
        page_take(d, reply.value);
    }
    reply.mask = fresh_zero;
    return reply;
}

Reply page_birth(const Request& r) {
    PageDesc* d = desc_of(r.run.first);
    page_init(d, static_cast<u32>(r.a), r.heap->id(), r.run.zero, r.run.committed);
    page_extend(d);
    AEP_HEAP_CRASH_POINT("page: made");
    ++r.heap->page_count;
    heap_enqueue(r.heap, d);
    AEP_HEAP_CRASH_POINT("page: listed");
    return hit(d);
}

Reply extend_page(const Request& r) {
    PageDesc* d = reinterpret_cast<PageDesc*>(r.a);
    d->committed = r.b;
    if (page_hand(d) == 0) extend(d);
    return {};
}

Reply take_run(Domain& dom, const Request& r) {
    const u32 owner = r.heap == nullptr ? 0 : r.heap->id();
    const u32 slices = static_cast<u32>(r.a);
    const u32 alignment = static_cast<u32>(r.b);
    if (slices == 0 || alignment == 0) return miss();  // none begins or ends anywhere
    const Run run = r.mask == 0 ? dom.arena.take(slices, alignment, owner, r.thorough)
                                : dom.arena.take_between(static_cast<u32>(r.mask),
                                                         static_cast<u32>(r.mask >> 32), slices,
                                                         alignment, owner);
    return run ? Reply{.run = run} : miss();
}

Reply large_birth(Domain& dom, const Request& r) {
    PageDesc* d = desc_of(r.run.first);
    d->slices = r.run.slices;
    d->block_size = 0;
    d->committed = round_down(r.run.committed, SLICE_SIZE);
    dom.large_bytes.fetch_add(r.run.bytes(), std::memory_order_relaxed);
    dom.large_count.fetch_add(1, std::memory_order_relaxed);
    AEP_HEAP_CRASH_POINT("large: born");
    d->tag.store(TAG_LARGE, std::memory_order_release);
    return {};
}

/// A page left the fast path's state: it was on the full list, or it became empty.
Reply free_local(Domain& dom, const Request& r) {
    AEP_HEAP_CRASH_POINT("free: refiling");
    refile(dom, r.heap, reinterpret_cast<PageDesc*>(r.a), r.now);
    return {};
}

Reply free_block(Domain& dom, const Request& r) {
    PageDesc* d = reinterpret_cast<PageDesc*>(r.a);
    const u32 index = static_cast<u32>(r.b);
    if (index >= MAX_BLOCKS || !page_clear_bit(d, index)) return {.status = Status::not_live};
    return page_regain(d) ? free_local(dom, r) : Reply{};
}

Reply free_foreign(const Request& r) {
    PageDesc* d = reinterpret_cast<PageDesc*>(r.a);
    switch (page_mark_remote(d, static_cast<u32>(r.b))) {
        case RemoteMark::already_marked:
            return {.status = Status::not_live};
        case RemoteMark::first_of_page:
            remote_requeue(d);
            break;
        case RemoteMark::marked:
            break;
    }
    return {};
}

Reply free_large(Domain& dom, const Request& r) {
    PageDesc* d = desc_of(slice_at(r.a));
    // The exchange is the commit: of two threads that free the same object one sees it gone.
    u32 expected = TAG_LARGE | (d->tag.load(std::memory_order_relaxed) & TAG_SHARED);
    if (!d->tag.compare_exchange_strong(expected, TAG_RESERVED, std::memory_order_acq_rel)) {
        return {.status = Status::not_live};
    }
    AEP_HEAP_CRASH_POINT("large: freed");
    dom.large_bytes.fetch_sub(usize{d->slices} << SLICE_SHIFT, std::memory_order_relaxed);
    dom.large_count.fetch_sub(1, std::memory_order_relaxed);
    dom.arena.give(slice_of(d), d->slices, r.now);
    return {};
}

Reply grow_large(Domain& dom, const Request& r) {
    PageDesc* d = desc_of(slice_at(r.a));
    const u32 old_slices = d->slices;
    Run added;
    switch (dom.arena.grow(slice_of(d), old_slices, static_cast<u32>(r.b), added)) {
        case GrowResult::blocked:
            return miss();
        case GrowResult::beyond_last_chunk:
            return {.status = Status::beyond_end, .value = dom.arena.chunk_limit()};
        case GrowResult::grown:
            break;
    }
    if (d->committed == usize{old_slices} << SLICE_SHIFT) {
        d->committed += round_down(added.committed, SLICE_SIZE);
    }
    dom.large_bytes.fetch_add(added.bytes(), std::memory_order_relaxed);
    return {.run = added};
}

Reply shrink_large(Domain& dom, const Request& r) {
    PageDesc* d = desc_of(slice_at(r.a));
    const u32 old_slices = d->slices;
    const u32 kept = static_cast<u32>(r.b);
    d->slices = kept;
    if (d->committed > usize{kept} << SLICE_SHIFT) d->committed = usize{kept} << SLICE_SHIFT;
    AEP_HEAP_CRASH_POINT("large: shrunk");
    dom.large_bytes.fetch_sub(usize{old_slices - kept} << SLICE_SHIFT, std::memory_order_relaxed);
    dom.arena.give(SliceIndex{raw(slice_of(d)) + kept}, old_slices - kept, r.now);
    return {};
}

Reply commit_large(Domain& dom, const Request& r) {
    PageDesc* d = desc_of(slice_at(r.a));
    dom.arena.set_committed(slice_of(d), static_cast<u32>(r.b));
    d->committed = r.b << SLICE_SHIFT;
    return {};
}

Reply heap_acquire(Domain& dom, const Request& r) {
    LockScope scope(dom.heaps_lock);
    if (Heap* h = r.own_only ? nullptr : pop_heap(dom.abandoned)) {
        dom.abandoned_count.fetch_sub(1, std::memory_order_relaxed);
        h->state.store(HeapState::live, std::memory_order_relaxed);
        return hit(h);
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
    return hit(h);
}

Reply heap_abandon(Domain& dom, const Request& r) {
    uptr bad = 0;
    Heap* h = r.heap;
    drain_remote(dom, h, bad, r.now);
    // Only heads have blocks at hand, and what was a head may be in the middle of a queue later,
    // where nobody would see that it is wholly free.
    for (const PageQueue& q : h->queues) {
        if (!queue_empty(q)) page_give_hand(q.head);
    }
    release_idle(dom, h, true, r.now);
    AEP_HEAP_CRASH_POINT("heap: idle pages released");
    LockScope scope(dom.heaps_lock);
    abandon_heap(dom, h);
    AEP_HEAP_CRASH_POINT("heap: abandoned");
    return {.twice_freed = bad};
}

Reply trim(Domain& dom, const Request& r) {
    uptr bad = 0;
    while (adopt_one(dom, r.heap)) {
    }
    drain_remote(dom, r.heap, bad, r.now);
    release_idle(dom, r.heap, true, r.now);
    return {.twice_freed = bad};
}

}  // namespace

Reply perform(Domain& dom, const Request& r) {
    switch (r.op) {
        case Op::find_page:
            return find_page(dom, r);
        case Op::take_run:
            return take_run(dom, r);
        case Op::commit_run:
            dom.arena.set_committed(SliceIndex{static_cast<u32>(r.a)}, static_cast<u32>(r.b));
            return {};
        case Op::give_run:
            dom.arena.give(SliceIndex{static_cast<u32>(r.a)}, static_cast<u32>(r.b), r.now);
            return {};
        case Op::page_birth:
            return page_birth(r);
        case Op::extend_page:
            return extend_page(r);
        case Op::large_birth:
            return large_birth(dom, r);
        case Op::free_local:
            return free_local(dom, r);
        case Op::free_large:
            return free_large(dom, r);
        case Op::grow_large:
            return grow_large(dom, r);
        case Op::shrink_large:
            return shrink_large(dom, r);
        case Op::queue_page:
            remote_requeue(reinterpret_cast<PageDesc*>(r.a));
            return {};
        case Op::add_chunks:
            dom.arena.add(ChunkIndex{static_cast<u32>(r.a)}, static_cast<u32>(r.b),
                          {r.zero, r.committed, r.mask != 0, r.coarse}, r.now);
            return {};
        case Op::purge_begin: {
            const Arena::Purge p = dom.arena.purge_begin(r.now, r.a);
            return p.mask == 0 ? miss() : Reply{.value = raw(p.chunk), .mask = p.mask};
        }
        case Op::purge_end:
            dom.arena.purge_end({ChunkIndex{static_cast<u32>(r.a)}, r.mask}, r.b, r.committed);
            dom.purged_bytes.fetch_add(u64{bits_in(r.mask)} << SLICE_SHIFT,
                                       std::memory_order_relaxed);
            return {};
        case Op::detach_chunk: {
            const ChunkIndex c = dom.arena.detach_free_chunk(static_cast<u32>(r.a));
            return c == NO_CHUNK ? miss() : Reply{.value = raw(c)};
        }
        case Op::commit_large:
            return commit_large(dom, r);
        case Op::heap_acquire:
            return heap_acquire(dom, r);
        case Op::heap_abandon:
            return heap_abandon(dom, r);
        case Op::add_heaps:
            dom.heaps_mapped.store(static_cast<u32>(r.a), std::memory_order_release);
            return {};
        case Op::trim:
            return trim(dom, r);
        case Op::repair_after_fork:
            repair_after_fork(dom, r.heap, r.now);
            return {};
        case Op::take_block:
            return take_block(dom, r);
        case Op::free_block:
            return free_block(dom, r);
        case Op::free_foreign:
            return free_foreign(r);
        case Op::take_back: {
            const u32 slices = take_back(dom, r.heap, r.now);
            return slices == 0 ? miss() : Reply{.value = slices};
        }
        case Op::count:
            break;
    }
    return {.status = Status::miss};
}

}  // namespace aep
