// Purpose: the allocator inside a group, on plain memory: against a model, as it grows and is
//          swept; with everything it keeps overwritten at random it stays within its parts.
// Who calls it: ctest.
// Crash rule: none: private to the test.
#include "shim/sharing/group_arena.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <random>
#include <vector>

namespace aep {
namespace {

constexpr usize GAP = 4 * KiB;  // around each part, which nobody may write
constexpr u8 UNTOUCHED = 0xa5;

/// A group in memory of the test's: parts with gaps between them.
class Memory {
  public:
    explicit Memory(usize first) : bytes_(8 * MiB, UNTOUCHED) {
        base_ = round_up(reinterpret_cast<u64>(bytes_.data()), 64) + GAP;
        header_ = reinterpret_cast<GroupHeader*>(base_);
        end_ = base_ + first;
        parts_ = {{base_ + sizeof(GroupHeader), end_}};
        arena().begin(++keys);
    }
    GroupArena arena() { return {*header_, parts_}; }
    /// As somebody sees it to whom the newest part ends earlier: the tables say so, or the block's length is damaged.
    GroupArena shorter(u64 end) {
        shorter_ = parts_;
        shorter_.front().end = end;
        return {*header_, shorter_};
    }
    GroupHeader& header() { return *header_; }
    const std::vector<GroupPart>& parts() const { return parts_; }

    /// `shift`: of the part's beginning against a multiple of 16.
    void grow(usize bytes, usize shift = 0) {
        const u64 begin = end_ + GAP + shift;
        end_ = begin + bytes;
        parts_.insert(parts_.begin(), {begin, end_});
        arena().part_added();
    }
    /// The writer is killed when the part is there, and before it is used.
    void grow_and_die(usize bytes) {
        const u64 begin = end_ + GAP;
        end_ = begin + bytes;
        parts_.insert(parts_.begin(), {begin, end_});
    }
    bool gaps_are_untouched() const {
        u64 at = reinterpret_cast<u64>(bytes_.data());
        for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
            const bool first = part == parts_.rbegin();
            const u64 until = first ? base_ : part->begin;
            for (; at < until; ++at)
                if (*reinterpret_cast<const u8*>(at) != UNTOUCHED) return false;
            at = part->end;
        }
        for (; at < reinterpret_cast<u64>(bytes_.data() + bytes_.size()); ++at)
            if (*reinterpret_cast<const u8*>(at) != UNTOUCHED) return false;
        return true;
    }
    bool holds(u64 block, usize bytes) const {
        for (const GroupPart& part : parts_)
            if (block >= part.begin && block + bytes <= part.end) return true;
        return false;
    }

  private:
    static inline u64 keys = 0;
    std::vector<u8> bytes_;
    u64 base_ = 0, end_ = 0;
    GroupHeader* header_ = nullptr;
    std::vector<GroupPart> parts_, shorter_;
};

usize some_size(std::mt19937_64& random) { return random() % (usize{1} << random() % 15); }

TEST(GroupArena, BlocksKeepWhatIsInThemUntilTheyAreFreed) {
    for (u64 seed = 1; seed <= 6; ++seed) {
        std::mt19937_64 random(seed);
        Memory memory(8 * KiB + 8 * seed);
        struct Block {
            usize bytes;
            u8 mark;
        };
        std::map<u64, Block> live;
        for (int i = 0; i < 20'000; ++i) {
            if (random() % 100 < 52) {
                const Block b{some_size(random), static_cast<u8>(random())};
                const usize alignment = usize{1} << random() % 9;
                u64 at = memory.arena().allocate(b.bytes, alignment);
                if (at == 0 && memory.arena().worth_a_sweep(Unread::all)) {
                    memory.arena().sweep(Unread::all);
                    at = memory.arena().allocate(b.bytes, alignment);
                }
                if (at == 0 && memory.parts().size() < 8) {
                    memory.grow(group_bytes_for(b.bytes, alignment) + random() % 100'000,
                                random() % 16);
                    at = memory.arena().allocate(b.bytes, alignment);
                    ASSERT_NE(at, 0u);
                }
                if (at == 0) continue;  // full
                ASSERT_EQ(at % alignment, 0u);
                ASSERT_TRUE(memory.holds(at, b.bytes));
                ASSERT_GE(memory.arena().usable(at), b.bytes);
                const auto next = live.lower_bound(at);
                ASSERT_TRUE(next == live.end() || at + b.bytes <= next->first);
                ASSERT_TRUE(next == live.begin() ||
                            std::prev(next)->first + std::prev(next)->second.bytes <= at);
                std::memset(reinterpret_cast<void*>(at), b.mark, b.bytes);
                live[at] = b;
            } else if (!live.empty()) {
                auto it = std::next(live.begin(), static_cast<long>(random() % live.size()));
                for (usize n = 0; n < it->second.bytes; ++n)
                    ASSERT_EQ(reinterpret_cast<const u8*>(it->first)[n], it->second.mark);
                ASSERT_TRUE(memory.arena().free(it->first, random() % 3 == 0));
                ASSERT_FALSE(memory.arena().free(it->first, false));
                ASSERT_FALSE(memory.arena().is_live(it->first));
                live.erase(it);
            }
        }
        ASSERT_TRUE(memory.gaps_are_untouched());
        for (const auto& [at, block] : live) ASSERT_TRUE(memory.arena().free(at, false));
        memory.arena().sweep(Unread::all);
        // Each part is one piece again.
        std::vector<usize> pieces;
        for (const GroupPart& part : memory.parts()) pieces.push_back(part.end - part.begin - 64);
        std::sort(pieces.rbegin(), pieces.rend());
        for (const usize bytes : pieces) ASSERT_NE(memory.arena().allocate(bytes, 16), 0u);
    }
}

TEST(GroupArena, DeferredBlocksAreReadableUntilASweepThatMayHaveThem) {
    Memory memory(64 * KiB);
    std::vector<u64> blocks;
    while (const u64 at = memory.arena().allocate(100, 16)) {
        std::memset(reinterpret_cast<void*>(at), 0x11, 100);
        blocks.push_back(at);
    }
    for (const u64 at : blocks) ASSERT_TRUE(memory.arena().free(at, true));
    EXPECT_FALSE(memory.arena().worth_a_sweep(Unread::none));
    EXPECT_TRUE(memory.arena().worth_a_sweep(Unread::all));
    memory.arena().sweep(Unread::none);
    EXPECT_EQ(memory.arena().allocate(100, 16), 0u);
    for (const u64 at : blocks)
        for (usize n = 0; n < 100; ++n) ASSERT_EQ(reinterpret_cast<const u8*>(at)[n], 0x11);
    memory.arena().sweep(Unread::all);
    EXPECT_EQ(memory.arena().deferred(), 0u);
    for (usize n = 0; n < blocks.size(); ++n) ASSERT_NE(memory.arena().allocate(100, 16), 0u);
}

TEST(GroupArena, WhatIsOlderThanAPeriodIsTakenInAndTheRestStays) {
    Memory memory(64 * KiB);
    std::vector<u64> blocks;
    while (const u64 at = memory.arena().allocate(100, 16)) blocks.push_back(at);
    const auto defer = [&](usize from, usize to) {
        for (usize n = from; n < to; ++n) ASSERT_TRUE(memory.arena().free(blocks[n], true));
    };
    const usize third = blocks.size() / 3;
    for (int round = 0; round < 5; ++round) {
        defer(0, third);
        EXPECT_EQ(memory.arena().older(), 0u);
        memory.arena().next_period();
        const u64 older = memory.arena().older();
        EXPECT_GE(older, third * 100);
        defer(third, 2 * third);
        EXPECT_EQ(memory.arena().older(), older);
        memory.arena().sweep(Unread::older);
        std::vector<u64> again;
        while (const u64 at = memory.arena().allocate(100, 16)) again.push_back(at);
        EXPECT_EQ(std::vector<u64>(blocks.begin(), blocks.begin() + static_cast<long>(third)),
                  (std::sort(again.begin(), again.end()), again));
        EXPECT_EQ(memory.arena().deferred(), older);  // those of this period
        memory.arena().sweep(Unread::all);
        while (memory.arena().allocate(100, 16) != 0) continue;
        memory.arena().next_period();
    }
}

TEST(GroupArena, PeriodsGoRoundOddAndEvenByTurns) {
    for (const u64 period : {u64{1}, u64{2}, LAST_PERIOD - 1, LAST_PERIOD}) {
        EXPECT_NE(period_after(period), NOT_LOOKING);
        EXPECT_NE(period_after(period) % 2, period % 2);
        EXPECT_EQ(GroupReader::make(7, 9, period).since(), period);
    }
}

/// The header and the bins as they may be when a writer is killed: whatever they say, who takes over has all the blocks.
TEST(GroupArena, WhoTakesOverFindsAllBlocksWhereverTheFormerWriterWasKilled) {
    for (u64 seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random(seed);
        Memory memory(16 * KiB);
        std::vector<u64> live;
        for (int i = 0; i < 300; ++i) {
            if (i == 200) memory.grow(50'000);
            if (random() % 3 != 0 || live.empty()) {
                const u64 at =
                    memory.arena().allocate(some_size(random) % 500, usize{16} << random() % 4);
                if (at != 0) live.push_back(at);
            } else {
                ASSERT_TRUE(memory.arena().free(live.back(), random() % 2 == 0));
                live.pop_back();
            }
        }
        const u64 deferred = memory.arena().deferred();
        // Half done: lists and counts are of any moment; the untouched rest begins where it did before the last block.
        for (u64& bin : memory.header().bins) bin = random() % 2 == 0 ? 0 : bin;
        for (u64& word : memory.header().filled) word = random();
        memory.header().deferred[0] = memory.header().deferred[1] = random();
        memory.arena().take_over();
        EXPECT_EQ(memory.arena().deferred(), deferred);
        for (const u64 at : live) ASSERT_TRUE(memory.arena().free(at, false));
        memory.arena().sweep(Unread::all);
        for (const GroupPart& part : memory.parts())
            ASSERT_NE(memory.arena().allocate(part.end - part.begin - 64, 16), 0u);
    }
}

TEST(GroupArena, WhoTakesOverHasThePartThatCameLast) {
    for (const bool full : {false, true}) {
        Memory memory(16 * KiB);
        while (full && memory.arena().allocate(16, 16) != 0) continue;
        memory.grow_and_die(64 * KiB);
        EXPECT_EQ(memory.arena().allocate(50'000, 16), 0u);
        memory.arena().take_over();
        EXPECT_NE(memory.arena().allocate(50'000, 16), 0u);
        EXPECT_EQ(memory.arena().allocate(8000, 16) != 0, true);
    }
}

TEST(GroupArena, BlocksOfAFormerGroupAreNone) {
    Memory memory(64 * KiB);
    std::vector<u64> blocks;
    while (const u64 at = memory.arena().allocate(40, 16)) blocks.push_back(at);
    memory.arena().begin(~u64{0});
    for (const u64 at : blocks) ASSERT_FALSE(memory.arena().free(at, false));
}

/// Whatever its head says: it is no block that could be freed, read to its end or handed out.
TEST(GroupArena, ABlockThatReachesBeyondItsPartIsNone) {
    Memory memory(64 * KiB);
    const u64 at = memory.arena().allocate(1000, 16);
    ASSERT_NE(at, 0u);
    const u64 end = round_up(at + 1000, 16);
    const u64 untouched = memory.header().bump;
    EXPECT_TRUE(memory.shorter(end).is_live(at));  // it ends where the part does
    EXPECT_FALSE(memory.shorter(end - 16).is_live(at));
    EXPECT_FALSE(memory.shorter(end - 16).free(at, false));
    ASSERT_TRUE(memory.arena().free(at, false));
    EXPECT_EQ(memory.shorter(end - 16).allocate(1000, 16), 0u);  // and the list ends there
    EXPECT_EQ(memory.arena().allocate(1000, 16), untouched);
}

TEST(GroupArena, SizesThatAreTooLargeAreRefused) {
    Memory memory(8 * KiB);
    for (const usize bytes : {~usize{0}, usize{1} << 63, GROUP_LARGEST + 1, GROUP_LARGEST})
        EXPECT_EQ(memory.arena().allocate(bytes, 16), 0u);
    EXPECT_EQ(memory.arena().allocate(16, usize{1} << 63), 0u);
    EXPECT_EQ(group_bytes_for(GROUP_LARGEST + 1, 16), 0u);
    EXPECT_EQ(group_bytes_for(1, 2 * GROUP_LARGEST), 0u);
}

TEST(GroupArena, WhateverIsOverwrittenItStaysWithinItsParts) {
    for (u64 seed = 1; seed <= 60; ++seed) {
        std::mt19937_64 random(seed);
        Memory memory(16 * KiB);
        std::vector<u64> blocks;
        for (int i = 0; i < 4000; ++i) {
            switch (random() % 8) {
                case 0:
                case 1:
                case 2: {
                    const usize bytes = some_size(random);
                    const u64 at = memory.arena().allocate(bytes, usize{1} << random() % 9);
                    if (at == 0) break;
                    ASSERT_TRUE(memory.holds(at, bytes));
                    blocks.push_back(at);
                    break;
                }
                case 3:
                case 4:
                    if (!blocks.empty())
                        memory.arena().free(blocks[random() % blocks.size()], random() % 2 == 0);
                    break;
                case 5:
                    if (random() % 50 == 0)
                        memory.arena().sweep(random() % 2 == 0 ? Unread::all : Unread::older);
                    if (random() % 50 == 0) memory.arena().next_period();
                    if (random() % 100 == 0) memory.arena().take_over();
                    if (random() % 400 == 0 && memory.parts().size() < 6) memory.grow(100'000);
                    break;
                case 6: {  // a word of a block, its head or its list
                    if (blocks.empty() || random() % 4 != 0) break;
                    const u64 at = blocks[random() % blocks.size()] - 8 * (random() % 2);
                    const u64 word =
                        random() % 2 == 0 ? random() : blocks[random() % blocks.size()] + 8;
                    std::memcpy(reinterpret_cast<void*>(at), &word, sizeof word);
                    break;
                }
                default: {  // a word of the header, but for the key, without which all is foreign
                    if (random() % 8 != 0) break;
                    const u64 at = reinterpret_cast<u64>(&memory.header().bump) +
                                   random() % (sizeof(GroupHeader) / 8 - 1) * 8;
                    const GroupPart& part = memory.parts()[random() % memory.parts().size()];
                    const u64 inside = part.begin + random() % (part.end - part.begin);
                    const u64 word = random() % 2 == 0 ? random() : round_down(inside, 16);
                    std::memcpy(reinterpret_cast<void*>(at), &word, sizeof word);
                }
            }
        }
        ASSERT_TRUE(memory.gaps_are_untouched()) << seed;
    }
}

}  // namespace
}  // namespace aep
