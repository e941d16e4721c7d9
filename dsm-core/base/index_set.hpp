// Purpose: a set of small integers with "lowest member" in constant time: a tree of 64-bit words.
// Who calls it: the arena, to keep chunks by the longest run they can serve.
// Crash rule: its words change one after the other: only under the arena's lock.
#pragma once

#include "dsm-core/base/bits.hpp"

namespace aep {

/// Members 0 .. 64^4/4-1 (4 Mi). Zeroed memory is the empty set. 520 KiB of address space, touched
/// sparsely.
class IndexSet {
  public:
    static constexpr u32 CAPACITY = 4u << 20;
    static constexpr u32 NONE = 0xffff'ffff;

    void insert(u32 i) {
        leaf_[i >> 6] |= u64{1} << (i & 63);
        level1_[i >> 12] |= u64{1} << (i >> 6 & 63);
        level2_[i >> 18] |= u64{1} << (i >> 12 & 63);
        root_ |= u64{1} << (i >> 18);
    }

    void erase(u32 i) {
        if ((leaf_[i >> 6] &= ~(u64{1} << (i & 63))) != 0) return;
        if ((level1_[i >> 12] &= ~(u64{1} << (i >> 6 & 63))) != 0) return;
        if ((level2_[i >> 18] &= ~(u64{1} << (i >> 12 & 63))) != 0) return;
        root_ &= ~(u64{1} << (i >> 18));
    }

    bool contains(u32 i) const { return (leaf_[i >> 6] >> (i & 63) & 1) != 0; }

    /// The lowest member >= from, or NONE.
    u32 next(u32 from) const {
        if (from >= CAPACITY) return NONE;
        if (const u64 word = leaf_[from >> 6] >> (from & 63)) return from + lowest_bit(word);
        if (const u32 w = next_word(level1_, from >> 6); w != NONE) return down(leaf_, w);
        if (const u32 w = next_word(level2_, from >> 12); w != NONE)
            return down(leaf_, down(level1_, w));
        if (const u32 w = next_word(&root_, from >> 18); w != NONE) {
            return down(leaf_, down(level1_, down(level2_, w)));
        }
        return NONE;
    }

    /// Calls f(address, bytes) for each part of the set that members below `limit` touch, while it
    /// returns true.
    template <class F>
    bool for_each_memory(u32 limit, F&& f) const {
        const auto part = [&](const u64* level, u32 shift) {
            return f(reinterpret_cast<uptr>(level), ((usize{limit} >> shift) + 1) * sizeof(u64));
        };
        return part(&root_, 31) && part(level2_, 18) && part(level1_, 12) && part(leaf_, 6);
    }

  private:
    /// The lowest member > i of the word that holds i.
    static u32 next_word(const u64* level, u32 i) {
        if ((i & 63) == 63) return NONE;
        const u64 word = level[i >> 6] & (~u64{0} << ((i & 63) + 1));
        return word == 0 ? NONE : (i & ~63u) + lowest_bit(word);
    }
    static u32 down(const u64* level, u32 i) { return i * 64 + lowest_bit(level[i]); }

    // The small levels first: what a small set touches then lies on two OS pages.
    u64 root_;
    u64 level2_[CAPACITY >> 18];
    u64 level1_[CAPACITY >> 12];
    u64 leaf_[CAPACITY >> 6];
};

}  // namespace aep
