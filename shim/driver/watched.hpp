// Purpose: allocations that are looked at: samples of the heap profile, and guarded blocks. Which ones, is decided where
//          blocks come to hand; a sample then comes from a heap of its own, whose pages are tagged so that its free
//          leaves the fast path. What is handed out by the fast path is never looked at.
// Who calls it: allocator.cpp and reallocate.cpp on slow paths, while something is watched.
// Crash rule: private to the process.
#pragma once

#include "shim/driver/slow_path.hpp"
#include "shim/watch/meter.hpp"

namespace aep {

/// Bytes of requests above the direct sizes until one leaves its short path. Once in BYTES_PER_LOOK the clock is looked
/// at, so that memory freed before goes back to the system although a program now lives from its pages; and what is to
/// be watched must not be missed.
extern __thread i32 medium_credit AEP_TLS;
inline constexpr i32 BYTES_PER_LOOK = 64 * KiB;

/// The blocks at hand of page `d` may be handed out, as many as remain so; the others are free again. False: none, for
/// the next allocation is to be watched. Owner only.
bool pay_for_hand(PageDesc* d);

/// The same after an operation, of the head of a class's queue. Of the larger classes each block is paid for by itself.
void pay_for_hand_of(Heap* h, u32 c);

/// malloc from the pages at hand, but for blocks that are due to be watched; null also: this one is.
void* allocate_here_watched(usize size);
/// Whether an allocation of class `c` that goes on to an operation, after allocate_here_watched(), is due to be watched.
bool is_to_be_watched(u32 c);

/// An allocation of `size` bytes by the calling thread, if it is due to be watched. Null: it is not, or cannot be:
/// as if nothing were watched. `fresh_zero`: the block reads as zero.
void* allocate_watched(usize size, usize alignment, bool& fresh_zero);

/// A large object that was just made: it may become a sample.
void watch_large(void* p, usize size);
/// A large object has changed its size in place.
void watch_resized(void* p, usize old_size, usize size);

/// free of a live block on a tagged page: if it is a sample, it is none any more.
void unwatch(const void* p);

/// free of what lies among the guarded blocks.
void deallocate_guarded(void* p);

}  // namespace aep
