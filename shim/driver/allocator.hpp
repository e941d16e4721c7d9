// Purpose: the allocator as its users see it: allocate, deallocate and friends. The fast path is inline here: one page
//          of the thread's heap, no lock, no atomic; everything else goes to allocator.cpp, deallocate.cpp,
//          reallocate.cpp and outside.cpp, and from there into operations.
// Who calls it: preload/, tests, the C API.
// Crash rule: the fast path's commit is the one store to the page's alloc bitmap (page.hpp).
//
// Errors: functions that return a pointer return null when there is no memory; errno is the
// caller's business. Thread-safe. A signal handler on top of the slow path is served apart
// (slow_path.hpp); on top of the fast path it is not safe, as with every malloc. Fork: process.hpp.
#pragma once

#include "dsm-core/heap/heap.hpp"
#include "shim/driver/outside.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/watched.hpp"

namespace aep {

namespace detail {
void deallocate_slow(void* p, PageDesc* d);    // whatever `d`, the slice's descriptor, says
void deallocate_refile(void* p, PageDesc* d);  // page_regain says so
inline u32 slices_for(usize size) {
    return static_cast<u32>((size + SLICE_SIZE - 1) >> SLICE_SHIFT);
}
/// A large object, with `room` to grow in place that is not committed.
void* allocate_large(usize size, usize alignment, bool& fresh_zero, usize room = 0);
}  // namespace detail

/// malloc's fast path: true with the block in `p`, or false: use allocate_slow.
inline bool allocate_fast(usize size, void*& p) {
    if (AEP_UNLIKELY(size > MAX_DIRECT)) return false;
    PageDesc* d = thread_heap->direct[direct_index(size)];
    uptr block;
    if (AEP_UNLIKELY(!page_take(d, block))) return false;
    p = reinterpret_cast<void*>(block);
    return true;
}

/// malloc of what the fast path has just not served, still without a call: a block of the next word in turn, or one
/// above the direct sizes. False: use allocate_here.
[[gnu::always_inline]] inline bool allocate_in_turn(usize size, void*& p) {
    uptr block;
    if (AEP_LIKELY(size <= MAX_DIRECT)) {
        PageDesc* d = thread_heap->direct[direct_index(size)];
        if (AEP_UNLIKELY(is_watching() || !page_turn(d) || !page_take(d, block))) return false;
    } else {
        bool fresh_zero;
        if (AEP_UNLIKELY(
                size > MAX_CLASS_SIZE || (medium_credit -= static_cast<i32>(size)) < 0 ||
                !page_take_lowest(thread_heap->queues[class_of(size)].head, block, fresh_zero)))
            return false;
    }
    p = reinterpret_cast<void*>(block);
    return true;
}

/// malloc from the pages at hand, which it extends or seeks through. Null: use allocate_beyond.
void* allocate_here(usize size);
/// The same for whatever else there is: with operations.
void* allocate_beyond(usize size);
/// malloc for whatever the fast path does not serve.
[[gnu::always_inline]] inline void* allocate_slow(usize size) {
    void* p;
    if (allocate_in_turn(size, p)) return p;
    p = allocate_here(size);
    return AEP_LIKELY(p != nullptr) ? p : allocate_beyond(size);
}

/// malloc: at least `size` bytes at a multiple of 16; size 0 gives a block of 16.
inline void* allocate(usize size) {
    void* p;
    return AEP_LIKELY(allocate_fast(size, p)) ? p : allocate_slow(size);
}

/// What free's fast path makes of a pointer.
enum class FastFree {
    done,
    not_plain,  // in the window, but no block of the calling thread's on the first slice of a page without a flag
    outside,  // the window
};

/// free's fast path: of a block of the calling thread's that nobody else has to do with. Nothing has happened unless it is done.
[[gnu::always_inline]] inline FastFree deallocate_fast(void* p, PageDesc*& d) {
    const uptr address = reinterpret_cast<uptr>(p);
    if (AEP_UNLIKELY(
            !is_below((address >> SLICE_SHIFT) - (HEAP_BASE >> SLICE_SHIFT), window_slices)))
        return FastFree::outside;
    d = desc_at(address);
    if (AEP_UNLIKELY(d->tag.load(std::memory_order_relaxed) != thread_tag))
        return FastFree::not_plain;
    usize index;
    if (AEP_UNLIKELY(!find_block(address % SLICE_SIZE, d->magic, index) ||
                     !page_clear_bit(d, index)))
        return FastFree::not_plain;
    if (AEP_UNLIKELY(page_regain(d))) detail::deallocate_refile(p, d);
    return FastFree::done;
}

/// free: of a block from any thread; null is ignored. Anything but a live block is reported
/// (report.hpp).
inline void deallocate(void* p) {
    PageDesc* d = nullptr;
    switch (deallocate_fast(p, d)) {
        case FastFree::done:
            return;
        case FastFree::not_plain:
            return detail::deallocate_slow(p, d);
        case FastFree::outside:
            return deallocate_outside(p);
    }
}

/// calloc: the block reads as zero; fresh memory is not written again. `total` is already checked
/// for overflow.
void* allocate_zeroed(usize total);

/// A block at a multiple of `alignment` (any power of two), for whatever the pages at hand do not serve.
void* allocate_aligned_beyond(usize alignment, usize size);
/// A block at a multiple of `alignment` (any power of two).
[[gnu::always_inline]] inline void* allocate_aligned(usize alignment, usize size) {
    // Blocks of the class that holds a multiple of the alignment lie at multiples of it (class_of_aligned).
    const usize padded = round_up(size == 0 ? 1 : size, alignment);
    if (AEP_LIKELY(size <= MAX_CLASS_SIZE && padded <= MAX_CLASS_SIZE && alignment <= SLICE_SIZE)) {
        void* p;
        if (AEP_LIKELY(allocate_fast(padded, p) || allocate_in_turn(padded, p))) return p;
        p = allocate_here(padded);
        if (AEP_LIKELY(p != nullptr)) return p;
    }
    return allocate_aligned_beyond(alignment, size);
}

/// Whether a block of `usable` bytes stays where it is when it is resized to `size`: while at least half of it is used.
inline bool fits_well(usize usable, usize size) {
    return size <= usable && (size >= usable / 2 || usable <= 32);
}

/// realloc's fast path: whether the block is one of the calling thread's, that nobody else has to do with, and stays
/// where it is. False: use reallocate.
inline bool stays_in_place(const void* p, usize size) {
    const uptr address = reinterpret_cast<uptr>(p);
    if (AEP_UNLIKELY(
            !is_below((address >> SLICE_SHIFT) - (HEAP_BASE >> SLICE_SHIFT), window_slices)))
        return false;
    const PageDesc* d = desc_at(address);
    usize index;
    if (AEP_UNLIKELY(d->tag.load(std::memory_order_relaxed) != thread_tag) ||
        !fits_well(d->block_size, size) || !find_block(address % SLICE_SIZE, d->magic, index))
        return false;
    const BlockBits* word = word_of(d, index);
    return bit_of(page_without_hand(d, word, live_word(*word)), index);
}

/// realloc of a live block to a size > 0: in place when the block fits well or its neighbourhood is
/// free, else moved. Null: no memory, the block is unchanged.
void* reallocate(void* p, usize size);

/// Bytes that may be used in a live block; 0 for null and for what is no block.
usize usable_size(void* p);

/// Says that the block is about to be sent to others: its free asks first whether they still refer
/// to it. Bytes that may be used; 0: no live block of this process begins there.
usize mark_shared(void* p);
/// free of an own block that was sent and to which nobody refers any more.
void deallocate_unshared(void* p);
/// Whether others may refer to it; false for most blocks, at the cost of a look at its page.
bool may_be_shared(const void* p);

/// Releases memory that is kept for reuse; true if any was.
bool trim();

}  // namespace aep
