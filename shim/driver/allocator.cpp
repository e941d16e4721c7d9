// Purpose: malloc behind its inline fast path: it drives the operations and does what they may not do: system calls,
//          zeroing. Also what is asked about blocks.
// Who calls it: allocator.hpp's fast path, preload/.
// Crash rule: between two operations a client holds at most a reserved run, which recovery finds by
// its tag.
#include "shim/driver/allocator.hpp"

#include <cstring>

#include "shim/driver/aside.hpp"
#include "shim/driver/emergency.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/libc_heap.hpp"
#include "shim/driver/outside.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/scarcity.hpp"
#include "shim/driver/shared_blocks.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/target.hpp"
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

}  // namespace detail

bool may_be_shared(const void* p) {
    const SharedBlocks* sharing = sharing_answers();
    if (AEP_LIKELY(sharing == nullptr)) return false;
    if (!owns(p) || !is_ours(p)) return true;
    const Target t = target_of(p);
    if (!is_live_here(p, t)) return true;  // the root of a group of ours
    return (t.tag & TAG_SHARED) != 0 && sharing->may_be_referred_to(p);
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
    if (AEP_UNLIKELY(!owns(p))) return usable_outside(p);
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
