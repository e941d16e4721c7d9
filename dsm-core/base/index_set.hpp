// Purpose: sets of small integers with "lowest member" in constant time: trees of 64-bit words.
// Who calls it: the arena, to keep chunks by the longest run they can serve.
// Crash rule: its words change one after the other: only under the arena's lock.
//
// Two at once: never; both would change words of the same 64 members, and of the levels above.
#pragma once

#include "dsm-core/base/bits.hpp"
#include "dsm-core/base/layout.hpp"

namespace aep {

/// SETS sets of members 0 .. 64^4/4-1 (4 Mi). Zeroed memory is empty sets. Words of the same members lie side by side,
/// so that sets of few members are a few OS pages together, and to move a member from set to set is one cache line
/// where SETS is 8. Sparse: a word of each set for 64 members, 4 MiB of address space where SETS is 8.
template <u32 SETS>
class IndexSets {
  public:
    static constexpr u32 CAPACITY = 4u << 20;
    static constexpr u32 NONE = 0xffff'ffff;
    /// Members for which an OS page is enough, but for the upper levels.
    static constexpr u32 MEMBERS_OF_PAGE = OS_PAGE_SIZE / (SETS * sizeof(u64)) * 64;

    void insert(u32 set, u32 i) {
        leaf_[i >> 6][set] |= u64{1} << (i & 63);
        level1_[i >> 12][set] |= u64{1} << (i >> 6 & 63);
        level2_[i >> 18][set] |= u64{1} << (i >> 12 & 63);
        root_[0][set] |= u64{1} << (i >> 18);
    }

    void erase(u32 set, u32 i) {
        if ((leaf_[i >> 6][set] &= ~(u64{1} << (i & 63))) != 0) return;
        if ((level1_[i >> 12][set] &= ~(u64{1} << (i >> 6 & 63))) != 0) return;
        if ((level2_[i >> 18][set] &= ~(u64{1} << (i >> 12 & 63))) != 0) return;
        root_[0][set] &= ~(u64{1} << (i >> 18));
    }

    bool contains(u32 set, u32 i) const { return (leaf_[i >> 6][set] >> (i & 63) & 1) != 0; }

    /// The set's lowest member >= from, or NONE.
    u32 next(u32 set, u32 from) const {
        if (from >= CAPACITY) return NONE;
        if (const u64 word = leaf_[from >> 6][set] >> (from & 63)) return from + lowest_bit(word);
        u32 w = next_word(level1_, set, from >> 6);
        if (w == NONE) {
            w = next_word(level2_, set, from >> 12);
            if (w == NONE) {
                w = next_word(root_, set, from >> 18);
                if (w == NONE) return NONE;
                w = down(level2_, set, w);
            }
            w = down(level1_, set, w);
        }
        return down(leaf_, set, w);
    }

    /// Calls f(address, bytes) for each part of the sets that members below `limit` touch, while it
    /// returns true.
    template <class F>
    bool for_each_memory(u32 limit, F&& f) const {
        const auto part = [&](const Words* level, u32 shift) {
            return f(reinterpret_cast<uptr>(level), ((usize{limit} >> shift) + 1) * sizeof(Words));
        };
        return part(root_, 31) && part(level2_, 18) && part(level1_, 12) && part(leaf_, 6);
    }

  private:
    using Words = u64[SETS];  // of the same 64 members

    /// The set's lowest member > i of the word that holds i.
    static u32 next_word(const Words* level, u32 set, u32 i) {
        if ((i & 63) == 63) return NONE;
        const u64 word = level[i >> 6][set] & (~u64{0} << ((i & 63) + 1));
        return word == 0 ? NONE : (i & ~63u) + lowest_bit(word);
    }
    static u32 down(const Words* level, u32 set, u32 i) {
        return i * 64 + lowest_bit(level[i][set]);
    }

    // The small levels first: what small sets touch then lies on few OS pages.
    Words root_[1];
    Words level2_[CAPACITY >> 18];
    Words level1_[CAPACITY >> 12];
    Words leaf_[CAPACITY >> 6];
};

}  // namespace aep
