// Purpose: unit tests of the operations on one heap: queues and the direct table, full and empty
// pages, idle pages,
//          large objects.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

TEST(Ops, PagesFillAndReturnInOrder) {
    in_domain<4>([] {
        Heap* h = new_heap();
        const u32 c = class_of(1024);
        std::vector<uptr> blocks;
        for (int i = 0; i < 64 * 5; ++i) blocks.push_back(pop(h, c));
        EXPECT_EQ(h->page_count, 5u);
        EXPECT_EQ(h->queues[c].head, h->queues[c].last) << "exhausted pages leave the queue";
        EXPECT_EQ(h->direct[direct_index(1024)], h->queues[c].head);
        expect_sound();
        const u32 slack = page_slack(page_of(blocks[0]));
        for (u32 i = 0; i < slack; ++i) {  // of a page on the full list
            EXPECT_NE(h->queues[c].last, page_of(blocks[0]));
            push(h, blocks[i]);
            expect_sound();
        }
        EXPECT_EQ(h->queues[c].last, page_of(blocks[0]));
        for (usize i = slack; i < blocks.size(); ++i) {
            ASSERT_TRUE(push(h, blocks[i]));
            if (i % 16 == 0) expect_sound();
        }
        EXPECT_EQ(h->page_count, 1u) << "all but the last empty page went back";
        perform(op::Trim{.heap = h, .now = 9});
        EXPECT_EQ(h->page_count, 0u);
        EXPECT_EQ(h->direct[direct_index(1024)], &domain().empty_page);
        expect_sound();
    });
}

TEST(Ops, ARunOfNothingAndOneAlignedToNothingAreNotThere) {
    in_domain<4>([] {
        Heap* h = new_heap();
        for (const auto& [first, end] : {std::pair{0u, 0u}, {1u, 4u}, {1u, ~0u}}) {
            for (const bool thorough : {false, true}) {
                for (const auto& [slices, alignment] : {std::pair{1u, 0u}, {0u, 1u}, {0u, 0u}}) {
                    const auto reply = perform(op::TakeRun{.heap = h,
                                                           .slices = slices,
                                                           .alignment = alignment,
                                                           .first_chunk = first,
                                                           .end_chunk = end,
                                                           .thorough = thorough});
                    EXPECT_EQ(reply.status, Status::miss) << slices << " slices at " << alignment;
                }
            }
        }
        expect_sound();
        // Chunks that nobody has described are not looked at.
        const auto all = op::TakeRun{
            .slices = 3 * ALL_SLICES, .alignment = 1, .first_chunk = 1, .end_chunk = ~0u};
        EXPECT_EQ(perform(all).status, Status::ok);
        EXPECT_EQ(perform(all).status, Status::miss);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Ops, BeforeMemoryRunsOutTheLastBlocksOfFullPagesAreUsed) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const u32 c = class_of(1024);
        std::vector<uptr> blocks;
        for (int i = 0; i < 64 * 3; ++i) blocks.push_back(pop(h, c));
        push(h, blocks[0]);
        EXPECT_EQ(perform(op::Refill{.heap = h, .size_class = c}).status, Status::miss);
        const auto found = perform(op::Refill{.heap = h, .size_class = c, .thorough = true});
        EXPECT_EQ(found.page, page_of(blocks[0]));
        EXPECT_EQ(pop(h, c), blocks[0]);
        expect_sound();
    });
}

TEST(Ops, EveryClassIsServedAndReturned) {
    in_domain<16>([] {
        Heap* h = new_heap();
        std::vector<uptr> blocks;
        for (u32 c = 0; c < CLASS_COUNT; ++c) blocks.push_back(pop(h, c));
        expect_sound();
        for (const uptr block : blocks) {
            EXPECT_TRUE(push(h, block));
            EXPECT_FALSE(push(h, block));
        }
        EXPECT_EQ(h->page_count, CLASS_COUNT);
        perform(op::Trim{.heap = h});
        EXPECT_EQ(h->page_count, 0u);
        expect_sound();
    });
}

TEST(Ops, IdlePagesAreReleasedAtTheSecondLook) {
    in_domain<16>([] {
        Heap* h = new_heap();
        push(h, pop(h, class_of(512)));
        ASSERT_EQ(h->page_count, 1u);
        // 15 more fresh pages make the first look, the next sixteen the second.
        for (int i = 0; i < 40; ++i) {
            for (int k = 0; k < 8; ++k) ASSERT_NE(pop(h, class_of(8192)), 0u);
            if (i == 20)
                EXPECT_NE(h->queues[class_of(512)].last, nullptr) << "it was looked at once";
        }
        EXPECT_EQ(h->queues[class_of(512)].last, nullptr);
        expect_sound();
    });
}

TEST(Ops, TheLastPageOfAClassStaysWhenOthersEmptyIt) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const u32 c = class_of(8192);
        std::vector<uptr> blocks;
        for (int i = 0; i < 8; ++i) blocks.push_back(pop(h, c));
        PageDesc* d = page_of(blocks[0]);
        for (const uptr block : blocks) push_remote(block);
        drain(h);
        EXPECT_TRUE(page_all_free(d));
        EXPECT_EQ(h->queues[c].head, d) << "the next block is not worth a page's birth";
        EXPECT_EQ(h->page_count, 1u);
        expect_sound();
    });
}

TEST(Ops, AFreedBlockIsReusedBeforeAFreshPage) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const u32 c = class_of(8192);
        std::vector<uptr> blocks;
        while (const uptr block = pop(h, c)) blocks.push_back(block);
        EXPECT_EQ(blocks.size(), 64u * 8);
        push(h, blocks[77]);
        EXPECT_EQ(pop(h, c), blocks[77]);
        push_remote(blocks[400]);
        EXPECT_EQ(pop(h, c), blocks[400]);
        EXPECT_EQ(pop(h, c), 0u) << "no memory";
        EXPECT_EQ(pop(h, 0), 0u);
        expect_sound();
    });
}

TEST(Ops, RunsAreReservedUntilTheyBecomeSomething) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const auto taken = perform(op::TakeRun{.heap = h, .slices = 4, .alignment = 1});
        ASSERT_EQ(taken.status, Status::ok);
        CheckReport report;
        EXPECT_FALSE(check_domain(domain(), report))
            << "between operations a reserved run is a loss";
        EXPECT_TRUE(check_domain(domain(), report, CheckMoment::underway)) << report;
        EXPECT_EQ(report.reserved_runs, 1u);
        perform(op::GiveRun{.first = taken.run.first, .slices = 4});
        expect_sound();
    });
}

// Memory that must be committed: the driver's part, done by hand.

/// A page of class `c` on a fresh run of which `committed` bytes can be written.
PageDesc* birth(Heap* h, u32 c, usize committed) {
    auto taken = perform(op::TakeRun{.heap = h, .slices = page_slices(c), .alignment = 1});
    if (taken.run.committed < committed) taken.run.committed = committed;
    const auto born = perform(op::Refill{.heap = h, .size_class = c, .run = taken.run});
    return born.page;
}

/// Takes all blocks that need no further commit.
std::vector<uptr> pop_writable(Heap* h, u32 c) {
    std::vector<uptr> blocks;
    for (;;) {
        const auto found = perform(op::Refill{.heap = h, .size_class = c});
        if (found.status != Status::ok) return blocks;
        PageDesc* d = found.page;
        for (uptr block; page_take(d, block);) blocks.push_back(block);
    }
}

TEST(Ops, ARefillSaysWhatItLacksAndGoesOnWithIt) {
    in_child([] {
        make_domain();
        Heap* h = new_heap();
        const u32 c = class_of(1024);
        const op::Refill ask{.heap = h, .size_class = c, .fresh = true};
        EXPECT_EQ(perform(ask).status, Status::need_chunks);
        op::Refill with = ask;
        with.chunks = {.first = ChunkIndex{0}, .count = 1, .zero = true, .sparse = true};
        const auto lacks = perform(with);
        ASSERT_EQ(lacks.status, Status::uncommitted);
        EXPECT_EQ(lacks.page, nullptr);
        EXPECT_EQ(lacks.run.slices, page_slices(c));
        EXPECT_EQ(lacks.goal, commit_goal(c, 0));
        EXPECT_TRUE(lacks.bitmaps);
        CheckReport report;
        EXPECT_TRUE(check_domain(domain(), report, CheckMoment::underway)) << report;
        EXPECT_EQ(report.reserved_runs, 1u) << "what a kill would leave";
        op::Refill again = ask;
        again.run = lacks.run;
        again.run.committed = lacks.goal;
        EXPECT_EQ(perform(again).status, Status::uncommitted) << "it has no bitmaps yet";
        again.bitmaps = 0b11;
        const auto made = perform(again);
        ASSERT_EQ(made.status, Status::ok);
        EXPECT_TRUE(made.fresh);
        EXPECT_EQ(made.page, desc_of(lacks.run.first));
        EXPECT_EQ(made.goal, 0u);
        EXPECT_FALSE(perform(ask).fresh) << "there is one now";
        expect_sound();
        // The next slice's bitmaps are present, its memory is not.
        const auto next =
            perform(op::Refill{.heap = h, .size_class = class_of(2048), .fresh = true});
        EXPECT_EQ(next.status, Status::uncommitted);
        EXPECT_FALSE(next.bitmaps);
        perform(op::GiveRun{.first = next.run.first, .slices = next.run.slices});
        // Chunks whose beginning is ready make a page at once.
        op::Refill ready{.heap = h, .size_class = class_of(4096), .fresh = true};
        ready.chunks = {.first = ChunkIndex{1}, .count = 1, .zero = true, .sparse = true};
        ready.committed = commit_goal(ready.size_class, 0);
        ready.bitmaps = 1;
        const auto at_once = perform(ready);
        EXPECT_EQ(at_once.status, Status::ok);
        EXPECT_EQ(at_once.page, desc_of(first_slice(ChunkIndex{1})));
        expect_sound();
    });
}

TEST(Ops, PagesAreExtendedAsFarAsTheyAreCommitted) {
    in_child([] {
        for (u32 c = 0; c < CLASS_COUNT; ++c) {  // every goal has room for one more block
            const usize bytes = usize{page_slices(c)} << SLICE_SHIFT;
            for (usize used = 0; used + class_size(c) <= bytes; used += class_size(c)) {
                const usize goal = commit_goal(c, used);
                ASSERT_TRUE(goal >= used + class_size(c) && goal <= bytes &&
                            goal % OS_PAGE_SIZE == 0);
            }
        }
        make_domain();
        add_chunks(0, 1, true, false);
        Heap* h = new_heap();
        const u32 c = class_of(1024);
        PageDesc* d = birth(h, c, commit_goal(c, 0));
        EXPECT_EQ(pop_writable(h, c).size(), 4u);
        const auto found = perform(op::Refill{.heap = h, .size_class = c});
        EXPECT_EQ(found.status, Status::uncommitted);
        EXPECT_EQ(found.page, d);
        expect_sound();
        perform(op::Refill{.heap = h, .page = found.page, .committed = 2 * OS_PAGE_SIZE});
        EXPECT_EQ(pop_writable(h, c).size(), 4u);
        perform(op::Refill{.heap = h, .page = found.page, .committed = SLICE_SIZE});
        EXPECT_EQ(pop_writable(h, c).size(), 56u);
        EXPECT_EQ(perform(op::Refill{.heap = h, .size_class = c}).status, Status::miss);
        expect_sound();
    });
}

/// Else each word of it would give a block or two, for ever.
TEST(Ops, APageThatIsNearlyFullAsksForMoreMemoryAndDoesWithoutIt) {
    in_child([] {
        make_domain();
        add_chunks(0, 1, true, false);
        Heap* h = new_heap();
        const u32 c = class_of(1024);
        PageDesc* d = birth(h, c, 4 * OS_PAGE_SIZE);
        ASSERT_EQ(pop_writable(h, c).size(), 16u);
        const auto free_one = [&] {
            return perform(op::FreeBlock{.heap = h, .page = d, .index = 5}).status;
        };
        ASSERT_EQ(free_one(), Status::ok);
        EXPECT_FALSE(heap_refill(h, d)) << "nobody is asked";
        const auto found = perform(op::Refill{.heap = h, .size_class = c});
        EXPECT_EQ(found.status, Status::ok);
        EXPECT_EQ(found.page, d);
        EXPECT_NE(found.goal, 0u);
        uptr block = 0;  // with no memory: the one that there is
        ASSERT_TRUE(page_take(d, block));
        EXPECT_EQ(block, base_of(d) + 5 * 1024);
        EXPECT_FALSE(page_take(d, block));
        // With some, blocks at hand stay, and the page is extended when they are used up.
        ASSERT_EQ(free_one(), Status::ok);
        ASSERT_TRUE(perform(op::Refill{.heap = h, .size_class = c}).goal != 0);
        perform(op::Refill{.heap = h, .page = d, .committed = SLICE_SIZE});
        ASSERT_TRUE(page_take(d, block));
        EXPECT_EQ(block, base_of(d) + 5 * 1024);
        ASSERT_TRUE(heap_refill(h, d));
        ASSERT_TRUE(page_take(d, block));
        EXPECT_EQ(block, base_of(d) + 16 * 1024);
        expect_sound();
    });
}

TEST(Ops, FreeBlocksOfOtherPagesComeBeforeACommit) {
    in_child([] {
        make_domain();
        add_chunks(0, 1, true, false);
        Heap* h = new_heap();
        const u32 c = class_of(1024);
        PageDesc* first = birth(h, c, OS_PAGE_SIZE);
        pop_writable(h, c);
        const PageDesc* second = birth(h, c, OS_PAGE_SIZE);
        const std::vector<uptr> blocks = pop_writable(h, c);
        ASSERT_EQ(blocks.size(), 4u);
        EXPECT_TRUE(push(h, blocks[1]));
        const auto found = perform(op::Refill{.heap = h, .size_class = c});
        EXPECT_EQ(found.status, Status::ok);
        EXPECT_EQ(found.page, second);
        EXPECT_EQ(pop(h, c), blocks[1]);
        expect_sound();
        push_remote(base_of(first));
        EXPECT_EQ(pop_writable(h, c), std::vector<uptr>{base_of(first)}) << "so do remote frees";
        EXPECT_EQ(perform(op::Refill{.heap = h, .size_class = c}).status, Status::uncommitted);
        expect_sound();
    });
}

TEST(Ops, AFreeSliceRemembersHowMuchOfItIsCommitted) {
    in_child([] {
        make_domain();
        add_chunks(0, 1, true, false);
        Heap* h = new_heap();
        const u32 c = class_of(80 * KiB);
        ASSERT_GT(page_slices(c), 2u);
        birth(h, c, SLICE_SIZE + 4 * OS_PAGE_SIZE);
        perform(op::Trim{.heap = h, .now = 1});
        expect_sound();
        const auto again = perform(op::TakeRun{.heap = h, .slices = 3, .alignment = 1});
        EXPECT_EQ(again.run.committed, SLICE_SIZE + 4 * OS_PAGE_SIZE);
        perform(op::GiveRun{.first = again.run.first, .slices = 3, .now = 1});
        const auto begun = perform(op::BeginPurge{.decay_ms = 0, .now = 1});
        perform(op::EndPurge{
            .chunk = begun.chunk, .zero_slices = begun.slices, .slices = begun.slices});
        expect_sound();
        EXPECT_EQ(perform(op::TakeRun{.heap = h, .slices = 3, .alignment = 1}).run.committed, 0u)
            << "until it is purged";
    });
}

u64 large_birth(u32 slices, u32 alignment = 1) {
    const auto taken = perform(op::TakeRun{.slices = slices, .alignment = alignment});
    EXPECT_EQ(taken.status, Status::ok);
    perform(op::MakeLarge{.run = taken.run});
    return taken.run.address();
}

TEST(Ops, ALargeObjectWhereAPageWasIsNoPage) {
    in_child([] {
        make_domain();
        add_chunks(0, 1);
        Heap* h = new_heap();
        const uptr block = pop(h, class_of(512));
        push(h, block);
        abandon(h);
        EXPECT_EQ(page_of(block)->tag.load(), TAG_FREE);
        EXPECT_EQ(large_birth(SLICES_PER_CHUNK), chunk_address(ChunkIndex{0}));
        EXPECT_EQ(page_of(block)->block_size, 0u);
        expect_sound();
    });
}

TEST(Ops, LargeObjectsGrowShrinkAndGo) {
    in_child([] {
        Domain& dom = make_domain();
        add_chunks(0, 4);
        const u64 a = large_birth(3);
        const u64 b = large_birth(100);
        EXPECT_EQ(dom.large_count.load(), 2u);
        EXPECT_EQ(perform(op::GrowLarge{.address = a, .slices = 4}).status, Status::miss);
        perform(op::ShrinkLarge{.address = b, .slices = 70});
        expect_sound();
        const auto grown = perform(op::GrowLarge{.address = b, .slices = 90});
        EXPECT_EQ(grown.status, Status::ok);
        EXPECT_EQ(grown.added.slices, 20u);
        EXPECT_FALSE(grown.added.zero);
        const auto beyond = perform(op::GrowLarge{.address = b, .slices = 4 * ALL_SLICES});
        EXPECT_EQ(beyond.status, Status::beyond_end);
        EXPECT_EQ(raw(beyond.missing), 4u);
        expect_sound();
        EXPECT_EQ(perform(op::FreeLarge{.address = a + SLICE_SIZE}).status, Status::not_live);
        EXPECT_EQ(perform(op::FreeLarge{.address = a}).status, Status::ok);
        EXPECT_EQ(perform(op::FreeLarge{.address = a}).status, Status::not_live);
        EXPECT_EQ(perform(op::FreeLarge{.address = b}).status, Status::ok);
        EXPECT_EQ(dom.large_bytes.load(), 0u);
        expect_sound();
    });
}

TEST(Ops, AFreeOfNoBlockChangesNothing) {
    in_domain<1>([] {
        Heap* h = new_heap();
        PageDesc* page = page_of(pop(h, class_of(512)));
        const auto freed = [&](u32 index) {
            return perform(op::FreeBlock{.heap = h, .page = page, .index = index}).status;
        };
        EXPECT_EQ(freed(NO_BLOCK), Status::not_live);
        EXPECT_EQ(freed(MAX_BLOCKS), Status::not_live);
        EXPECT_EQ(freed(1), Status::not_live) << "at hand";
        EXPECT_EQ(freed(0), Status::ok);
        expect_sound();
    });
}

TEST(Ops, ALargeObjectThatWasSentCanBeFreedOnce) {
    in_domain<1>([] {
        const auto taken = perform(op::TakeRun{.slices = 4, .alignment = 1});
        perform(op::MakeLarge{.run = taken.run});
        desc_of(taken.run.first)->tag.fetch_or(TAG_SHARED);
        EXPECT_EQ(perform(op::FreeLarge{.address = taken.run.address()}).status, Status::ok);
        EXPECT_EQ(perform(op::FreeLarge{.address = taken.run.address()}).status, Status::not_live);
        expect_sound();
    });
}

TEST(Ops, LargeObjectsAreCommittedFromTheirStart) {
    in_child([] {
        make_domain();
        add_chunks(0, 2, true, false);
        auto taken = perform(op::TakeRun{.slices = 5, .alignment = 1});
        taken.run.committed = 3 * SLICE_SIZE;
        perform(op::MakeLarge{.run = taken.run});
        const u64 a = taken.run.address();
        const PageDesc* d = desc_of(taken.run.first);
        EXPECT_EQ(d->committed, 3 * SLICE_SIZE);
        perform(op::GrowLarge{.address = a, .slices = 7});
        EXPECT_EQ(d->committed, 3 * SLICE_SIZE) << "the room before it is not committed";
        perform(op::CommitLarge{.address = a, .slices = 6});
        EXPECT_EQ(d->committed, 6 * SLICE_SIZE);
        expect_sound();
        perform(op::ShrinkLarge{.address = a, .slices = 4});
        EXPECT_EQ(d->committed, 4 * SLICE_SIZE);
        perform(op::GrowLarge{.address = a, .slices = 7});
        EXPECT_EQ(d->committed, 6 * SLICE_SIZE) << "what was given back can be written still";
        expect_sound();
        perform(op::FreeLarge{.address = a});
        EXPECT_EQ(perform(op::TakeRun{.slices = 7, .alignment = 1}).run.committed, 6 * SLICE_SIZE);
    });
}

TEST(Ops, ThereAreAsManyHeapsAsMapped) {
    in_child([] {
        make_domain();
        for (u32 i = 1; i <= HEAPS_PER_STEP; ++i) ASSERT_EQ(new_heap()->id(), i);
        EXPECT_EQ(perform(op::AcquireHeap{}).status, Status::need_heaps);
        abandon(heap_of_id(5));
        EXPECT_EQ(new_heap()->id(), 5u) << "a heap without pages is used again";
        expect_sound();
    });
}

}  // namespace
}  // namespace aep
