// Purpose: see filing.hpp.
// Who calls it: see filing.hpp.
// Crash rule: see filing.hpp.
#include "dsm-core/heap/filing.hpp"

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

/// Takes in the remote frees of one page that is the heap's.
void collect_page(Domain& dom, Heap* h, PageDesc* d, uptr& bad, u64 now) {
    if (page_collect_remote(d, bad) == 0) return;
    AEP_HEAP_CRASH_POINT("heap: page collected");
    refile(dom, h, d, now);
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
            if (!whole && extend_page(d)) return d;
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

void refile(Domain& dom, Heap* h, PageDesc* d, u64 now) {
    if (d->standing == Standing::full && page_must_move(d)) heap_unfile_full(h, d);
    if (page_all_free(d)) page_emptied(dom, h, d, now);
}

void drain_remote(Domain& dom, Heap* h, uptr& bad, u64 now) {
    if (h->remote_pages.load(std::memory_order_relaxed) == nullptr) return;
    PageDesc* d = h->remote_pages.exchange(nullptr, std::memory_order_acq_rel);
    AEP_HEAP_CRASH_POINT("heap: remote list taken");
    while (d != nullptr) {
        PageDesc* next = d->remote_next;
        remote_unqueue(d);
        if (owner_of(d) == h->id())
            collect_page(dom, h, d, bad, now);
        else
            remote_requeue(d);
        d = next;
    }
}

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

bool extend_page(PageDesc* d) {
    const bool extended = page_extend(d);
    AEP_HEAP_CRASH_POINT("page: extended");
    return extended;
}

PageFound find_page(Domain& dom, const PageWanted& wanted) {
    uptr bad = 0;
    Heap* h = wanted.heap;
    const u32 c = wanted.size_class;
    if (wanted.thorough) unfile_full_pages(h, c);
    PageDesc* d = usable_page(dom, h, c, wanted.thorough, bad, wanted.now);
    if (d == nullptr && !wanted.own_only && adopt_one(dom, h))
        d = usable_page(dom, h, c, wanted.thorough, bad, wanted.now);
    if (d == nullptr && ++h->ticks % IDLE_TICKS == 0) release_idle(dom, h, false, wanted.now);
    return {d, bad};
}

}  // namespace aep
