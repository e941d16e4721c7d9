// Purpose: free behind its inline fast path: blocks of other threads, of medium pages, large ones; and the judgement of
//          what is no live block.
// Who calls it: allocator.hpp's fast path.
// Crash rule: a mark in a page's remote bitmap, a bit of its alloc bitmap, a large object's tag are the commits.
//
// Compiled without frame pointers (CMakeLists.txt): nothing in here takes a stack.
#include "dsm-core/heap/remote.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/background_thread.hpp"
#include "shim/driver/outside.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/report.hpp"
#include "shim/driver/shared_blocks.hpp"
#include "shim/driver/target.hpp"
#include "shim/driver/transact.hpp"
#include "shim/driver/watched.hpp"

namespace aep {

namespace {

/// Whether the slice is part of a run: only a large object's further slices are, without a tag of
/// their own.
bool in_large_object(uptr address) {
    const SliceIndex s = slice_at(address);
    const ChunkDesc* chunk = chunk_desc(chunk_of(s));
    return domain().arena.holds(chunk) && (chunk->free >> (raw(s) % SLICES_PER_CHUNK) & 1) == 0;
}

/// free of what is no block of ours: an object that was received, or a mistake.
[[gnu::cold, gnu::noinline]] void report_not_live(const void* p) {
    const Target t = target_of(p);
    const uptr address = reinterpret_cast<uptr>(p);
    if (drop_received(p)) return;  // perhaps the root of a group of ours
    if (!is_ours(p)) return report_bad_free(address, BadFree::foreign);
    const bool interior = is_page(t) ? t.index == NO_BLOCK : in_large_object(address);
    report_bad_free(address, interior ? BadFree::interior : BadFree::not_live);
}

[[gnu::cold, gnu::noinline]] void report_twice(const void* p) {
    report_bad_free(reinterpret_cast<uptr>(p), BadFree::twice);
}

/// free of a block where objects were sent, or samples lie: true: others still refer to it, and it stays.
[[gnu::cold, gnu::noinline]] bool others_keep(void* p) {
    unwatch(p);
    const SharedBlocks* sharing = sharing_answers();
    if (sharing == nullptr || !sharing->may_be_referred_to(p)) return false;
    switch (sharing->drop(p)) {
        case Dropped::kept:
            return true;
        case Dropped::not_held:
            report_twice(p);
            return true;
        default:
            return false;
    }
}

/// Hands a page with its first remote free to its owner. On behalf of our own heap: its counter of
/// open operations lies on a cache line of our own, the counter of visitors on everyone's.
[[gnu::noinline]] void queue_page(PageDesc* d) {
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) return remote_requeue(d);  // without locks
    transact(op::QueuePage{.heap = current_heap(), .page = d});
    background_notice(0);
}

/// free into a page that is not the calling thread's. Below a signal handler that interrupted the
/// slow path that is every page: the thread's heap looks empty then, and a mark is always right.
[[gnu::always_inline]] inline void deallocate_foreign(void* p, const Target& t) {
    // Bitmaps of another client's pages are not accessible.
    if (AEP_UNLIKELY(!is_own_heap(t.tag >> TAG_OWNER_SHIFT) || !page_is_live(t.page, t.index)))
        return report_not_live(p);
    const RemoteMark mark = page_mark_remote(t.page, t.index);
    if (AEP_LIKELY(mark == RemoteMark::marked)) return;
    return mark == RemoteMark::first_of_page ? queue_page(t.page) : report_twice(p);
}

/// free into a page of ours that the fast path left alone: a medium one, or one that TAG_REMOTE
/// marks.
[[gnu::always_inline]] inline void deallocate_own(void* p, const Target& t) {
    if (AEP_UNLIKELY(!page_is_live(t.page, t.index))) return report_not_live(p);
    if (AEP_UNLIKELY(page_is_marked(t.page, t.index))) return report_twice(p);
    page_clear_bit(t.page, t.index);
    if (AEP_UNLIKELY(page_regain(t.page))) detail::deallocate_refile(p, t.page);
}

/// A block on a page by an operation alone (AEP_PURE).
[[gnu::cold, gnu::noinline]] void deallocate_pure(void* p, Target t) {
    const SlowPath here;
    if (here.nested()) return deallocate_foreign(p, t);
    Heap* h = current_heap();
    const bool own = h != nullptr && t.tag >> TAG_OWNER_SHIFT == h->id();
    if (!is_own_heap(t.tag >> TAG_OWNER_SHIFT) || !page_is_live(t.page, t.index))
        return report_not_live(p);
    if (page_is_marked(t.page, t.index)) return report_twice(p);
    const u64 now = now_ms();
    const auto r =
        own ? transact(op::FreeBlock{.heap = h, .page = t.page, .index = t.index, .now = now})
            : transact(op::FreeForeign{.heap = h, .page = t.page, .index = t.index});
    if (r.status != Status::ok) return report_twice(p);
    purge_if_due(now);
}

[[gnu::noinline]] void deallocate_large(void* p) {
    const SlowPath here;
    const uptr address = reinterpret_cast<uptr>(p);
    if (address % SLICE_SIZE != 0 || !is_ours(p)) return report_not_live(p);
    if (AEP_UNLIKELY(here.nested())) {
        if (!defer_free(desc_at(address))) report_twice(p);
        return;
    }
    const u64 now = now_ms();
    const auto r = transact(op::FreeLarge{.address = address, .now = now});
    if (r.status != Status::ok) return report_not_live(p);
    purge_if_due(now);
}

/// free of what is nobody else's, whatever the fast path made of it.
[[gnu::always_inline]] inline void deallocate_target(void* p, const Target& t) {
    if (AEP_LIKELY(is_page(t))) {
        if (AEP_UNLIKELY(pure_mode)) return deallocate_pure(p, t);
        return is_own(t) ? deallocate_own(p, t) : deallocate_foreign(p, t);
    }
    if (t.kind == TAG_LARGE) return deallocate_large(p);
    report_not_live(p);
}

/// free, but of what others still refer to.
[[gnu::always_inline]] inline void deallocate_unless_kept(void* p, const Target& t) {
    if (AEP_UNLIKELY((t.tag & TAG_SHARED) != 0) && is_live_here(p, t) && others_keep(p)) return;
    deallocate_target(p, t);
}

/// free in a further slice of a page, as the fast path does it in the first.
[[gnu::noinline]] void deallocate_behind(void* p, PageDesc* d) {
    const Target t = target_behind(p, d);
    if (AEP_LIKELY(t.tag == thread_tag && t.index != NO_BLOCK && page_clear_bit(t.page, t.index))) {
        if (AEP_UNLIKELY(page_regain(t.page))) detail::deallocate_refile(p, t.page);
        return;
    }
    background_offer(__builtin_return_address(0));
    deallocate_unless_kept(p, t);
}

}  // namespace

namespace detail {

[[gnu::noinline]] void deallocate_refile(void* p, PageDesc* d) {
    background_offer(__builtin_return_address(0));
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) {
        // The interrupted thread was about to leave its heap alone, but had not yet: the block's
        // bit is clear. As if it were not: then it is an ordinary block of a page in other hands.
        const Target t = target_of(p);
        BlockBits& word = d->bits[t.index / BLOCKS_A_WORD];
        set_live_word(word, with_bit_set(live_word(word), t.index));
        ++d->until;
        return deallocate_foreign(p, t);
    }
    // A full page is only linked elsewhere; what becomes empty may go back to the arena.
    const u64 now = d->standing == Standing::full ? 0 : now_ms();
    transact(op::RefilePage{.heap = current_heap(), .page = d, .now = now});
    if (now != 0) purge_if_due(now);
}

void deallocate_slow(void* p, PageDesc* d) {
    const u32 tag = d->tag.load(std::memory_order_acquire);
    if (AEP_UNLIKELY(kind_of(tag) == TAG_TAIL)) return deallocate_behind(p, d);
    background_offer(__builtin_return_address(0));
    const Target t = target_in(d, tag, reinterpret_cast<uptr>(p) % SLICE_SIZE);
    deallocate_unless_kept(p, t);
}

}  // namespace detail

void deallocate_unshared(void* p) { deallocate_target(p, target_of(p)); }

}  // namespace aep
