// Purpose: the address space: where the heap window and its metadata lie, and the arithmetic that
// leads
//          from a heap address to its metadata. The same in every process, so pointers may be
//          shared.
// Who calls it: every layer; the only place that knows these numbers.
// Crash rule: no state.
//
// Metadata of a heap address is found by arithmetic, never by a lookup: the slice number indexes
// arrays of fixed stride. The arrays are sparse; a backing maps them together with the chunks they
// describe.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

inline constexpr unsigned SLICE_SHIFT = 16;
inline constexpr usize SLICE_SIZE = usize{1} << SLICE_SHIFT;
inline constexpr unsigned CHUNK_SHIFT = 22;
inline constexpr usize CHUNK_SIZE = usize{1} << CHUNK_SHIFT;
inline constexpr u32 SLICES_PER_CHUNK = CHUNK_SIZE / SLICE_SIZE;
inline constexpr usize OS_PAGE_SIZE = 4 * KiB;
inline constexpr usize CACHE_LINE = 64;

// clang says it in another way than GCC.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

/// The heap window (chunks used for plain malloc) and where its metadata lies.
#if defined(__SANITIZE_THREAD__)  // its shadow leaves only the first TiB to us
inline constexpr uptr HEAP_BASE = 0x0010'0000'0000;
inline constexpr usize HEAP_WINDOW = 64 * GiB;
inline constexpr uptr META_BASE = 0x0040'0000'0000;
inline constexpr usize META_WINDOW = 64 * GiB;
inline constexpr uptr DESCS_BASE = 0x0030'0000'0000;
#else
inline constexpr uptr HEAP_BASE = 0x1200'0000'0000;
inline constexpr usize HEAP_WINDOW = 16 * TiB;
inline constexpr uptr META_BASE = 0x3000'0000'0000;
inline constexpr usize META_WINDOW = 4 * TiB;
#if defined(__SANITIZE_ADDRESS__)  // its shadow lies below 16 TiB
inline constexpr uptr DESCS_BASE = 0x2800'0000'0000;
#else
/// Where an address divided by 512 falls: descriptors have 128 bytes, slices 64 KiB, and so the
/// address of a descriptor is that of its slice but for a shift. Above the 32 GiB that Java's
/// compressed pointers reach.
inline constexpr uptr DESCS_BASE = HEAP_BASE / 512;
#endif
#endif
inline constexpr u32 MAX_CHUNKS = HEAP_WINDOW / CHUNK_SIZE;
inline constexpr usize MAX_SLICES = HEAP_WINDOW / SLICE_SIZE;

/// One metadata array: `stride` bytes for each slice (or chunk), starting at `base`.
struct MetaArray {
    uptr base;
    usize stride;
};

/// Arrays do not start at equal multiples of large powers of two: the lines that belong to one page
/// would meet in the same cache set and way prediction (measured: a malloc/free pair takes 17 ns
/// instead of 6 on Zen 4). For the same reason a stride is an odd number of cache lines: else the
/// first lines of a thread's pages, those it uses most, would share a few sets (measured: half the
/// misses of the level-1 cache with 24 pages in use).
constexpr uptr skewed(uptr base, u32 pages) { return base + pages * OS_PAGE_SIZE; }
constexpr usize odd(usize stride) { return stride + CACHE_LINE; }
constexpr uptr end_of(const MetaArray& array, usize count) {
    return array.base + array.stride * count;
}

/// Per slice: descriptor, and the two bitmaps of its blocks.
inline constexpr MetaArray DESCS{DESCS_BASE, 128};
inline constexpr MetaArray BLOCK_BITS{skewed(META_BASE, 0x15), odd(1 * KiB)};
/// Per chunk: descriptor.
/// A whole OS page each: a chunk has one owner at a time, and what fork makes private of one
/// owner's metadata shares no OS page with another's.
inline constexpr MetaArray CHUNK_DESCS{skewed(end_of(BLOCK_BITS, MAX_SLICES), 0), OS_PAGE_SIZE};
/// The domains (arena, heap table): number 0 in a process of its own, one a client in a context.
inline constexpr uptr DOMAINS_BASE = end_of(CHUNK_DESCS, MAX_CHUNKS);
inline constexpr usize DOMAIN_STRIDE = 64 * MiB;
inline constexpr u32 MAX_DOMAINS = META_WINDOW >= TiB ? 4096 : 16;
static_assert(DOMAINS_BASE + DOMAIN_STRIDE * MAX_DOMAINS <= META_BASE + META_WINDOW);

/// All per-slice arrays, for whoever maps or frees metadata.
inline constexpr MetaArray SLICE_ARRAYS[] = {DESCS, BLOCK_BITS};

/// Metadata is mapped for whole groups of chunks, so that every array's part fills whole OS pages.
inline constexpr u32 CHUNKS_PER_META_GROUP = 16;
static_assert(CHUNKS_PER_META_GROUP * CHUNK_DESCS.stride % OS_PAGE_SIZE == 0);

constexpr uptr chunk_address(ChunkIndex c) { return HEAP_BASE + (uptr{raw(c)} << CHUNK_SHIFT); }
constexpr uptr slice_address(SliceIndex s) { return HEAP_BASE + (uptr{raw(s)} << SLICE_SHIFT); }
constexpr ChunkIndex chunk_of(SliceIndex s) { return ChunkIndex{raw(s) / SLICES_PER_CHUNK}; }
constexpr SliceIndex first_slice(ChunkIndex c) { return SliceIndex{raw(c) * SLICES_PER_CHUNK}; }
/// The slice that holds `address`, which must lie in the heap window.
constexpr SliceIndex slice_at(uptr address) {
    return SliceIndex{static_cast<u32>((address - HEAP_BASE) >> SLICE_SHIFT)};
}
constexpr bool in_heap_window(uptr address) { return address - HEAP_BASE < HEAP_WINDOW; }

}  // namespace aep
