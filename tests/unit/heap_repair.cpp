// Purpose: unit tests of repair_after_fork: threads that were stopped anywhere in the fast path,
// locks that were held,
//          heaps whose threads do not exist in the child.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <algorithm>
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

void repair(Heap* survivor) { perform(op::RepairAfterFork{.heap = survivor}); }

TEST(Repair, TornFastPathsOfOtherThreadsAreMended) {
    in_domain<2>([] {
        Heap* mine = new_heap();
        Heap* theirs = new_heap();
        const u32 c = class_of(512);
        std::vector<uptr> blocks;
        for (int i = 0; i < 200; ++i) blocks.push_back(pop(theirs, c));
        const uptr own = pop(mine, c);
        // A word stopped on its way to hand; frees stopped after the bit.
        PageDesc* current = theirs->queues[c].head;
        ASSERT_NE(page_hand(current), 0u);
        const uptr unreturned = pop(theirs, c);
        ASSERT_EQ(page_of(unreturned), current);
        current->hand_bits->live &= ~current->hand;
        current->until -= 1;
        const u32 freed = 3 + page_slack(current);
        for (u32 i = 3; i < freed; ++i)  // on the full list
            ASSERT_TRUE(page_clear_bit(page_of(blocks[i]), index_of(blocks[i])));
        ASSERT_TRUE(page_clear_bit(current, index_of(blocks[199])));
        repair(mine);
        expect_sound();
        EXPECT_EQ(theirs->state.load(), HeapState::abandoned);
        EXPECT_EQ(mine->state.load(), HeapState::live);
        EXPECT_NE(page_of(blocks[3])->standing, Standing::full);
        // Everything that was free is handed out once more, nothing that was live.
        std::vector<uptr> taken;
        for (int i = 0; i < 300; ++i) taken.push_back(pop(mine, c));
        std::sort(taken.begin(), taken.end());
        EXPECT_EQ(std::adjacent_find(taken.begin(), taken.end()), taken.end());
        EXPECT_FALSE(std::binary_search(taken.begin(), taken.end(), unreturned))
            << "its bit was set: the block is its thread's, which is gone";
        for (u32 i = 0; i < 199; ++i) {
            if (i >= 3 && i < freed) {
                EXPECT_TRUE(std::binary_search(taken.begin(), taken.end(), blocks[i])) << i;
                continue;
            }
            ASSERT_FALSE(std::binary_search(taken.begin(), taken.end(), blocks[i])) << i;
            ASSERT_TRUE(push(mine, blocks[i]));
        }
        EXPECT_TRUE(push(mine, own));
        expect_sound();
    });
}

TEST(Repair, AMarkWithoutSummaryOnAPageOfOursIsNotLost) {
    in_domain<2>([] {
        Heap* mine = new_heap();
        new_heap();  // another thread, stopped in a remote free
        const u32 c = class_of(512);
        std::vector<uptr> blocks;
        for (int i = 0; i < 300; ++i) blocks.push_back(pop(mine, c));
        PageDesc* d = page_of(blocks[7]);
        d->bits[index_of(blocks[7]) / 64].freed.fetch_or(u64{1} << (index_of(blocks[7]) % 64));
        repair(mine);
        expect_sound();
        perform(op::Refill{.heap = mine, .size_class = class_of(100'000)});
        EXPECT_FALSE(page_is_live(d, index_of(blocks[7])));
        expect_sound();
    });
}

TEST(Repair, MarksOnOtherThreadsPagesAreTakenIn) {
    in_domain<2>([] {
        Heap* mine = new_heap();
        Heap* theirs = new_heap();
        const u32 c = class_of(512);
        std::vector<uptr> blocks;
        for (int i = 0; i < 130; ++i) blocks.push_back(pop(theirs, c));
        push_remote(blocks[0]);  // complete
        std::vector<int> freed{0, 129};
        for (int i = 1; i < 20; ++i) {
            mark(blocks[i]);
            freed.push_back(i);
        }
        EXPECT_EQ(mark(blocks[129]), RemoteMark::first_of_page);  // not yet queued
        repair(mine);
        expect_sound();
        for (const int i : freed)
            EXPECT_FALSE(page_is_live(page_of(blocks[i]), index_of(blocks[i]))) << i;
        std::vector<uptr> taken;
        for (int i = 0; i < 600; ++i) taken.push_back(pop(mine, c));
        for (const int i : freed)
            EXPECT_EQ(std::count(taken.begin(), taken.end(), blocks[i]), 1) << i;
        expect_sound();
    });
}

TEST(Repair, RunsThatOthersHadJustTakenComeBack) {
    in_domain<1>([] {
        Heap* mine = new_heap();
        Heap* theirs = new_heap();
        const auto take = [](Heap* h) {
            return perform(op::TakeRun{.heap = h, .slices = 4, .alignment = 1}).run.first;
        };
        const SliceIndex own = take(mine);
        const SliceIndex lost = take(theirs);
        repair(mine);
        EXPECT_EQ(kind_of(desc_of(lost)->tag.load()), TAG_FREE);
        EXPECT_EQ(kind_of(desc_of(own)->tag.load()), TAG_RESERVED)
            << "the survivor goes on with it";
        EXPECT_EQ(take(mine), lost);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Repair, APageThatAListLinksIsNotGivenBack) {
    in_domain<2>([] {
        Heap* mine = new_heap();
        Heap* theirs = new_heap();
        const u32 c = class_of(8192);
        std::vector<uptr> blocks;
        for (int i = 0; i < 9; ++i) blocks.push_back(pop(theirs, c));  // the second page has one
        PageDesc* first = page_of(blocks[0]);
        push_remote(blocks[0]);
        repair(mine);  // takes the mark in; the page stays on the list
        const uptr next = pop(mine, c);
        ASSERT_EQ(owner(blocks[8]), mine->id()) << "adopted";
        ASSERT_NE(first->remote_queued.load(), 0u);
        std::vector<uptr> of_first(blocks.begin() + 1, blocks.begin() + 8);
        if (page_of(next) == first) of_first.push_back(next);
        for (const uptr block : of_first) ASSERT_TRUE(push(mine, block));
        ASSERT_TRUE(page_all_free(first));
        EXPECT_EQ(kind_of(first->tag.load()), TAG_PAGE) << "the list would lead to a free slice";
        drain(mine);
        expect_sound();
    });
}

TEST(Repair, LocksAreFreeAndOperationsClosed) {
    in_child([] {
        Domain& dom = make_domain();
        add_chunks(0, 2);
        Heap* mine = new_heap();
        Heap* theirs = new_heap();
        ASSERT_NE(pop(theirs, 3), 0u);
        dom.heaps_lock.lock();
        dom.arena.lock().lock();
        dom.visitors.store(3);
        theirs->sequence.store(41);
        repair(mine);
        EXPECT_TRUE(dom.arena.lock().try_lock());
        dom.arena.lock().unlock();
        EXPECT_TRUE(dom.heaps_lock.try_lock());
        dom.heaps_lock.unlock();
        expect_sound();
    });
}

TEST(Repair, WithoutASurvivorEveryHeapIsAbandoned) {
    in_child([] {
        Domain& dom = make_domain();
        add_chunks(0, 2);
        Heap* a = new_heap();
        Heap* b = new_heap();
        const uptr block = pop(a, 9);
        repair(nullptr);
        expect_sound();
        EXPECT_EQ(dom.abandoned_count.load(), 1u);
        EXPECT_EQ(b->state.load(), HeapState::unused);
        Heap* h = new_heap();
        EXPECT_EQ(h, a) << "the new owner gets what is there";
        EXPECT_TRUE(push(h, block));
    });
}

TEST(Repair, AloneNothingChanges) {
    in_domain<1>([] {
        Heap* mine = new_heap();
        const uptr a = pop(mine, 4);
        const PageDesc* d = page_of(a);
        const u32 until = d->until;
        const u64 hand = d->hand;
        repair(mine);
        EXPECT_EQ(d->until, until);
        EXPECT_EQ(d->hand, hand);
        expect_sound();
    });
}

}  // namespace
}  // namespace aep
