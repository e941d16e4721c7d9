// Purpose: unit tests of dsm-core/heap/take_back.hpp: which pages of another thread's heap are
// taken,
//          and every moment of its owner's and the freers' steps at which they are not.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

u64 taken_back(Heap* h) {
    const auto r = perform(op::TakeBack{.heap = h, .now = 1});
    return r.status == Status::ok ? r.slices : 0;
}

constexpr usize SIZE = 4096;
constexpr u32 A_PAGE = SLICE_SIZE / SIZE;

/// `pages` pages' worth of blocks: all but the last page are full.
std::vector<uptr> fill(Heap* h, u32 pages) {
    std::vector<uptr> blocks;
    for (u32 i = 0; i < pages * A_PAGE; ++i) blocks.push_back(pop(h, class_of(SIZE)));
    return blocks;
}

TEST(TakeBack, PagesOnTheFullListThatOthersFreed) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const std::vector<uptr> blocks = fill(h, 5);
        for (const uptr b : blocks) push_remote(b);
        EXPECT_EQ(taken_back(h), 4u) << "all but the page that the owner takes blocks from";
        EXPECT_EQ(h->page_count, 1u);
        expect_sound();
        EXPECT_EQ(taken_back(h), 0u);
        for (u32 i = 0; i < A_PAGE; ++i) EXPECT_NE(pop(h, class_of(SIZE)), 0u);
        expect_sound();
    });
}

TEST(TakeBack, NotWhileABlockLives) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const std::vector<uptr> blocks = fill(h, 3);
        for (u32 i = 1; i < blocks.size(); ++i) push_remote(blocks[i]);
        EXPECT_EQ(taken_back(h), 1u);
        push_remote(blocks[0]);
        EXPECT_EQ(taken_back(h), 1u) << "it stayed queued";
        expect_sound();
    });
}

TEST(TakeBack, QueuedPagesButTheHeadAndOneMore) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const std::vector<uptr> blocks = fill(h, 6);
        // The owner frees as much of each page as brings it back into the queue; others free the
        // rest.
        const u32 slack = page_slack(page_of(blocks[0]));
        for (u32 i = 0; i < blocks.size(); ++i)
            if (i % A_PAGE < slack) push(h, blocks[i]);
        EXPECT_EQ(h->full, nullptr);
        for (u32 i = 0; i < blocks.size(); ++i)
            if (i % A_PAGE >= slack) push_remote(blocks[i]);
        const PageDesc* head = h->queues[class_of(SIZE)].head;
        EXPECT_EQ(taken_back(h), 4u);
        EXPECT_EQ(h->queues[class_of(SIZE)].head, head);
        EXPECT_NE(h->queues[class_of(SIZE)].last, head) << "no page became the only one";
        EXPECT_EQ(h->page_count, 2u);
        expect_sound();
    });
}

TEST(TakeBack, NotWhileTheOwnersFreeOfAFullPageIsUnderWay) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const std::vector<uptr> blocks = fill(h, 4);
        PageDesc* d = page_of(blocks[0]);
        const u32 slack = page_slack(d);
        for (u32 i = slack; i < A_PAGE; ++i) push_remote(blocks[i]);
        for (u32 i = 1; i < slack; ++i) push(h, blocks[i]);
        // The owner frees the last live block: its bit is clear, then it is counted, then filed.
        ASSERT_TRUE(page_clear_bit(d, index_of(blocks[0])));
        EXPECT_EQ(taken_back(h), 0u) << "the bit is clear";
        ASSERT_TRUE(page_regain(d));
        EXPECT_EQ(taken_back(h), 0u) << "counted";
        perform(op::RefilePage{.heap = h, .page = d});
        EXPECT_NE(kind_of(d->tag.load()), u32{TAG_FREE});
        expect_sound();
    });
}

TEST(TakeBack, NotWhileTheOwnersFreeOfAQueuedPageIsUnderWay) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const std::vector<uptr> blocks = fill(h, 4);
        // Three pages in the queue, a fourth is full; the middle one is freed by others but for
        // one.
        const u32 slack = page_slack(page_of(blocks[0]));
        for (u32 i = 0; i < 3 * A_PAGE; ++i)
            if (i % A_PAGE < slack) push(h, blocks[i]);
        PageDesc* d = page_of(blocks[2 * A_PAGE]);
        const PageQueue& q = h->queues[class_of(SIZE)];
        ASSERT_NE(q.head, d);
        for (u32 i = slack + 1; i < A_PAGE; ++i) push_remote(blocks[2 * A_PAGE + i]);
        const uptr last = blocks[2 * A_PAGE + slack];
        EXPECT_EQ(taken_back(h), 0u) << "it lives";
        ASSERT_TRUE(page_clear_bit(d, index_of(last)));
        EXPECT_EQ(taken_back(h), 0u) << "the bit is clear";
        EXPECT_FALSE(page_regain(d));
        EXPECT_EQ(taken_back(h), 1u) << "the owner is done";
        expect_sound();
    });
}

TEST(TakeBack, NotBeforeTheLastFreerIsDoneWithThePage) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const u32 c = class_of(256);  // several words of marks a page
        const u32 a_page = SLICE_SIZE / 256;
        std::vector<uptr> blocks;
        for (u32 i = 0; i < 2 * a_page; ++i) blocks.push_back(pop(h, c));
        PageDesc* d = page_of(blocks[0]);
        const u32 rest = a_page - BLOCKS_A_WORD;
        for (u32 i = 0; i < rest; ++i) push_remote(blocks[i]);
        // The last word's blocks are marked by freers of whom none has got to the summary.
        BlockBits& word = shared_bits(d, rest);
        word.freed.store(~u64{0});
        EXPECT_EQ(taken_back(h), 0u);
        word.freed.store(0);
        for (u32 i = rest; i < a_page; ++i) push_remote(blocks[i]);
        EXPECT_EQ(taken_back(h), 1u);
        expect_sound();
    });
}

TEST(TakeBack, OfAnAbandonedHeapAndNotOfAnUnusedOne) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const std::vector<uptr> blocks = fill(h, 3);
        abandon(h);
        ASSERT_EQ(h->state.load(), HeapState::abandoned);
        for (const uptr b : blocks) push_remote(b);
        EXPECT_EQ(taken_back(h), 2u);
        expect_sound();
        ASSERT_EQ(new_heap(), h) << "it can still be had";
        for (u32 i = 0; i < A_PAGE; ++i) EXPECT_NE(pop(h, class_of(SIZE)), 0u);
        expect_sound();
        Heap* unused = new_heap();
        abandon(unused);
        EXPECT_EQ(taken_back(unused), 0u);
    });
}

TEST(TakeBack, PagesOfOtherOwnersGoOnToThem) {
    in_domain<2>([] {
        Heap* gone = new_heap();
        Heap* h = new_heap();
        Heap* other = new_heap();
        const std::vector<uptr> blocks = fill(gone, 3);
        abandon(gone);
        ASSERT_NE(pop(h, class_of(SIZE)), 0u);  // adopts
        for (u32 i = 0; i < A_PAGE; ++i) push_remote(blocks[i]);
        // As if its freer had read the owner before.
        PageDesc* d = h->remote_pages.exchange(nullptr);
        ASSERT_EQ(d, page_of(blocks[0]));
        other->remote_pages.store(d);
        EXPECT_EQ(taken_back(other), 0u);
        EXPECT_EQ(taken_back(h), 1u);
        expect_sound();
    });
}

}  // namespace
}  // namespace aep
