// Purpose: a page against a model of what is true of it, with every kind of step at random, in memory that is
//          committed bit by bit.
// Who calls it: ctest.
// Crash rule: the test runs in a child of its own.
#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// A page and what is true of it: the blocks that were taken, marked by others, and either.
struct PageModel {
    Heap* heap;
    PageDesc* page;
    u32 size_class;
    std::mt19937& random;
    std::vector<uptr> live;
    std::set<uptr> marked, all;

    PageModel(Heap* owner, u32 number, std::mt19937& source)
        : heap(owner), size_class(number), random(source) {
        const auto taken =
            perform(op::TakeRun{.heap = heap, .slices = page_slices(size_class), .alignment = 1});
        aep::Run run = taken.run;
        run.committed = commit_goal(size_class, 0);
        page = perform(op::Refill{.heap = heap, .size_class = size_class, .run = run}).page;
    }

    void step() {
        const u32 what = static_cast<u32>(random() % 100);
        if (what < 55) {
            take();
        } else if (what < 85 && !live.empty()) {
            free_one();
        } else if (what < 93 && !live.empty()) {
            mark_one();
        } else if (what < 96) {
            collect(what == 95);
        } else if (page->extended != page->capacity) {
            const usize used = usize{page->extended} * page->block_size;
            page->committed = std::max<usize>(page->committed, commit_goal(size_class, used));
        }
        ASSERT_EQ(page_live(page), live.size() + marked.size());
    }

    void take() {
        if (!page_seek(page) && !page_extend(page)) return;
        uptr block = 0;
        ASSERT_TRUE(page_take(page, block));
        ASSERT_LE(block + page->block_size, base_of(page) + page->committed);
        ASSERT_TRUE(all.insert(block).second) << "handed out twice";
        live.push_back(block);
    }

    void free_one() {
        const uptr block = any_live();
        ASSERT_TRUE(page_clear_bit(page, index_of(block)));
        page_regain(page);
        ASSERT_FALSE(page_clear_bit(page, index_of(block))) << "freed twice";
        all.erase(block);
    }

    void mark_one() {
        const uptr block = any_live();
        ASSERT_NE(mark(block), RemoteMark::already_marked);
        ASSERT_EQ(mark(block), RemoteMark::already_marked);
        marked.insert(block);
    }

    void collect(bool by_rebuilding) {
        if (by_rebuilding) {
            page->until = static_cast<u32>(random());
            page_rebuild(page);
        } else {
            uptr bad = 0;
            ASSERT_EQ(page_collect_remote(page, bad), marked.size());
            ASSERT_EQ(bad, 0u);
        }
        for (const uptr block : marked) all.erase(block);
        marked.clear();
    }

    /// One of `live`, which is not among them any more.
    uptr any_live() {
        std::swap(live[random() % live.size()], live.back());
        const uptr block = live.back();
        live.pop_back();
        return block;
    }
};

TEST(Page, AgreesWithAModel) {
    in_child([] {
        make_domain();
        add_chunks(0, 32, true, false);
        Heap* h = new_heap();
        std::mt19937 random(1);
        for (u32 c = 0; c < CLASS_COUNT; c += 5) {
            PageModel model(h, c, random);
            for (int step = 0; step < 1500; ++step) {
                ASSERT_NO_FATAL_FAILURE(model.step());
                if (step % 16 != 0) continue;
                CheckReport report;
                ASSERT_TRUE(check_heap(h, model.page, report)) << report << " at step " << step;
            }
        }
    });
}

}  // namespace
}  // namespace aep
