// Purpose: unit tests of dsm-core/heap/check.hpp: each kind of damage is found and named, and a
// sound heap is not
//          accused.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <functional>
#include <string>
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// A domain with a bit of everything: full, queued and idle pages, a medium page, large objects,
/// two heaps, remote marks, an abandoned heap, dirty and clean free slices.
struct Scene {
    Heap* h;
    Heap* other;
    Heap* orphan;
    std::vector<uptr> blocks;  // of 1 KiB, in h: 64 a page
    uptr medium;
    uptr large;
    PageDesc* full;    // on h's full list
    PageDesc* queued;  // in h's queue of 1 KiB
    ChunkDesc* chunk;  // has used, dirty and zero slices
    SliceIndex free;   // a dirty slice of it

    Scene() {
        make_domain();
        add_chunks(0, 4);
        h = new_heap();
        other = new_heap();
        orphan = new_heap();
        for (int i = 0; i < 64 * 3; ++i) blocks.push_back(pop(h, class_of(1024)));
        for (int i = 70; i < 80; ++i) push(h, blocks[i]);
        medium = pop(h, class_of(20'000));
        const auto run = perform(op::TakeRun{.slices = 70, .alignment = 1});
        perform(op::MakeLarge{.run = run.run});
        large = run.run.address();
        for (int i = 0; i < 20; ++i) pop(other, class_of(4096));
        push_remote(pop(other, 3));
        pop(orphan, 5);
        abandon(orphan);
        const auto given = perform(op::TakeRun{.slices = 2, .alignment = 1});
        EXPECT_EQ(given.status, Status::ok);
        perform(op::GiveRun{.first = given.run.first, .slices = 2, .now = 7});
        full = page_of(blocks[0]);
        queued = page_of(blocks[70]);
        free = given.run.first;
        chunk = chunk_desc(chunk_of(free));
    }
};

/// That `damage` makes the check fail with a text that contains `said`.
void finds(const char* said, const std::function<void(Scene&)>& damage) {
    SCOPED_TRACE(said);
    in_child([&] {
        Scene scene;
        expect_sound();
        damage(scene);
        CheckReport report;
        EXPECT_FALSE(check_domain(domain(), report)) << "not found: " << said;
        const std::string text = report.broken == nullptr ? "" : report.broken;
        EXPECT_NE(text.find(said), std::string::npos) << report << " instead of: " << said;
        EXPECT_NE(report.object, 0u);
    });
}

TEST(Check, CountsWhatItSees) {
    in_child([] {
        Scene scene;
        CheckReport report;
        ASSERT_TRUE(check_domain(domain(), report)) << report;
        EXPECT_EQ(report.chunks, 4u);
        EXPECT_EQ(report.pages, 3u + 1 + 2 + 1 + 1);
        EXPECT_EQ(report.live_blocks, 64u * 3 - 10 + 1 + 20 + 1 + 1);
        EXPECT_EQ(report.remote_marks, 1u);
        EXPECT_EQ(report.large_objects, 1u);
    });
}

TEST(Check, Chunks) {
    finds(
        "zero slices are not free", [](Scene& s) { s.chunk->zero |= ~s.chunk->free; });
    finds(
        "dirty slices are not free", [](Scene& s) { s.chunk->dirty |= ~s.chunk->free; });
    finds(
        "dirty and zero", [](Scene& s) { s.chunk->zero |= s.chunk->dirty; });
    finds(
        "rank", [](Scene& s) { s.chunk->rank ^= 1; });
    finds(
        "not on the dirty list",
        [](Scene&) { chunk_desc(ChunkIndex{3})->zero = 0, chunk_desc(ChunkIndex{3})->dirty = 1; });
    finds(
        "thinks that it is on the dirty list",
        [](Scene&) { chunk_desc(ChunkIndex{3})->on_dirty_list = 1; });
    finds(
        "has a tag", [](Scene& s) { desc_of(s.free)->tag.store(TAG_TAIL); });
    finds(
        "neither free nor in a run", [](Scene& s) { s.full->tag.store(TAG_FREE); });
    finds(
        "count of held chunks", [](Scene&) { add_chunks(3, 1); });
    finds(
        "alloc bits where no page begins", [](Scene& s) { block_bits_of(s.free)[9].live = 4; });
    finds(
        "remote marks where no page begins",
        [](Scene& s) { block_bits_of(slice_at(s.large))[0].freed = 1; });
    finds("a slice of a run is free", [](Scene& s) {
        perform(op::GiveRun{.first = SliceIndex{raw(slice_at(s.large)) + 5}, .slices = 1});
    });
    finds(
        "neither free nor in a run",
        [](Scene& s) {
            desc_of(slice_at(s.large))->slices -= 1;
            desc_of(slice_at(s.large))->committed -= SLICE_SIZE;
        });
    finds(
        "committed part", [](Scene& s) { desc_of(slice_at(s.large))->committed += SLICE_SIZE; });
    finds(
        "committed part", [](Scene& s) { desc_of(slice_at(s.large))->committed -= 1; });
    finds("reserved", [](Scene&) { perform(op::TakeRun{.slices = 1, .alignment = 1}); });
}

TEST(Check, Pages) {
    finds(
        "no size class", [](Scene& s) { s.full->size_class = 99; });
    finds(
        "block size", [](Scene& s) { s.full->size_class += 1; });
    finds(
        "divisor", [](Scene& s) { s.full->magic += 1; });
    finds(
        "block size", [](Scene& s) { s.full->block_size += 16; });
    finds(
        "capacity", [](Scene& s) { s.full->capacity -= 1; });
    finds(
        "word at hand is not the page's", [](Scene& s) { ++s.full->hand_bits; });
    finds(
        "block at hand is a free one", [](Scene& s) { s.queued->hand = ~u64{0}; });
    finds(
        "blocks at hand are elsewhere", [](Scene& s) { s.queued->hand_base += 1024; });
    finds(
        "another one to others", [](Scene& s) { ++s.queued->hand_turn; });
    finds(
        "another slice's", [](Scene& s) { s.full->bits += 64; });
    finds(
        "extended", [](Scene& s) { s.full->extended = 65; });
    finds(
        "beyond what can be written", [](Scene& s) { s.full->committed = SLICE_SIZE - 1; });
    finds(
        "committed beyond the page", [](Scene& s) { s.full->committed = SLICE_SIZE + 1; });
    finds(
        "more live blocks than extended", [](Scene& s) { s.queued->until += 65; });
    finds(
        "does not find its page", [](Scene& s) { page_of(s.medium)[1].head_delta = 2; });
    finds("further slice's tag", [](Scene& s) { page_of(s.medium)[1].tag.store(TAG_FREE); });
}

TEST(Check, Blocks) {
    finds(
        "never extended", [](Scene& s) { page_of(s.medium)->bits[0].live |= u64{1} << 40; });
    finds("never extended", [](Scene& s) { s.full->bits[1].live = 1; });
    finds(
        "count of live blocks",
        [](Scene& s) {
            const uptr block = pop(s.other, 7);
            push(s.other, block);
            page_of(block)->bits[index_of(block) / BLOCKS_A_WORD].live |= u64{1}
                                                                          << index_of(block) % 64;
        });
    finds("count of live blocks", [](Scene& s) { --s.queued->until; });
}

TEST(Check, RemoteFrees) {
    finds(
        "not live", [](Scene& s) { s.queued->bits[0].freed = u64{1} << 6; });
    finds(
        "summary does not name", [](Scene& s) { s.full->bits[0].freed = 1; });
    finds(
        "never collected", [](Scene& s) { mark(s.blocks[0]); });
    finds("thinks that it is on a remote list", [](Scene& s) { s.full->remote_queued = 1; });
    finds(
        "a page on a remote list does not know it",
        [](Scene& s) {
            PageDesc* d = s.other->remote_pages;
            uptr bad = 0;
            page_collect_remote(d, bad);
            d->remote_queued = 0;
        });
    finds("queued to no heap", [](Scene& s) { heap_of_id(0)->remote_pages = s.full; });
}

TEST(Check, Heaps) {
    finds(
        "occupied", [](Scene& s) { s.h->occupied[0] ^= 1; });
    finds(
        "empty page", [](Scene& s) { s.h->queues[60].head = nullptr; });
    finds(
        "links disagree", [](Scene& s) { s.queued->prev = s.full; });
    finds(
        "queue of another class",
        [](Scene& s) {
            std::swap(s.h->queues[class_of(1024)], s.h->queues[class_of(1000) - 1]),
                s.h->occupied[0] ^= 3ull << (class_of(1024) - 1);
        });
    finds(
        "a queued page stands elsewhere",
        [](Scene& s) { page_set_standing(s.queued, Standing::full); });
    finds(
        "a queued page stands elsewhere",
        [](Scene& s) { page_set_standing(s.queued, Standing::alone); });
    finds("full list does not know it",
          [](Scene& s) { page_set_standing(s.full, Standing::queued); });
    finds(
        "on the full list is not full",
        [](Scene& s) {
            for (u32 i = 0; i < page_slack(s.full); ++i) push_remote(s.blocks[i]);
            uptr bad = 0;
            page_collect_remote(s.full, bad);
        });
    finds(
        "a direct entry", [](Scene& s) { s.h->direct[3] = s.queued; });
    finds(
        "more pages than it has", [](Scene& s) { --s.h->page_count; });
    finds(
        "more pages than it lists", [](Scene& s) { ++s.h->page_count; });
    finds(
        "another heap's page",
        [](Scene& s) { s.full->tag = (s.full->tag & TAG_KIND_MASK) | s.other->tag; });
    finds(
        "heap that is none",
        [](Scene& s) { s.full->tag = (s.full->tag & TAG_KIND_MASK) | 9 << TAG_OWNER_SHIFT; });
    finds(
        "another's tag", [](Scene& s) { s.h->tag = s.other->tag; });
    finds(
        "on no list", [](Scene&) { domain().abandoned = nullptr; });
    finds(
        "count of abandoned heaps", [](Scene&) { domain().abandoned_count = 2; });
    finds(
        "list of another state", [](Scene& s) { s.orphan->state = HeapState::live; });
    finds(
        "an unused heap has pages", [](Scene& s) { s.h->state = HeapState::unused; });
    finds(
        "an operation is open", [](Scene& s) { s.h->sequence = 7; });
    finds(
        "an operation is open", [](Scene&) { domain().visitors = 1; });
    finds(
        "empty page was written", [](Scene&) { domain().empty_page.until = 1; });
    finds(
        "count of large objects", [](Scene&) { domain().large_count = 2; });
    finds("bytes of large objects", [](Scene&) { domain().large_bytes = 2; });
}

TEST(Check, OneHeapInDepth) {
    in_child([] {
        Scene s;
        CheckReport report;
        EXPECT_TRUE(check_heap(s.h, s.queued, report)) << report;
        s.queued->bits[0].live ^= u64{1} << 6;
        EXPECT_TRUE(check_heap(s.h, s.full, report)) << report << ": another page was asked for";
        EXPECT_FALSE(check_heap(s.h, s.queued, report));
    });
}

}  // namespace
}  // namespace aep
