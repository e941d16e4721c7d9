// Purpose: how often a refill of a joined process enters the image, whatever it needs.
// Who calls it: ctest.
// Crash rule: see fixture.hpp.
#include <vector>

#include "shim/driver/process.hpp"
#include "shim/driver/slow_path.hpp"
#include "tests/client/fixture.hpp"

namespace aep::test {
namespace {

constexpr usize BLOCK = 1024;
constexpr Settings KEEPS_MEMORY{.decay_ms = 3'600'000};

/// What one call of malloc did.
struct Refilled {
    u64 entries;  // into the image
    u64 pages;    // that the heap has more
    u32 chunks;   // that the domain has more
};

Refilled refilled(std::vector<void*>& blocks, usize bytes) {
    const u64 entered = thread_slot->operations, pages = own_heap->page_count;
    const u32 chunks = domain().arena.chunks_held();
    blocks.push_back(allocate(bytes));
    EXPECT_NE(blocks.back(), nullptr);
    return {thread_slot->operations - entered, own_heap->page_count - pages,
            domain().arena.chunks_held() - chunks};
}

/// Whether slices are left, which would have no memory.
bool has_free_slices() {
    const Arena& arena = domain().arena;
    for (u32 c = arena.chunk_first(); c < arena.chunk_limit(); ++c) {
        const ChunkDesc* d = chunk_desc(ChunkIndex{c});
        if (arena.holds(d) && d->free != 0) return true;
    }
    return false;
}

void free_all(std::vector<void*>& blocks) {
    for (void* block : blocks) deallocate(block);
    blocks.clear();
}

TEST(Refill, EntersAsOftenAsItNeedsSomething) {
    const Host host;
    host.in_client(
        [] {
            deallocate(allocate(BLOCK));
            std::vector<void*> blocks;
            u32 commits = 0, growths = 0;
            while (growths < 2 || has_free_slices()) {
                const Refilled r = refilled(blocks, BLOCK);
                if (r.chunks != 0) {
                    EXPECT_EQ(r.entries, 3u) << "asked, claimed, asked again with a chunk";
                    ++growths;
                } else if (r.pages != 0) {
                    EXPECT_EQ(r.entries, 2u) << "asked, and again with memory";
                    ++commits;
                } else {
                    EXPECT_LE(r.entries, 2u);  // of a page that may be extended
                }
            }
            EXPECT_GT(commits, 60u);
            const usize all = blocks.size();
            free_all(blocks);
            u32 pages = 0;
            while (blocks.size() < all) {
                const Refilled r = refilled(blocks, BLOCK);
                if (r.pages == 0) continue;
                EXPECT_EQ(r.entries, 1u) << "a run with memory";
                EXPECT_EQ(r.chunks, 0u);
                ++pages;
            }
            EXPECT_GT(pages, 60u);
            // Pages of the heap's, of which every other block came back.
            constexpr usize SOME_PAGES = 4 * SLICE_SIZE / BLOCK;
            std::vector<void*> kept(blocks.begin() + SOME_PAGES, blocks.end());
            for (usize i = 0; i < SOME_PAGES; i += 2) {
                deallocate(blocks[i]);
                kept.push_back(blocks[i + 1]);
            }
            u32 again = 0;
            for (usize i = 0; i < SOME_PAGES / 4; ++i) {
                const Refilled r = refilled(kept, BLOCK);
                EXPECT_LE(r.entries, 1u);
                EXPECT_EQ(r.pages, 0u);
                again += r.entries != 0;
            }
            EXPECT_GT(again, 0u);
            free_all(kept);
            trim();
            expect_sound();
        },
        KEEPS_MEMORY);
}

TEST(Refill, LargeBlocksDo) {
    const Host host;
    host.in_client(
        [] {
            deallocate(allocate(BLOCK));
            constexpr usize LARGE = MAX_CLASS_SIZE + SLICE_SIZE;
            std::vector<void*> blocks;
            u32 growths = 0;
            while (growths < 2) {
                const Refilled r = refilled(blocks, LARGE);
                if (r.chunks != 0) {
                    EXPECT_EQ(r.entries, 4u) << "asked, claimed, with a chunk, with memory";
                    ++growths;
                } else {
                    EXPECT_EQ(r.entries, 2u) << "asked, and again with memory";
                }
            }
            const usize all = blocks.size();
            free_all(blocks);
            while (blocks.size() < all) EXPECT_EQ(refilled(blocks, LARGE).entries, 1u);
            free_all(blocks);
            expect_sound();
        },
        KEEPS_MEMORY);
}

}  // namespace
}  // namespace aep::test
