// Purpose: unit tests of dsm-core/base/bits.hpp and index_set.hpp against the obvious slow
// versions. Who calls it: ctest. Crash rule: no shared state.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>

#include "dsm-core/base/index_set.hpp"

namespace aep {
namespace {

u64 slow_run_starts(u64 mask, u32 length) {
    u64 starts = 0;
    for (u32 i = 0; i + length <= 64; ++i)
        if ((mask & mask_of(i, length)) == mask_of(i, length)) starts |= u64{1} << i;
    return starts;
}

u32 slow_run_rank(u64 mask) {
    u32 longest = 0, now = 0;
    for (u32 i = 0; i < 64; ++i) {
        now = (mask >> i & 1) != 0 ? now + 1 : 0;
        longest = std::max(longest, now);
    }
    return longest == 0 ? 0 : floor_log2(longest) + 1;
}

/// Masks with few, many and long runs.
std::vector<u64> some_masks() {
    std::mt19937_64 random(7);
    std::vector<u64> masks = {
        0, 1, ~u64{0}, u64{1} << 63, ~u64{1}, ~u64{0} >> 1, 0x5555'5555'5555'5555};
    for (int i = 0; i < 500; ++i) {
        const u64 a = random(), b = random(), c = random();
        masks.insert(masks.end(), {a, a | b, a | b | c, a & b & c, (a | b | c) << (a % 64),
                                   ~u64{0} >> (b % 64)});
    }
    return masks;
}

TEST(Bits, AreCounted) {
    std::mt19937_64 random(3);
    for (int i = 0; i < 1000; ++i) {
        const u64 word = i == 0 ? 0 : i == 1 ? ~u64{0} : random() & random();
        u32 count = 0;
        for (u64 bit = 0; bit < 64; ++bit) count += bit_of(word, bit) ? 1 : 0;
        ASSERT_EQ(bits_in(word), count) << word;
    }
}

TEST(Bits, MaskOf) {
    for (u32 first = 0; first < 64; ++first) {
        for (u32 count = 1; first + count <= 64; ++count) {
            u64 expected = 0;
            for (u32 i = first; i < first + count; ++i) expected |= u64{1} << i;
            ASSERT_EQ(mask_of(first, count), expected) << first << " " << count;
        }
    }
}

TEST(Bits, RunStarts) {
    for (const u64 mask : some_masks()) {
        for (u32 length = 1; length <= 64; ++length) {
            ASSERT_EQ(run_starts(mask, length), slow_run_starts(mask, length))
                << std::hex << mask << " " << length;
        }
    }
}

TEST(Bits, RunRank) {
    for (const u64 mask : some_masks())
        ASSERT_EQ(run_rank(mask), slow_run_rank(mask)) << std::hex << mask;
}

TEST(Bits, Logarithms) {
    for (u64 n = 1; n < 100'000; ++n) {
        ASSERT_LE(u64{1} << floor_log2(n), n);
        ASSERT_GT(u64{2} << floor_log2(n), n);
        ASSERT_GE(u64{1} << ceil_log2(n), n);
        ASSERT_TRUE(n == 1 || (u64{1} << (ceil_log2(n) - 1)) < n);
    }
    EXPECT_EQ(floor_log2(~u64{0}), 63u);
    EXPECT_EQ(ceil_log2(u64{1} << 63), 63u);
}

TEST(IndexSets, AreSetsWithALowestMember) {
    constexpr u32 SETS = 3;
    using Sets = IndexSets<SETS>;
    const auto sets = std::make_unique<Sets>();
    std::set<u32> models[SETS];
    std::mt19937 random(11);
    const auto some_index = [&] {
        const u32 at[] = {0, 63, 64, 4095, 4096, 262'143, 262'144, Sets::CAPACITY - 1};
        switch (random() % 3) {
            case 0:
                return at[random() % std::size(at)];
            case 1:
                return static_cast<u32>(random() % 300);
            default:
                return static_cast<u32>(random() % Sets::CAPACITY);
        }
    };
    for (int step = 0; step < 400'000; ++step) {
        const u32 i = some_index();
        const u32 set = static_cast<u32>(random() % SETS);
        std::set<u32>& model = models[set];
        if (random() % 2 == 0) {
            sets->insert(set, i);
            model.insert(i);
        } else if (model.erase(i) != 0) {
            sets->erase(set, i);
        }
        const u32 from = random() % 4 == 0 ? i + 1 : some_index();
        const auto expected = model.lower_bound(from);
        ASSERT_EQ(sets->next(set, from), expected == model.end() ? Sets::NONE : *expected) << from;
        ASSERT_EQ(sets->contains(set, from % Sets::CAPACITY),
                  model.count(from % Sets::CAPACITY) != 0);
    }
    for (u32 set = 0; set < SETS; ++set) {
        while (!models[set].empty()) {  // emptied in any order, no upper level remembers a member
            const u32 i = *models[set].rbegin();
            models[set].erase(i);
            sets->erase(set, i);
        }
        EXPECT_EQ(sets->next(set, 0), Sets::NONE);
        EXPECT_EQ(sets->next(set, Sets::CAPACITY), Sets::NONE);
    }
}

}  // namespace
}  // namespace aep
