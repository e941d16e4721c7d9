// Purpose: operations on 64-bit masks: free slices of a chunk, live blocks of a page.
// Who calls it: the arena, pages.
// Crash rule: no state.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

/// `count` set bits starting at bit `first`; first + count <= 64, count >= 1.
constexpr u64 mask_of(u32 first, u32 count) { return (~u64{0} >> (64 - count)) << first; }

/// Set bits mark the positions where a run of at least `length` (1..64) set bits of `mask` begins.
constexpr u64 run_starts(u64 mask, u32 length) {
    u32 have = 1;
    while (have * 2 <= length) {
        mask &= mask >> have;
        have *= 2;
    }
    return have < length ? mask & (mask >> (length - have)) : mask;
}

/// The largest power of two that fits a run of set bits, as its logarithm plus one; 0 for an empty
/// mask.
constexpr u32 run_rank(u64 mask) {
    u32 rank = 0;
    for (u32 width = 1; mask != 0; width *= 2) {
        ++rank;
        if (width == 64) break;
        mask &= mask >> width;
    }
    return rank;
}

/// Bit `bit` % 64 of a word, in one instruction each (compilers make three of the shifts and
/// masks).
inline bool test_and_clear_bit(u64& word, u64 bit) {
    bool was_set;
    asm("btrq %2, %0" : "+r"(word), "=@ccc"(was_set) : "r"(bit));
    return was_set;
}
inline u64 with_bit_set(u64 word, u64 bit) {
    asm("btsq %1, %0" : "+r"(word) : "r"(bit) : "cc");
    return word;
}

/// `value` if a is b, else 0; without a branch and three instructions short (compilers make a mask of the comparison).
template <class T, class U>
u64 value_if_equal(T* a, U* const& b, const u64& value) {
    u64 chosen;
    asm("xorl %k0, %k0\n\tcmpq %2, %1\n\tcmoveq %3, %0"
        : "=&r"(chosen)
        : "r"(a), "m"(b), "m"(value)
        : "cc");
    return chosen;
}

inline bool bit_of(u64 word, u64 bit) { return (word >> (bit % 64) & 1) != 0; }
/// How many bits are set. Inline: the compiler's own is a call where the processor may lack it.
constexpr u32 bits_in(u64 word) {
    word -= word >> 1 & 0x5555'5555'5555'5555;
    word = (word & 0x3333'3333'3333'3333) + (word >> 2 & 0x3333'3333'3333'3333);
    word = (word + (word >> 4)) & 0x0f0f'0f0f'0f0f'0f0f;
    return static_cast<u32>(word * 0x0101'0101'0101'0101 >> 56);
}

/// The high half of a * b; `low` is the other (compilers move the halves about, and b).
inline u64 multiply(u64 a, const u64& b, u64& low) {
    u64 high;
    asm("mulq %3" : "=a"(low), "=d"(high) : "0"(a), "m"(b) : "cc");
    return high;
}

/// n < limit, relaxed, in one instruction (compilers load an atomic into a register first).
inline bool is_below(usize n, const std::atomic<usize>& limit) {
    bool below;
    asm("cmpq %2, %1" : "=@ccb"(below) : "r"(n), "m"(limit));
    return below;
}

/// lowest_bit of a mask that is not 0, as wide as it came (the builtin's int is extended first). On
/// processors that do not know tzcnt it is bsf.
inline u64 lowest_bit_wide(u64 mask) {
    u64 bit;
    asm("tzcntq %1, %0" : "=r"(bit) : "r"(mask) : "cc");
    return bit;
}

constexpr u32 lowest_bit(u64 mask) { return static_cast<u32>(__builtin_ctzll(mask)); }
constexpr u32 floor_log2(u64 n) { return 63u - static_cast<u32>(__builtin_clzll(n)); }
constexpr u32 ceil_log2(u64 n) { return n <= 1 ? 0 : floor_log2(n - 1) + 1; }

}  // namespace aep
