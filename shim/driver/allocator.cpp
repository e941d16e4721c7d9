// Purpose: the allocator behind its inline fast path: it drives the operations and does what they
//          may not do: system calls, zeroing, copying.
// Who calls it: allocator.hpp's fast path, preload/.
// Crash rule: between two operations a client holds at most a reserved run, which recovery finds by
// its tag.
#include "shim/driver/allocator.hpp"

#include <cstring>

#include "dsm-core/heap/remote.hpp"
#include "shim/driver/aside.hpp"
#include "shim/driver/background_thread.hpp"
#include "shim/driver/emergency.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/libc_heap.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/report.hpp"
#include "shim/driver/scarcity.hpp"
#include "shim/driver/shared_blocks.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/thread.hpp"
#include "shim/driver/transact.hpp"
#include "shim/driver/watched.hpp"
#include "shim/driver/zeroing.hpp"
#include "shim/watch/guard.hpp"

namespace aep {

namespace {

/// A page of class `c` in heap `h` that has a free block; null: no memory.
PageDesc* page_with_room(Heap* h, u32 c) {
    const u64 now = now_ms();
    purge_if_due(now);
    return refill({.heap = h, .size_class = c, .now = now, .fresh = may_take_page(h, c)});
}

/// A block by operations alone.
uptr take_block(Heap* h, u32 c, bool& fresh_zero) {
    for (int attempt = 0; attempt < 2; ++attempt) {
        const auto r = transact(op::TakeBlock{.heap = h, .size_class = c, .now = now_ms()});
        fresh_zero = r.fresh_zero;
        if (r.status == Status::ok) return r.block;
        const bool more = r.status == Status::miss || r.status == Status::uncommitted;
        if (!more || page_with_room(h, c) == nullptr) return 0;
    }
    return 0;
}

/// A block of class `c` from heap `h`, on the slow path; 0: no memory.
uptr take_from(Heap* h, u32 c, bool& fresh_zero) {
    uptr block = 0;
    if (AEP_UNLIKELY(pure_mode)) {
        block = take_block(h, c, fresh_zero);
    } else if (!heap_take(h, c, block, fresh_zero)) {
        PageDesc* d = page_with_room(h, c);
        if (d != nullptr) page_take_tracked(d, block, fresh_zero);
    }
    if (AEP_UNLIKELY(is_watching()) && block != 0) pay_for_hand_of(h, c);
    return block;
}

/// A block of class `c` for a thread that has heap `h`; null: none. From the heap that all threads
/// have together if it has none, or no page for it.
void* allocate_from(Heap* h, u32 c, bool& fresh_zero) {
    if (AEP_LIKELY(h != nullptr)) {
        const uptr block = take_from(h, c, fresh_zero);
        if (AEP_LIKELY(block != 0)) return reinterpret_cast<void*>(block);
        note_borrowed(c);
    }
    if (!process_start()) return nullptr;
    const ProcessLockScope scope(shared_heap_lock);
    h = shared_heap();
    return h == nullptr ? nullptr : reinterpret_cast<void*>(take_from(h, c, fresh_zero));
}

/// A block of class `c`, which lies at multiples of `alignment`, for the calling thread, whether it has a heap or not.
void* allocate_class(u32 c, usize alignment, bool& fresh_zero) {
    if (AEP_UNLIKELY(is_watching()) && meter.afford(1, class_size(c)) == 0)
        if (void* p = allocate_watched(class_size(c), alignment, fresh_zero)) return p;
    if (uptr block; AEP_LIKELY(heap_take(thread_heap, c, block, fresh_zero)))
        return reinterpret_cast<void*>(block);
    Heap* h = attached_heap();
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) {
        fresh_zero = false;
        return emergency_allocate(class_size(c), alignment);
    }
    return allocate_from(h, c, fresh_zero);
}

/// What a pointer into the window points at. All of it comes from the pointer and the descriptor's
/// line 1: a thread that frees another's block does not touch the line that the owner writes at
/// each malloc and free.
struct Target {
    PageDesc* page;  // head
    u32 tag;
    u32 kind;   // TAG_...
    u32 index;  // of the block; NO_BLOCK: none begins there
};

/// `head`: the descriptor of a page's or object's first slice, with its tag; `offset`: bytes from there.
[[gnu::always_inline]] inline Target target_in(PageDesc* head, u32 tag, u32 offset) {
    const u32 kind = kind_of(tag);
    Target t{head, tag, kind, NO_BLOCK};
    if (AEP_LIKELY(kind == TAG_PAGE)) t.index = block_index(offset, head->magic);
    return t;
}

/// In a further slice of a page, which `d` describes.
[[gnu::always_inline]] inline Target target_behind(const void* p, PageDesc* d) {
    PageDesc* head = d - d->head_delta;
    const u32 offset =
        (d->head_delta << SLICE_SHIFT) + static_cast<u32>(reinterpret_cast<uptr>(p) % SLICE_SIZE);
    return target_in(head, head->tag.load(std::memory_order_acquire), offset);
}

[[gnu::always_inline]] inline Target target_of(const void* p, PageDesc* d) {
    const u32 tag = d->tag.load(std::memory_order_acquire);
    return kind_of(tag) == TAG_TAIL ? target_behind(p, d)
                                    : target_in(d, tag, reinterpret_cast<uptr>(p) % SLICE_SIZE);
}

Target target_of(const void* p) { return target_of(p, desc_at(reinterpret_cast<uptr>(p))); }

bool is_page(const Target& t) { return t.kind == TAG_PAGE; }

/// Whether the calling thread's heap owns the page; the static heap of a thread without one owns
/// none.
bool is_own(const Target& t) { return (t.tag ^ thread_heap->tag) < 1u << TAG_OWNER_SHIFT; }

/// Whether the address lies in a chunk of ours, and not of another client of the context.
bool is_ours(const void* p) {
    return domain().arena.holds(chunk_desc(chunk_of(slice_at(reinterpret_cast<uptr>(p)))));
}

/// free of an object that another client sent: true if it was one.
bool drop_received(const void* p) {
    const SharedBlocks* sharing = sharing_answers();
    return sharing != nullptr && in_heap_window(reinterpret_cast<uptr>(p)) &&
           sharing->drop(const_cast<void*>(p)) == Dropped::kept;
}

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

/// Whether a live block of this process begins there.
bool is_live_here(const void* p, Target t) {
    if (is_page(t)) {
        return is_own_heap(t.tag >> TAG_OWNER_SHIFT) && page_is_live(t.page, t.index) &&
               !page_is_marked(t.page, t.index);
    }
    return t.kind == TAG_LARGE && reinterpret_cast<uptr>(p) == base_of(t.page) && is_ours(p);
}

[[gnu::cold, gnu::noinline]] void report_twice(const void* p) {
    report_bad_free(reinterpret_cast<uptr>(p), BadFree::twice);
}

/// free of a block where objects were sent, or samples lie: true: others still refer to it, and it stays.
[[gnu::cold, gnu::noinline]] bool others_keep(void* p) {
    unwatch(p);
    const SharedBlocks* sharing = sharing_answers();
    switch (sharing != nullptr ? sharing->drop(p) : Dropped::no_export) {
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

/// Bytes of an object that another client sent, or of a group's root; 0: it is neither.
[[gnu::cold, gnu::noinline]] usize received_size(const void* p) {
    const SharedBlocks* sharing = sharing_answers();
    return sharing != nullptr ? sharing->held_bytes(p) : 0;
}

}  // namespace

namespace detail {

void* allocate_large(usize size, usize alignment, bool& fresh_zero, usize room) {
    if (alignment > HEAP_WINDOW / 2 || size > HEAP_WINDOW) return nullptr;
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) {
        fresh_zero = false;
        return emergency_allocate(size, alignment);
    }
    if (!process_start()) return nullptr;
    purge_if_due(now_ms());
    const u32 alignment_slices =
        alignment <= SLICE_SIZE ? 1 : static_cast<u32>(alignment >> SLICE_SHIFT);
    if (size == 0) size = 1;
    const Run run = make_large({.heap = current_heap(),
                                .slices = slices_for(size + room),
                                .alignment = alignment_slices,
                                .bytes = round_up(size, SLICE_SIZE)});
    if (!run) return nullptr;
    fresh_zero = run.zero;
    void* const p = reinterpret_cast<void*>(run.address());
    if (AEP_UNLIKELY(is_watching())) watch_large(p, round_up(size, SLICE_SIZE));
    return p;
}

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

void deallocate_outside(void* p) {
    if (p == nullptr) return;
    if (AEP_UNLIKELY(stays_on_libc())) return libc_free(p);
    if (guard_owns(p)) return deallocate_guarded(p);
    if (drop_received(p)) return;
    if (AEP_UNLIKELY(emergency_owns(p))) {
        if (!emergency_free(p)) report_bad_free(reinterpret_cast<uptr>(p), BadFree::not_live);
        return;
    }
    if (is_libc_block(p)) return libc_free(p);
    report_bad_free(reinterpret_cast<uptr>(p), BadFree::foreign);
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

bool may_be_shared(const void* p) {
    if (AEP_LIKELY(sharing_answers() == nullptr)) return false;
    if (!owns(p) || !is_ours(p)) return true;
    const Target t = target_of(p);
    return (t.tag & TAG_SHARED) != 0 || !is_live_here(p, t);  // the root of a group of ours
}

usize mark_shared(void* p) {
    if (!owns(p)) return guard_owns(p) ? guard_size(p) : 0;  // private memory
    const Target t = target_of(p);
    if (!is_live_here(p, t)) return 0;
    // relaxed: whoever frees it without having seen the flag frees what nobody has sent.
    if ((t.tag & TAG_SHARED) == 0) t.page->tag.fetch_or(TAG_SHARED, std::memory_order_relaxed);
    return is_page(t) ? t.page->block_size : t.page->committed;
}

void* allocate_here(usize size) {
    if (AEP_UNLIKELY(is_watching())) return allocate_here_watched(size);
    // The empty heap, with which handlers and libc's users come here, has nothing.
    Heap* h = thread_heap;
    uptr block;
    if (AEP_LIKELY(size <= MAX_DIRECT)) {
        PageDesc* d = h->direct[direct_index(size)];
        if (AEP_UNLIKELY(!heap_refill(h, d) || !page_take(d, block))) return nullptr;
        return reinterpret_cast<void*>(block);
    }
    bool fresh_zero;
    medium_credit = BYTES_PER_LOOK;
    if (AEP_UNLIKELY(size > MAX_CLASS_SIZE || !heap_take(h, class_of(size), block, fresh_zero)))
        return nullptr;
    look_at_clock();
    return reinterpret_cast<void*>(block);
}

void* allocate_beyond(usize size) {
    if (AEP_UNLIKELY(stays_on_libc())) return libc_allocate(size);
    const SharedBlocks* sharing = sharing_answers();
    if (AEP_UNLIKELY(sharing != nullptr)) sharing->collect();
    bool fresh_zero;
    if (AEP_UNLIKELY(size > MAX_CLASS_SIZE))
        return detail::allocate_large(size, SLICE_SIZE, fresh_zero);
    const u32 c = class_of(size);
    Heap* h = attached_heap();
    if (AEP_UNLIKELY(is_watching()) && is_to_be_watched(c))
        if (void* p = allocate_watched(size, MIN_ALIGNMENT, fresh_zero)) return p;
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) return emergency_allocate(size, 1);
    return allocate_from(h, c, fresh_zero);
}

void* allocate_zeroed(usize total) {
    if (AEP_UNLIKELY(stays_on_libc())) return libc_allocate_zeroed(total);
    // Pages of the direct classes do not know which of their blocks are still untouched.
    if (total <= MAX_DIRECT) {
        void* small = allocate(total);
        return AEP_LIKELY(small != nullptr) ? std::memset(small, 0, total) : nullptr;
    }
    bool fresh_zero = false;
    void* p = total <= MAX_CLASS_SIZE ? allocate_class(class_of(total), 1, fresh_zero)
                                      : detail::allocate_large(total, SLICE_SIZE, fresh_zero);
    if (p == nullptr || fresh_zero) return p;
    zero_recycled(reinterpret_cast<uptr>(p), total);
    return p;
}

void* allocate_aligned_beyond(usize alignment, usize size) {
    bool fresh_zero;
    if (AEP_UNLIKELY(stays_on_libc())) return libc_allocate_aligned(alignment, size);
    if (alignment <= SLICE_SIZE && size <= MAX_CLASS_SIZE) {
        const u32 c = class_of_aligned(size, alignment);
        if (c < CLASS_COUNT) return allocate_class(c, alignment, fresh_zero);
    }
    return detail::allocate_large(size, alignment, fresh_zero);
}

usize usable_size(void* p) {
    if (AEP_UNLIKELY(!owns(p))) {
        if (emergency_owns(p)) return emergency_size(p);
        if (p == nullptr) return 0;
        if (guard_owns(p)) return guard_size(p);
        return stays_on_libc() || is_libc_block(p) ? libc_usable_size(p) : received_size(p);
    }
    const Target t = target_of(p);
    if (AEP_LIKELY(is_page(t))) {
        const bool live = is_own_heap(t.tag >> TAG_OWNER_SHIFT) && page_is_live(t.page, t.index);
        return live ? t.page->block_size : received_size(p);
    }
    const bool large = t.kind == TAG_LARGE && reinterpret_cast<uptr>(p) == base_of(t.page);
    return large && is_ours(p) ? t.page->committed : received_size(p);
}

bool trim() {
    const SlowPath here;
    if (here.nested() || !process_start()) return false;
    const u64 now = now_ms();
    if (Heap* h = current_heap()) transact(op::Trim{.heap = h, .now = now});
    trim_shared_heaps(now);
    return purge_all();
}

}  // namespace aep
