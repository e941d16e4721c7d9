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
    in_child([] {
        make_domain();
        add_chunks(0, 4);
        Heap* h = new_heap();
        const u32 c = class_of(1024);
        std::vector<uptr> blocks;
        for (int i = 0; i < 64 * 5; ++i) blocks.push_back(pop(h, c));
        EXPECT_EQ(h->page_count, 5u);
        EXPECT_EQ(h->queues[c].head, h->queues[c].last) << "exhausted pages leave the queue";
        EXPECT_EQ(h->direct[direct_index(1024)], h->queues[c].head);
        expect_sound();
        push(h, blocks[0]);  // of a page on the full list
        EXPECT_EQ(h->queues[c].last, page_of(blocks[0]));
        expect_sound();
        for (usize i = 1; i < blocks.size(); ++i) {
            ASSERT_TRUE(push(h, blocks[i]));
            if (i % 16 == 0) expect_sound();
        }
        EXPECT_EQ(h->page_count, 1u) << "all but the last empty page went back";
        perform({.op = Op::trim, .heap = h, .now = 9});
        EXPECT_EQ(h->page_count, 0u);
        EXPECT_EQ(h->direct[direct_index(1024)], &domain().empty_page);
        expect_sound();
    });
}

TEST(Ops, EveryClassIsServedAndReturned) {
    in_child([] {
        make_domain();
        add_chunks(0, 16);
        Heap* h = new_heap();
        std::vector<uptr> blocks;
        for (u32 c = 0; c < CLASS_COUNT; ++c) blocks.push_back(pop(h, c));
        expect_sound();
        for (const uptr block : blocks) {
            EXPECT_TRUE(push(h, block));
            EXPECT_FALSE(push(h, block));
        }
        EXPECT_EQ(h->page_count, CLASS_COUNT);
        perform({.op = Op::trim, .heap = h});
        EXPECT_EQ(h->page_count, 0u);
        expect_sound();
    });
}

TEST(Ops, IdlePagesAreReleasedAtTheSecondLook) {
    in_child([] {
        make_domain();
        add_chunks(0, 16);
        Heap* h = new_heap();
        push(h, pop(h, class_of(512)));
        ASSERT_EQ(h->page_count, 1u);
        // 15 more fresh pages make the first look, the next sixteen the second.
        for (int i = 0; i < 40; ++i) {
            for (int k = 0; k < 8; ++k) ASSERT_NE(pop(h, class_of(8192)), 0u);
        }
        EXPECT_EQ(h->queues[class_of(512)].last, nullptr);
        expect_sound();
    });
}

TEST(Ops, AFreedBlockIsReusedBeforeAFreshPage) {
    in_child([] {
        make_domain();
        add_chunks(0, 1);
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
    in_child([] {
        make_domain();
        add_chunks(0, 1);
        Heap* h = new_heap();
        const Reply taken = perform({.op = Op::take_run, .heap = h, .a = 4, .b = 1});
        ASSERT_EQ(taken.status, Status::ok);
        CheckReport report;
        EXPECT_FALSE(check_domain(domain(), report))
            << "between operations a reserved run is a loss";
        EXPECT_TRUE(check_domain(domain(), report, CheckMoment::underway)) << report;
        EXPECT_EQ(report.reserved_runs, 1u);
        perform({.op = Op::give_run, .a = raw(taken.run.first), .b = 4});
        expect_sound();
    });
}

u64 large_birth(u32 slices, u32 alignment = 1) {
    const Reply taken = perform({.op = Op::take_run, .a = slices, .b = alignment});
    EXPECT_EQ(taken.status, Status::ok);
    perform({.op = Op::large_birth, .a = raw(taken.run.first), .b = slices});
    return taken.run.address();
}

TEST(Ops, LargeObjectsGrowShrinkAndGo) {
    in_child([] {
        Domain& dom = make_domain();
        add_chunks(0, 4);
        const u64 a = large_birth(3);
        const u64 b = large_birth(100);
        EXPECT_EQ(dom.large_count.load(), 2u);
        EXPECT_EQ(perform({.op = Op::grow_large, .a = a, .b = 4}).status, Status::miss);
        perform({.op = Op::shrink_large, .a = b, .b = 70});
        expect_sound();
        const Reply grown = perform({.op = Op::grow_large, .a = b, .b = 90});
        EXPECT_EQ(grown.status, Status::ok);
        EXPECT_EQ(grown.run.slices, 20u);
        EXPECT_FALSE(grown.run.zero);
        const Reply beyond = perform({.op = Op::grow_large, .a = b, .b = 4 * ALL_SLICES});
        EXPECT_EQ(beyond.status, Status::beyond_end);
        EXPECT_EQ(beyond.value, 4u);
        expect_sound();
        EXPECT_EQ(perform({.op = Op::free_large, .a = a + SLICE_SIZE}).status, Status::not_live);
        EXPECT_EQ(perform({.op = Op::free_large, .a = a}).status, Status::ok);
        EXPECT_EQ(perform({.op = Op::free_large, .a = a}).status, Status::not_live);
        EXPECT_EQ(perform({.op = Op::free_large, .a = b}).status, Status::ok);
        EXPECT_EQ(dom.large_bytes.load(), 0u);
        expect_sound();
    });
}

TEST(Ops, ThereAreAsManyHeapsAsMapped) {
    in_child([] {
        make_domain();
        for (u32 i = 1; i <= HEAPS_PER_STEP; ++i) ASSERT_EQ(new_heap()->id(), i);
        EXPECT_EQ(perform({.op = Op::heap_acquire}).status, Status::need_heaps);
        abandon(heap_of_id(5));
        EXPECT_EQ(new_heap()->id(), 5u) << "a heap without pages is used again";
        expect_sound();
    });
}

}  // namespace
}  // namespace aep
