// Purpose: unit tests of dsm-core/heap/page.hpp: taking, freeing, remote marks, extension,
// collection, rebuilding. Who calls it: ctest. Crash rule: each test runs in a child of its own.
#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// Takes what the page can give without being extended.
std::vector<uptr> take_all(PageDesc* d) {
    std::vector<uptr> blocks;
    while (page_seek(d, true))
        for (uptr block; page_take(d, block);) blocks.push_back(block);
    return blocks;
}

/// Takes everything the page can ever give.
std::vector<uptr> exhaust(PageDesc* d) {
    std::vector<uptr> blocks;
    do {
        for (const uptr block : take_all(d)) blocks.push_back(block);
    } while (page_extend(d));
    return blocks;
}

bool give(PageDesc* d, uptr block) {
    EXPECT_TRUE(page_clear_bit(d, index_of(block)));
    return page_regain(d);
}

PageDesc* fresh_page(Heap* h, usize size) { return page_for(h, class_of(size)); }

TEST(Page, GivesEveryBlockOnceInAddressOrder) {
    in_domain<32>([] {
        Heap* h = new_heap();
        for (u32 c = 0; c < CLASS_COUNT; ++c) {
            PageDesc* d = page_for(h, c);
            const std::vector<uptr> blocks = exhaust(d);
            ASSERT_EQ(blocks.size(), (usize{d->slices} << SLICE_SHIFT) / class_size(c));
            for (usize i = 0; i < blocks.size(); ++i)
                ASSERT_EQ(blocks[i], base_of(d) + i * class_size(c)) << c;
            ASSERT_EQ(page_live_blocks(d), blocks.size());
            ASSERT_EQ(page_live(d), blocks.size());
            ASSERT_LE(blocks.back() + class_size(c),
                      base_of(d) + (usize{d->slices} << SLICE_SHIFT));
        }
        expect_sound();
    });
}

TEST(Page, FewFreeBlocksAreNotLookedForUnlessTheyMustBe) {
    in_domain<1>([] {
        Heap* h = new_heap();
        PageDesc* d = fresh_page(h, 16);
        const std::vector<uptr> blocks = exhaust(d);
        const u32 worth = d->extended / (8 * BLOCKS_A_WORD) + 1;
        for (u32 i = 0; i + 1 < worth; ++i) give(d, blocks[i * 500]);
        EXPECT_FALSE(page_seek(d));
        EXPECT_FALSE(heap_refill(h, d));
        give(d, blocks[7]);
        EXPECT_TRUE(page_seek(d));
        uptr block = 0;
        while (page_take(d, block)) {
        }
        EXPECT_FALSE(page_seek(d));
        // All of them before memory runs out.
        EXPECT_EQ(take_all(d).size(), worth - 2);
        EXPECT_EQ(page_free(d), 0u);
        expect_sound();
    });
}

TEST(Page, GrowsWhileLessThanHalfOfItIsFree) {
    in_domain<1>([] {
        Heap* h = new_heap();
        PageDesc* d = fresh_page(h, 64);
        std::vector<uptr> blocks = take_all(d);
        ASSERT_EQ(d->extended, BLOCKS_A_WORD);
        uptr block = 0;
        for (u32 i = 0; i < BLOCKS_A_WORD / 2 - 1; ++i) give(d, blocks[i]);
        ASSERT_TRUE(heap_refill(h, d) && page_take(d, block));
        EXPECT_GT(block, blocks.back());
        while (page_take(d, block)) {
        }
        ASSERT_EQ(d->extended, 2 * BLOCKS_A_WORD);
        for (u32 i = BLOCKS_A_WORD / 2 - 1; i < BLOCKS_A_WORD; ++i) give(d, blocks[i]);
        ASSERT_TRUE(heap_refill(h, d) && page_take(d, block));
        EXPECT_EQ(block, blocks.front());
        EXPECT_EQ(d->extended, 2 * BLOCKS_A_WORD);
    });
}

TEST(Page, WordsTakeTurnsAndEachGivesItsLowestBlockFirst) {
    in_domain<1>([] {
        PageDesc* d = fresh_page(new_heap(), 48);
        const std::vector<uptr> blocks = exhaust(d);
        for (const usize i : {5u, 900u, 901u, 33u, 320u}) give(d, blocks[i]);
        EXPECT_EQ(take_all(d), (std::vector<uptr>{blocks[5], blocks[33], blocks[320], blocks[900],
                                                  blocks[901]}));
        EXPECT_EQ(page_live_blocks(d), blocks.size());
        // From the word that was used last upwards, then from below.
        for (const usize i : {10u, 1000u, 70u, 900u}) give(d, blocks[i]);
        EXPECT_EQ(take_all(d),
                  (std::vector<uptr>{blocks[1000], blocks[10], blocks[70], blocks[900]}));
    });
}

TEST(Page, AFullPageIsUsableAgainWhenAFewBlocksAreFree) {
    in_domain<32>([] {
        Heap* h = new_heap();
        for (u32 c = 0; c < CLASS_COUNT; ++c) {
            std::vector<uptr> blocks;
            do blocks.push_back(pop(h, c));
            while (blocks.size() == 1 || page_of(blocks.back()) == page_of(blocks.front()));
            PageDesc* d = page_of(blocks.front());
            ASSERT_EQ(d->standing, Standing::full) << c;
            blocks.pop_back();  // another page's
            const std::vector<uptr> freed(blocks.end() - page_slack(d), blocks.end());
            for (const uptr block : freed) {
                ASSERT_EQ(d->standing, Standing::full) << c;
                ASSERT_TRUE(push(h, block));
            }
            ASSERT_EQ(d->standing, Standing::queued) << c;
            ASSERT_EQ(page_live(d), d->capacity - freed.size());
            std::vector<uptr> again = take_all(d);
            std::sort(again.begin(), again.end());
            ASSERT_EQ(again, freed);
        }
        expect_sound();
    });
}

TEST(Page, OnlyLiveBlocksCanBeFreed) {
    in_domain<8>([] {
        Heap* h = new_heap();
        for (const usize size : {16u, 48u, 112u, 1000u, 8192u, 9216u, 131072u}) {
            PageDesc* d = fresh_page(h, size);
            uptr block = 0;
            ASSERT_TRUE(page_take(d, block));
            const auto at = [&](uptr address) {
                return block_index(static_cast<u32>(address - base_of(d)), d->magic);
            };
            for (u32 wrong = 1; wrong < d->block_size; ++wrong)
                ASSERT_EQ(at(block + wrong), NO_BLOCK) << size << " + " << wrong;
            const usize bytes = usize{d->slices} << SLICE_SHIFT;
            for (uptr other = block + d->block_size; other < base_of(d) + bytes;
                 other += d->block_size)
                ASSERT_FALSE(page_clear_bit(d, at(other))) << size << ": never handed out";
            ASSERT_TRUE(page_clear_bit(d, at(block)));
            ASSERT_FALSE(page_clear_bit(d, at(block))) << "freed twice";
        }
    });
}

/// A pointer where no block begins has such an index; behind a page's bits lie those of the next one.
TEST(Page, WhatIsNoIndexOfABlockIsNotLive) {
    in_child([] {
        make_domain();
        add_chunks(0, 2);
        Heap* h = new_heap();
        PageDesc* d = fresh_page(h, 16);
        PageDesc* next = fresh_page(h, 1024);
        ASSERT_EQ(next, d + 1);
        uptr block = 0;
        while (page_take(next, block))
            ASSERT_EQ(mark(block) == RemoteMark::marked, block != base_of(next));
        for (u32 index = MAX_BLOCKS; index < 2 * MAX_BLOCKS; ++index) {
            ASSERT_FALSE(page_is_live(d, index)) << index;
            ASSERT_FALSE(page_is_marked(d, index)) << index;
        }
        EXPECT_FALSE(page_is_live(d, NO_BLOCK));
        EXPECT_FALSE(page_is_marked(d, NO_BLOCK));
    });
}

TEST(Page, RemoteMarksAreCollectedOnce) {
    in_domain<1>([] {
        PageDesc* d = fresh_page(new_heap(), 32);
        const std::vector<uptr> blocks = exhaust(d);
        EXPECT_EQ(mark(blocks[0]), RemoteMark::first_of_page);
        EXPECT_EQ(mark(blocks[1]), RemoteMark::marked);
        EXPECT_EQ(mark(blocks[2000]), RemoteMark::marked) << "another word, but the page has marks";
        EXPECT_EQ(mark(blocks[1]), RemoteMark::already_marked);
        EXPECT_TRUE(page_is_marked(d, index_of(blocks[2000])));
        EXPECT_EQ(page_live_blocks(d), blocks.size()) << "live until the owner takes them in";
        uptr bad = 0;
        EXPECT_EQ(page_collect_remote(d, bad), 3u);
        EXPECT_EQ(bad, 0u);
        EXPECT_EQ(page_live(d), blocks.size() - 3);
        EXPECT_FALSE(page_is_live(d, index_of(blocks[0])));
        EXPECT_EQ(page_collect_remote(d, bad), 0u);
        EXPECT_EQ(mark(blocks[7]), RemoteMark::first_of_page)
            << "queued again after it was collected";
        EXPECT_EQ(page_collect_remote(d, bad), 1u);
        // The last word was at hand: its turn is over.
        EXPECT_EQ(take_all(d), (std::vector<uptr>{blocks[0], blocks[1], blocks[7], blocks[2000]}));
    });
}

TEST(Page, AMarkOnAFreeBlockIsNamedAndDropped) {
    in_domain<1>([] {
        PageDesc* d = fresh_page(new_heap(), 64);
        const std::vector<uptr> blocks = exhaust(d);
        mark(blocks[10]);
        mark(blocks[11]);
        give(d, blocks[10]);  // the owner frees it, too
        uptr bad = 0;
        EXPECT_EQ(page_collect_remote(d, bad), 1u);
        EXPECT_EQ(bad, blocks[10]);
        EXPECT_EQ(page_live(d), blocks.size() - 2) << "neither is counted twice";
    });
}

TEST(Page, TrackedTakesKnowWhatWasNeverUsed) {
    in_domain<4>([] {
        Heap* h = new_heap();
        PageDesc* d = fresh_page(h, 2000);
        bool fresh = false;
        uptr first = 0, second = 0, block = 0;
        ASSERT_TRUE(page_take_tracked(d, first, fresh));
        EXPECT_TRUE(fresh);
        ASSERT_TRUE(page_take_tracked(d, second, fresh));
        EXPECT_TRUE(fresh);
        for (const uptr p : {first, second}) push(h, p);
        page_give_hand(d);
        ASSERT_TRUE(page_seek(d));
        ASSERT_TRUE(page_take_tracked(d, block, fresh));
        EXPECT_FALSE(fresh);
        ASSERT_TRUE(page_take_tracked(d, block, fresh));
        EXPECT_FALSE(fresh);
        ASSERT_TRUE(page_take_tracked(d, block, fresh));
        EXPECT_TRUE(fresh) << "the third block";
    });
}

TEST(Page, OfFewBlocksTheLowestFreeOneIsTaken) {
    in_domain<4>([] {
        Heap* h = new_heap();
        PageDesc* d = fresh_page(h, 4000);
        bool fresh = true;
        uptr block = 0;
        const std::vector<uptr> blocks = exhaust(d);
        d->touched = static_cast<u32>(blocks[5] - base_of(d));
        ASSERT_FALSE(page_take_lowest(d, block, fresh));
        for (const usize i : {9u, 3u, 5u}) give(d, blocks[i]);
        const u32 live = page_live(d);
        ASSERT_TRUE(page_take_lowest(d, block, fresh));
        EXPECT_EQ(block, blocks[3]);
        EXPECT_FALSE(fresh);
        ASSERT_TRUE(page_take_lowest(d, block, fresh));
        EXPECT_EQ(block, blocks[5]);
        EXPECT_TRUE(fresh);
        EXPECT_EQ(page_live(d), live + 2);
        EXPECT_EQ(d->hand, 0u);
        EXPECT_FALSE(page_clear_bit(d, index_of(blocks[9]))) << "it is not live";
        // What is at hand comes first.
        give(d, blocks[1]);
        ASSERT_TRUE(page_seek(d));
        give(d, blocks[0]);
        ASSERT_TRUE(page_take_lowest(d, block, fresh));
        EXPECT_EQ(block, blocks[1]);
        expect_sound();
        EXPECT_FALSE(page_take_lowest(h->queues[class_of(5000)].head, block, fresh))
            << "the page of an empty queue";
    });
}

TEST(Page, OfTheBlocksAtHandTheLowestAreKept) {
    in_child([] {
        make_domain();
        add_chunks(0, 4);
        Heap* h = new_heap();
        PageDesc* d = fresh_page(h, 64);
        const u64 hand = d->hand;
        const u32 live = page_live(d), out = page_out(d);
        ASSERT_GE(bits_in(hand), 8u);
        page_give_hand(d, bits_in(hand));
        EXPECT_EQ(d->hand, hand);
        page_give_hand(d, 3);
        EXPECT_EQ(bits_in(d->hand), 3u);
        EXPECT_EQ(d->hand & ~hand, 0u);
        EXPECT_LT(d->hand, hand & ~d->hand) << "the lowest";
        EXPECT_EQ(page_live(d), live);
        EXPECT_EQ(page_out(d), out - bits_in(hand) + 3);
        expect_sound();
        uptr block = 0;
        for (int i = 0; i < 3; ++i) ASSERT_TRUE(page_take(d, block));
        EXPECT_FALSE(page_take(d, block));
        ASSERT_TRUE(page_seek(d));
        expect_sound();
    });
}

TEST(Page, ATurnIsTakenJustIfThePageIsNeitherTightNorSpent) {
    in_domain<4>([] {
        Heap* h = new_heap();
        std::mt19937 random(1);
        for (const usize size : {16u, 48u, 1024u, 20000u}) {
            PageDesc* d = fresh_page(h, size);
            std::vector<uptr> blocks = take_all(d);
            u32 worth = 0, not_worth = 0;
            do {
                for (u32 i = 0; i < 2 * d->extended; ++i) {
                    page_give_hand(d);
                    const bool turns = d->until < d->turn_below;
                    ASSERT_EQ(turns, !page_is_tight(d) && !page_is_spent(d)) << size;
                    ++(turns ? worth : not_worth);
                    if (blocks.empty()) break;
                    std::swap(blocks[random() % blocks.size()], blocks.back());
                    give(d, blocks.back());
                    blocks.pop_back();
                }
                for (const uptr block : take_all(d)) blocks.push_back(block);
                page_give_hand(d);
                d->turn_below = 99;
                page_set_standing(d, random() % 2 == 0 ? Standing::queued : Standing::alone);
            } while (page_extend(d));
            EXPECT_GT(worth, 0u);
            EXPECT_GT(not_worth, 0u);
            while (!blocks.empty()) {
                give(d, blocks.back());
                blocks.pop_back();
            }
            page_set_standing(d, Standing::alone);
        }
        expect_sound();
    });
}

TEST(Page, DirtyRunsAreNeverFresh) {
    in_child([] {
        make_domain();
        add_chunks(0, 1, false);
        bool fresh = true;
        uptr block = 0;
        PageDesc* d = fresh_page(new_heap(), 4096);
        page_take_tracked(d, block, fresh);
        EXPECT_FALSE(fresh);
    });
}

TEST(Page, RebuildMendsTornCachesFromTheBitmap) {
    in_domain<2>([] {
        Heap* h = new_heap();
        for (const usize size : {16u, 48u, 80u, 3000u, 10000u}) {
            PageDesc* d = fresh_page(h, size);
            const std::vector<uptr> blocks = take_all(d);
            // One block went back whole, one is marked by another thread; a free and a malloc lost
            // what comes after the bit, and the caches are noise.
            push(h, blocks[0]);
            mark(blocks[1]);
            page_clear_bit(d, index_of(blocks[2]));
            uptr again = 0;
            ASSERT_TRUE(page_seek(d) && page_take(d, again));
            ASSERT_EQ(again, blocks[0]);
            // And it died before the bits of what it took to hand were set.
            ASSERT_NE(d->hand, 0u);
            d->hand_bits->live &= ~d->hand;
            d->until = 77;
            d->turn_below = 77;
            page_rebuild(d);
            // And again, when it had got no further than the word's name.
            d->hand_turn.fetch_add(1);
            page_rebuild(d);
            EXPECT_EQ(page_live(d), blocks.size() - 2);
            EXPECT_FALSE(page_is_marked(d, index_of(blocks[1])));
            CheckReport report;
            EXPECT_TRUE(check_heap(h, d, report)) << report;
            EXPECT_EQ(take_all(d), (std::vector<uptr>{blocks[1], blocks[2]}));
            EXPECT_TRUE(check_heap(h, d, report)) << report;
        }
    });
}

TEST(Page, BlocksAtHandAreNotLiveToAnybody) {
    in_domain<1>([] {
        PageDesc* d = fresh_page(new_heap(), 64);
        uptr first = 0, block = 0;
        ASSERT_TRUE(page_take(d, first));
        ASSERT_NE(d->hand, 0u);
        const u32 next = index_of(first) + 1;
        EXPECT_TRUE(page_is_live(d, index_of(first)));
        EXPECT_FALSE(page_is_live(d, next));
        EXPECT_FALSE(page_clear_bit(d, next)) << "never handed out";
        EXPECT_EQ(page_live(d), 1u);
        EXPECT_EQ(page_live_blocks(d), 1u);
        // A mark that somebody makes all the same is found when it is collected.
        mark(first + d->block_size);
        uptr bad = 0;
        EXPECT_EQ(page_collect_remote(d, bad), 0u);
        EXPECT_EQ(bad, first + d->block_size);
        ASSERT_TRUE(page_take(d, block));
        EXPECT_EQ(index_of(block), next);
        EXPECT_TRUE(page_is_live(d, next));
        page_give_hand(d);
        EXPECT_EQ(page_live_blocks(d), 2u);
        EXPECT_EQ(page_out(d), 2u);
    });
}

TEST(Page, FreesByTheOwnerAreQuickAgainWhenMarksAreCollected) {
    in_domain<1>([] {
        PageDesc* d = fresh_page(new_heap(), 64);
        uptr block = 0;
        ASSERT_TRUE(page_take(d, block));
        mark(block);
        EXPECT_NE(d->tag.load() & TAG_REMOTE, 0u);
        uptr bad = 0;
        EXPECT_EQ(page_collect_remote(d, bad), 1u);
        EXPECT_EQ(d->tag.load() & TAG_REMOTE, 0u);
    });
}

TEST(Page, WhatIsAtHandSaysNothingOfOtherWordsAndTurns) {
    in_domain<1>([] {
        PageDesc* d = fresh_page(new_heap(), 64);
        while (d->extended < 2 * BLOCKS_A_WORD) {
            for (uptr block; page_take(d, block);) {
            }
            ASSERT_TRUE(page_extend(d));
        }
        ASSERT_EQ(page_hand_word(d), 1u);
        ASSERT_TRUE(bit_of(page_hand(d), 63));
        EXPECT_TRUE(page_is_at_hand(d, 127));
        EXPECT_FALSE(page_is_at_hand(d, 63)) << "the same place of another word";
        EXPECT_TRUE(page_is_live(d, 63));
        const u32 turn = d->hand_turn.load();
        page_give_hand(d);
        ASSERT_TRUE(page_take_word(d, 1));
        EXPECT_NE(d->hand_turn.load(), turn)
            << "who read the blocks of the former turn must see it";
    });
}

TEST(Page, TheOnlyOneOfItsClassStaysOnTheFastPath) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const uptr block = pop(h, class_of(512));
        ASSERT_EQ(page_of(block)->standing, Standing::alone);
        page_give_hand(page_of(block));
        EXPECT_FALSE(give(page_of(block), block)) << "empty, and nowhere else to be";
    });
}

}  // namespace
}  // namespace aep
