// Purpose: size classes: which block size serves a request, and the shape of the pages that hold
// such blocks. Who calls it: the fast path, heaps, large objects, tests. Crash rule: no state.
//
// Sixteen-byte steps up to 128 B, then eight classes a doubling up to 128 KiB: at most 11.1 % of a
// block is waste (above 128 B). Every power of two is a class, and a block's address is a multiple
// of the largest power of two that divides its class (up to 64 KiB): natural alignment costs
// nothing.
#pragma once

#include "dsm-core/base/bits.hpp"
#include "dsm-core/base/layout.hpp"

namespace aep {

inline constexpr usize MIN_ALIGNMENT = 16;
inline constexpr u32 CLASS_COUNT = 88;
/// Blocks up to here live on pages; larger ones are runs of slices of their own.
inline constexpr usize MAX_CLASS_SIZE = 128 * KiB;
/// Requests up to here find their page through the heap's `direct` table, one entry for each 16
/// bytes.
inline constexpr usize MAX_DIRECT = 1 * KiB;
inline constexpr u32 DIRECT_COUNT = MAX_DIRECT / MIN_ALIGNMENT + 1;

/// Bytes of a block of class `c` (0 .. CLASS_COUNT-1).
constexpr usize class_size(u32 c) {
    if (c < 8) return 16 * (usize{c} + 1);
    const u32 doubling = (c - 8) / 8;
    const u32 step = (c - 8) % 8;
    return (usize{128} << doubling) + (usize{step} + 1) * (usize{16} << doubling);
}

/// The smallest class whose blocks hold `size` bytes; size <= MAX_CLASS_SIZE; 0 counts as 1.
constexpr u32 class_of(usize size) {
    if (size <= 128) return size == 0 ? 0 : static_cast<u32>((size - 1) >> 4);
    const usize n = size - 1;
    const u32 top = floor_log2(n);
    return 8 + (top - 7) * 8 + static_cast<u32>((n >> (top - 3)) & 7);
}

/// The smallest class that holds `size` bytes at a multiple of `alignment` (a power of two <=
/// SLICE_SIZE), or CLASS_COUNT when no class does. It is simply the class of the next multiple of the alignment: the
/// steps between classes are powers of two, so a class's size is a multiple of the alignment, or that multiple itself.
constexpr u32 class_of_aligned(usize size, usize alignment) {
    const usize padded = round_up(size == 0 ? 1 : size, alignment);
    return padded > MAX_CLASS_SIZE ? CLASS_COUNT : class_of(padded);
}

/// Index into the heap's `direct` table; size <= MAX_DIRECT.
constexpr usize direct_index(usize size) { return (size + 15) >> 4; }

/// The largest class of direct requests.
inline constexpr u32 LAST_DIRECT_CLASS = class_of(MAX_DIRECT);

/// Slices of a page of class `c`: the fewest that hold at least four blocks and leave at most an
/// eighth unused.
constexpr u32 page_slices(u32 c) {
    const usize size = class_size(c);
    for (u32 slices = 1;; ++slices) {
        const usize bytes = usize{slices} << SLICE_SHIFT;
        if (bytes / size >= 4 && bytes % size <= bytes / 8) return slices;
    }
}
/// How many bytes of a page of class `c` should be writable before it is extended beyond `used`
/// bytes, where memory must be committed before use: at least one more block; twice as much as
/// before, between an OS page and a quarter of a slice.
constexpr u32 commit_goal(u32 c, usize used) {
    const usize size = class_size(c);
    const usize most = SLICE_SIZE / 4;
    const usize step = used < OS_PAGE_SIZE ? OS_PAGE_SIZE : used < most ? used : most;
    const usize goal = round_up(used + (step < size ? size : step), OS_PAGE_SIZE);
    const usize bytes = usize{page_slices(c)} << SLICE_SHIFT;
    return static_cast<u32>(goal < bytes ? goal : bytes);
}
inline constexpr u32 MAX_PAGE_SLICES = 16;

/// 2^64 / size, rounded up: the multiplier that divides by a block's size (page.hpp).
constexpr u64 class_magic(u32 c) { return ~u64{0} / class_size(c) + 1; }

static_assert(class_size(CLASS_COUNT - 1) == MAX_CLASS_SIZE);
static_assert(class_of(MAX_CLASS_SIZE) == CLASS_COUNT - 1);
static_assert([] {
    for (u32 c = 0; c < CLASS_COUNT; ++c)
        if (page_slices(c) > MAX_PAGE_SLICES) return false;
    return true;
}());
static_assert(class_of(0) == 0 && class_of(16) == 0 && class_of(17) == 1 && class_of(129) == 8);

}  // namespace aep
