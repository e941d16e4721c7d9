// Purpose: unit tests of dsm-core/heap/page.hpp: pop, push, remote marks, extension, collection,
// rebuilding. Who calls it: ctest. Crash rule: each test runs in a child of its own.
#include <algorithm>
#include <set>
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// Pops everything the page can ever give.
std::vector<uptr> exhaust(PageDesc* d) {
    std::vector<uptr> blocks;
    for (;;) {
        while (d->free_count != 0) blocks.push_back(page_pop(d, d->free_count));
        if (d->extended == d->capacity) return blocks;
        page_extend(d);
    }
}

PageDesc* fresh_page(Heap* h, usize size) { return page_for(h, class_of(size)); }

TEST(Page, GivesEveryBlockOnceInAddressOrder) {
    in_child([] {
        make_domain();
        add_chunks(0, 32);
        Heap* h = new_heap();
        for (u32 c = 0; c < CLASS_COUNT; ++c) {
            PageDesc* d = page_for(h, c);
            const std::vector<uptr> blocks = exhaust(d);
            ASSERT_EQ(blocks.size(), (usize{d->slices} << SLICE_SHIFT) / class_size(c));
            for (usize i = 0; i < blocks.size(); ++i)
                ASSERT_EQ(blocks[i], d->base + i * class_size(c)) << c;
            ASSERT_EQ(page_live_blocks(d), blocks.size());
            ASSERT_LE(blocks.back() + class_size(c), d->base + (usize{d->slices} << SLICE_SHIFT));
        }
        expect_sound();
    });
}

TEST(Page, PushedBlocksComeBackLastFirst) {
    in_child([] {
        make_domain();
        add_chunks(0, 1);
        PageDesc* d = fresh_page(new_heap(), 48);
        const std::vector<uptr> blocks = exhaust(d);
        for (const usize i : {5u, 900u, 33u}) {
            ASSERT_TRUE(page_clear_bit(d, bit_of(blocks[i])));
            page_push(d, static_cast<u32>(blocks[i] - d->base));
        }
        EXPECT_EQ(page_pop_small(d, d->free_count), blocks[33]);
        EXPECT_EQ(page_pop(d, d->free_count), blocks[900]);
        EXPECT_EQ(page_pop_small(d, d->free_count), blocks[5]);
        EXPECT_EQ(d->free_count, 0u);
        EXPECT_EQ(page_live_blocks(d), blocks.size());
    });
}

TEST(Page, OnlyLiveBlocksCanBeFreed) {
    in_child([] {
        make_domain();
        add_chunks(0, 8);
        Heap* h = new_heap();
        for (const usize size : {16u, 48u, 112u, 1000u, 8192u, 9216u, 131072u}) {
            PageDesc* d = fresh_page(h, size);
            const uptr block = page_pop(d, d->free_count);
            for (u32 wrong = 1; wrong < d->block_size; wrong += d->block_size < 2000 ? 1 : 997) {
                ASSERT_FALSE(page_clear_bit(
                    d, bit_index(static_cast<u32>(block - d->base) + wrong, d->bit_shift)))
                    << size << " + " << wrong;
            }
            ASSERT_FALSE(page_clear_bit(
                d, bit_index(static_cast<u32>(block - d->base) + d->block_size, d->bit_shift)))
                << "never handed out";
            ASSERT_TRUE(page_clear_bit(d, bit_of(block)));
            ASSERT_FALSE(page_clear_bit(d, bit_of(block))) << "freed twice";
        }
    });
}

TEST(Page, RemoteMarksAreCollectedOnce) {
    in_child([] {
        make_domain();
        add_chunks(0, 1);
        PageDesc* d = fresh_page(new_heap(), 32);
        const std::vector<uptr> blocks = exhaust(d);
        EXPECT_EQ(mark(blocks[0]), RemoteMark::first_of_page);
        EXPECT_EQ(mark(blocks[1]), RemoteMark::marked);
        EXPECT_EQ(mark(blocks[2000]), RemoteMark::marked) << "another word, but the page has marks";
        EXPECT_EQ(mark(blocks[1]), RemoteMark::already_marked);
        EXPECT_TRUE(page_is_marked(d, bit_of(blocks[2000])));
        EXPECT_EQ(page_live_blocks(d), blocks.size()) << "live until the owner takes them in";
        uptr bad = 0;
        EXPECT_EQ(page_collect_remote(d, bad), 3u);
        EXPECT_EQ(bad, 0u);
        EXPECT_EQ(d->free_count, 3u);
        EXPECT_FALSE(page_is_live(d, bit_of(blocks[0])));
        EXPECT_EQ(page_collect_remote(d, bad), 0u);
        EXPECT_EQ(mark(blocks[7]), RemoteMark::first_of_page)
            << "queued again after it was collected";
        EXPECT_EQ(page_collect_remote(d, bad), 1u);
        std::set<uptr> again;
        while (d->free_count != 0) again.insert(page_pop(d, d->free_count));
        EXPECT_EQ(again, (std::set<uptr>{blocks[0], blocks[1], blocks[7], blocks[2000]}));
    });
}

TEST(Page, AMarkOnAFreeBlockIsNamedAndDropped) {
    in_child([] {
        make_domain();
        add_chunks(0, 1);
        PageDesc* d = fresh_page(new_heap(), 64);
        const std::vector<uptr> blocks = exhaust(d);
        mark(blocks[10]);
        mark(blocks[11]);
        ASSERT_TRUE(page_clear_bit(d, bit_of(blocks[10])));  // the owner frees it, too
        page_push(d, static_cast<u32>(blocks[10] - d->base));
        uptr bad = 0;
        EXPECT_EQ(page_collect_remote(d, bad), 1u);
        EXPECT_EQ(bad, blocks[10]);
        EXPECT_EQ(d->free_count, 2u) << "neither is on the stack twice";
    });
}

TEST(Page, TrackedPopsKnowWhatWasNeverUsed) {
    in_child([] {
        make_domain();
        add_chunks(0, 4);
        Heap* h = new_heap();
        PageDesc* d = fresh_page(h, 2000);
        bool fresh = false;
        const uptr first = page_pop_tracked(d, d->free_count, fresh);
        EXPECT_TRUE(fresh);
        const uptr second = page_pop_tracked(d, d->free_count, fresh);
        EXPECT_TRUE(fresh);
        for (const uptr block : {first, second}) push(h, block);
        page_pop_tracked(d, d->free_count, fresh);
        EXPECT_FALSE(fresh);
        page_pop_tracked(d, d->free_count, fresh);
        EXPECT_FALSE(fresh);
        page_pop_tracked(d, d->free_count, fresh);
        EXPECT_TRUE(fresh) << "the third block";
    });
}

TEST(Page, DirtyRunsAreNeverFresh) {
    in_child([] {
        make_domain();
        add_chunks(0, 1, false);
        bool fresh = true;
        PageDesc* d = fresh_page(new_heap(), 4096);
        page_pop_tracked(d, d->free_count, fresh);
        EXPECT_FALSE(fresh);
    });
}

TEST(Page, RebuildMendsATornStackFromTheBitmap) {
    in_child([] {
        make_domain();
        add_chunks(0, 2);
        Heap* h = new_heap();
        for (const usize size : {16u, 48u, 80u, 3000u, 10000u}) {
            PageDesc* d = fresh_page(h, size);
            std::vector<uptr> blocks;
            while (d->free_count != 0) blocks.push_back(page_pop(d, d->free_count));
            // One block went back whole, one is marked by another thread; a free lost its push, and
            // the stack is noise.
            push(h, blocks[0]);
            mark(blocks[1]);
            page_clear_bit(d, bit_of(blocks[2]));
            d->free_count = 77;
            d->top = 12345;
            for (u32 i = 0; i < d->extended; ++i) d->stack[i] = static_cast<u16>(i * 31);
            page_rebuild(d);
            EXPECT_EQ(d->free_count, 3u);
            EXPECT_FALSE(page_is_marked(d, bit_of(blocks[1])));
            EXPECT_EQ(page_pop(d, d->free_count), blocks[0]) << "in address order";
            EXPECT_EQ(page_pop(d, d->free_count), blocks[1]);
            EXPECT_EQ(page_pop(d, d->free_count), blocks[2]);
            CheckReport report;
            EXPECT_TRUE(check_heap(h, d, report)) << report;
        }
    });
}

}  // namespace
}  // namespace aep
