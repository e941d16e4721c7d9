// Purpose: unit tests of what happens between heaps: remote frees, abandoned heaps, adoption, and
// every order in which
//          a freer and the owner's end can meet.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

TEST(Adoption, AnEndedThreadsPagesGoToWhoNeedsPages) {
    in_child([] {
        Domain& dom = make_domain();
        add_chunks(0, 4);
        Heap* gone = new_heap();
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        std::vector<uptr> blocks;
        for (int i = 0; i < 16 * 2 + 3; ++i) blocks.push_back(pop(gone, c));
        abandon(gone);
        EXPECT_EQ(dom.abandoned_count.load(), 1u);
        expect_sound();
        const uptr mine = pop(h, c);
        EXPECT_EQ(page_of(mine), page_of(blocks.back())) << "from the adopted page";
        EXPECT_EQ(h->page_count, 3u);
        EXPECT_EQ(dom.abandoned_count.load(), 0u);
        EXPECT_EQ(gone->state.load(), HeapState::unused);
        for (const uptr block : blocks) {
            EXPECT_EQ(owner(block), h->id());
            EXPECT_TRUE(push(h, block));
        }
        expect_sound();
    });
}

TEST(Adoption, AMediumPagesTailsChangeHandsToo) {
    in_domain<2>([] {
        Heap* gone = new_heap();
        const uptr block = pop(gone, class_of(100'000));
        abandon(gone);
        Heap* h = new_heap();
        ASSERT_EQ(h, gone) << "a new thread continues an abandoned heap";
        abandon(h);
        Heap* first = new_heap();
        Heap* second = new_heap();
        ASSERT_EQ(first, gone);
        abandon(first);
        ASSERT_NE(pop(second, 0), 0u);  // needs a page, so adopts
        EXPECT_EQ(owner(block), second->id());
        expect_sound();
        EXPECT_TRUE(push(second, block));
        expect_sound();
    });
}

TEST(Adoption, WhatOthersFreedGoesWithTheThread) {
    in_domain<1>([] {
        Heap* h = new_heap();
        std::vector<uptr> blocks;
        for (int i = 0; i < 8; ++i) blocks.push_back(pop(h, class_of(8192)));
        for (const uptr block : blocks) push_remote(block);
        abandon(h);
        EXPECT_EQ(h->state.load(), HeapState::unused) << "nobody need adopt it";
        EXPECT_EQ(h->page_count, 0u);
        expect_sound();
    });
}

TEST(Adoption, ATrimTakesOverWhatEndedThreadsLeft) {
    in_domain<1>([] {
        Heap* ended = new_heap();
        Heap* mine = new_heap();
        const uptr block = pop(ended, class_of(512));
        abandon(ended);
        perform(op::Trim{.heap = mine});
        EXPECT_EQ(owner(block), mine->id());
        EXPECT_EQ(ended->state.load(), HeapState::unused);
        expect_sound();
    });
}

TEST(Adoption, NothingStaysAtTheHandOfAThreadThatEnded) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const uptr block = pop(h, class_of(512));
        ASSERT_NE(page_hand(page_of(block)), 0u);
        abandon(h);
        EXPECT_EQ(page_hand(page_of(block)), 0u) << "in the middle of a queue nobody would see it";
        EXPECT_EQ(page_live(page_of(block)), 1u);
        expect_sound();
    });
}

TEST(Adoption, AHeapWithoutBlocksLeavesNothing) {
    in_child([] {
        Domain& dom = make_domain();
        add_chunks(0, 2);
        Heap* h = new_heap();
        for (u32 c = 0; c < 20; ++c) push(h, pop(h, c));
        abandon(h);
        EXPECT_EQ(h->state.load(), HeapState::unused);
        EXPECT_EQ(dom.abandoned_count.load(), 0u);
        EXPECT_TRUE(dom.arena.take(2 * ALL_SLICES, 1, 0, false)) << "every page went back";
    });
}

TEST(Remote, FreesReachTheOwner) {
    in_domain<2>([] {
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        std::vector<uptr> blocks;
        for (int i = 0; i < 48; ++i)
            blocks.push_back(pop(h, c));  // three pages, two on the full list
        for (const usize i : {0u, 1u, 20u, 40u}) push_remote(blocks[i]);
        expect_sound();
        drain(h);
        EXPECT_EQ(h->remote_pages.load(), nullptr);
        EXPECT_EQ(page_live_blocks(page_of(blocks[0])), 14u);
        expect_sound();
        for (usize i = 2; i < 16; ++i) push_remote(blocks[i]);
        const PageDesc* d = page_of(blocks[0]);
        drain(h);
        EXPECT_EQ(d->tag.load(), TAG_FREE) << "wholly freed by others: released";
        expect_sound();
    });
}

TEST(Remote, APageIsOnAListOnce) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const uptr block = pop(h, class_of(512));
        push_remote(block);
        queue_page(page_of(block));  // by a freer who was late
        EXPECT_EQ(h->remote_pages.load(), page_of(block));
        EXPECT_EQ(page_of(block)->remote_next, nullptr);
        drain(h);
        EXPECT_EQ(h->remote_pages.load(), nullptr);
        expect_sound();
    });
}

TEST(Remote, AMarkBeforeTheOwnerEndsIsFoundByTheAdopter) {
    in_domain<2>([] {
        Heap* gone = new_heap();
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        std::vector<uptr> blocks;
        for (int i = 0; i < 20; ++i) blocks.push_back(pop(gone, c));
        // Marked, but the freer is stopped before it queues the page; then the owner ends and is
        // adopted.
        EXPECT_EQ(mark(blocks[0]), RemoteMark::first_of_page);
        abandon(gone);
        ASSERT_NE(pop(h, 0), 0u);
        ASSERT_EQ(owner(blocks[0]), h->id());
        queue_page(page_of(blocks[0]));  // the freer goes on
        EXPECT_EQ(gone->remote_pages.load(), nullptr) << "to the owner of now";
        EXPECT_EQ(h->remote_pages.load(), page_of(blocks[0]));
        expect_sound();
        drain(h);
        EXPECT_FALSE(page_is_live(page_of(blocks[0]), index_of(blocks[0])));
        expect_sound();
    });
}

TEST(Remote, AQueuedPageFollowsItsAdopter) {
    in_domain<2>([] {
        Heap* gone = new_heap();
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        std::vector<uptr> blocks;
        for (int i = 0; i < 33; ++i) blocks.push_back(pop(gone, c));
        abandon(gone);
        push_remote(blocks[0]);  // to the abandoned heap
        push_remote(blocks[17]);
        EXPECT_NE(gone->remote_pages.load(), nullptr);
        expect_sound();
        ASSERT_NE(pop(h, 0), 0u);
        EXPECT_EQ(gone->remote_pages.load(), nullptr);
        expect_sound();
        EXPECT_EQ(page_live_blocks(page_of(blocks[0])), 15u);
        EXPECT_EQ(page_live_blocks(page_of(blocks[17])), 15u);
        expect_sound();
    });
}

TEST(Remote, APageOnAFormerOwnersListIsSentOn) {
    in_domain<2>([] {
        Heap* former = new_heap();
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        const uptr block = pop(former, c);
        PageDesc* d = page_of(block);
        mark(block);
        abandon(former);
        ASSERT_NE(pop(h, 0), 0u);  // adopts
        // A freer that read the owner before the adoption pushes to the former one's list only now.
        d->remote_queued.store(1);
        d->remote_next = former->remote_pages.load();
        former->remote_pages.store(d);
        expect_sound();  // not lost: whoever uses that heap next sends it on
        Heap* reused = new_heap();
        ASSERT_EQ(reused, former);
        drain(reused);
        EXPECT_EQ(h->remote_pages.load(), d);
        expect_sound();
        drain(h);
        EXPECT_FALSE(page_is_live(d, index_of(block)));
        expect_sound();
    });
}

TEST(Remote, APageWaitsForTheFreerThatHasToQueueIt) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        std::vector<uptr> blocks;
        for (int i = 0; i < 32; ++i) blocks.push_back(pop(h, c));
        PageDesc* d = page_of(blocks[0]);
        ASSERT_EQ(mark(blocks[0]), RemoteMark::first_of_page);
        // Until the freer has queued the page, whatever the owner does, the block is not taken in:
        // the page cannot be released and become something else under the freer's hands.
        for (int i = 1; i < 17; ++i) push(h, blocks[i]);  // 16 is the second page's
        for (int i = 0; i < 40; ++i) push(h, pop(h, c));
        perform(op::Trim{.heap = h});
        EXPECT_TRUE(page_is_live(d, index_of(blocks[0])));
        EXPECT_NE(d->tag.load() & TAG_REMOTE, 0u);
        queue_page(d);  // the freer goes on
        expect_sound();
        drain(h);
        EXPECT_EQ(d->tag.load() & TAG_REMOTE, 0u);
        EXPECT_FALSE(page_is_live(d, index_of(blocks[0])));
        expect_sound();
    });
}

TEST(Remote, ADoubleFreeByAnotherThreadIsReported) {
    in_domain<1>([] {
        Heap* h = new_heap();
        const uptr a = pop(h, class_of(64));
        const uptr b = pop(h, class_of(64));
        push_remote(a);
        push(h, a);  // the owner too
        push_remote(b);
        const auto reply = perform(op::Refill{.heap = h, .size_class = class_of(100'000)});
        EXPECT_EQ(reply.twice_freed, a);
        EXPECT_FALSE(page_is_live(page_of(b), index_of(b)));
        expect_sound();
    });
}

}  // namespace
}  // namespace aep
