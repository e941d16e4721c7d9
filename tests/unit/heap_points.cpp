// Purpose: unit tests of the heap that do something at a named point in the middle of an operation,
//          as another thread would there: the heap's sources once more, with those points.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <functional>
#include <string_view>
#include <vector>

#include "dsm-core/heap/remote.hpp"
#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

std::function<void()> at_point;
const char* point = nullptr;

/// Does `body` the first time that the point is reached.
void once_at(const char* name, std::function<void()> body) {
    point = name;
    at_point = std::move(body);
    crash_point_hook = [](const char* reached) {
        if (point == nullptr || std::string_view(reached) != point) return;
        point = nullptr;  // what follows comes by here, too
        at_point();
    };
}

/// Takes the only page off a heap's list, as if it had not been pushed yet, and pushes it after
/// `meanwhile`: what another thread did between the freer's look at the owner and its push.
void before_the_push(Heap* h, const std::function<void()>& meanwhile) {
    PageDesc* d = h->remote_pages.exchange(nullptr);
    ASSERT_NE(d, nullptr);
    ASSERT_EQ(d->remote_next, nullptr);
    meanwhile();
    d->remote_next = h->remote_pages.load();
    h->remote_pages.store(d);
}

/// Puts a page on the list of a heap that it had when its freer looked.
void late_push(Heap* h, PageDesc* d) {
    d->remote_queued.store(1);
    d->remote_next = h->remote_pages.load();
    h->remote_pages.store(d);
}

TEST(RemotePoints, AnAdoptionBetweenTheLookAtTheOwnerAndThePushIsSeen) {
    in_domain<2>([] {
        Heap* former = new_heap();
        Heap* h = new_heap();
        const uptr block = pop(former, class_of(4096));
        pop(former, class_of(4096));
        ASSERT_EQ(mark(block), RemoteMark::first_of_page);
        bool adopted = false;
        once_at(
            "remote: queued",
            [&] {
                before_the_push(
                    former,
                    [&] {
                        abandon(former);
                        adopted = pop(h, 0) != 0 && owner(block) == h->id();
                    });
            });
        queue_page(page_of(block));
        ASSERT_TRUE(adopted);
        EXPECT_EQ(former->remote_pages.load(), nullptr) << "nobody looks there any more";
        EXPECT_EQ(h->remote_pages.load(), page_of(block));
        expect_sound();
        drain(h);
        EXPECT_FALSE(page_is_live(page_of(block), index_of(block)));
        expect_sound();
    });
}

/// The heap has a new thread by then, for which others free meanwhile: their pages stay its own.
TEST(RemotePoints, OnlyTheAdoptedPageIsSentOn) {
    in_domain<2>([] {
        Heap* former = new_heap();
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        const uptr block = pop(former, c);
        pop(former, c);
        ASSERT_EQ(mark(block), RemoteMark::first_of_page);
        uptr fresh = 0;
        once_at(
            "remote: queued",
            [&] {
                before_the_push(
                    former,
                    [&] {
                        abandon(former);
                        pop(h, 0);
                        ASSERT_EQ(new_heap(), former);
                        fresh = pop(former, c);
                        pop(former, c);
                        push_remote(fresh);
                    });
            });
        queue_page(page_of(block));
        ASSERT_NE(fresh, 0u);
        ASSERT_NE(owner(fresh), owner(block));
        EXPECT_EQ(former->remote_pages.load(), page_of(fresh));
        EXPECT_EQ(h->remote_pages.load(), page_of(block));
        expect_sound();
        for (Heap* each : {former, h}) drain(each);
        EXPECT_FALSE(page_is_live(page_of(block), index_of(block)));
        EXPECT_FALSE(page_is_live(page_of(fresh), index_of(fresh)));
        expect_sound();
    });
}

/// And adopted once more while it is sent on.
TEST(RemotePoints, ItFollowsOneAdopterAfterTheOther) {
    in_domain<2>([] {
        Heap* heaps[] = {new_heap(), new_heap(), new_heap()};
        const uptr block = pop(heaps[0], class_of(4096));
        pop(heaps[0], class_of(4096));
        ASSERT_EQ(mark(block), RemoteMark::first_of_page);
        const auto adopt = [&](u32 from) {
            abandon(heaps[from]);
            ASSERT_NE(pop(heaps[from + 1], from), 0u);
            ASSERT_EQ(owner(block), heaps[from + 1]->id());
        };
        once_at(
            "remote: queued",
            [&] {
                before_the_push(
                    heaps[0], [&] { adopt(0); });
                once_at(
                    "remote: queued",
                    [&] {
                        before_the_push(
                            heaps[1], [&] { adopt(1); });
                    });
            });
        queue_page(page_of(block));
        EXPECT_EQ(owner(block), heaps[2]->id());
        EXPECT_EQ(heaps[0]->remote_pages.load(), nullptr);
        EXPECT_EQ(heaps[1]->remote_pages.load(), nullptr);
        EXPECT_EQ(heaps[2]->remote_pages.load(), page_of(block));
        expect_sound();
        drain(heaps[2]);
        EXPECT_FALSE(page_is_live(page_of(block), index_of(block)));
        expect_sound();
    });
}

/// Of two pages on the former owner's list the second one waits while the first follows another adopter.
TEST(RemotePoints, WhatWaitsToBeSentOnIsNotLostOnTheWay) {
    in_child([] {
        make_domain();
        add_chunks(0, 2);
        Heap* heaps[] = {new_heap(), new_heap(), new_heap()};
        const u32 c = class_of(4096);
        std::vector<uptr> blocks;
        for (u32 i = 0; i < SLICE_SIZE / 4096 + 2; ++i) blocks.push_back(pop(heaps[0], c));
        const uptr first = blocks.front(), second = blocks.back();
        ASSERT_NE(page_of(first), page_of(second));
        for (const uptr block : {first, second}) ASSERT_EQ(mark(block), RemoteMark::first_of_page);
        const auto adopt = [&](u32 from) {
            abandon(heaps[from]);
            ASSERT_NE(pop(heaps[from + 1], from), 0u);
            ASSERT_EQ(owner(first), heaps[from + 1]->id());
            ASSERT_EQ(owner(second), heaps[from + 1]->id());
        };
        once_at(
            "remote: queued",
            [&] {
                before_the_push(
                    heaps[0],
                    [&] {
                        adopt(0);
                        late_push(heaps[0], page_of(second));
                    });
                once_at(
                    "remote: queued",
                    [&] {
                        before_the_push(
                            heaps[1], [&] { adopt(1); });
                    });
            });
        queue_page(page_of(first));
        EXPECT_EQ(heaps[0]->remote_pages.load(), nullptr);
        EXPECT_EQ(heaps[1]->remote_pages.load(), nullptr);
        expect_sound();
        drain(heaps[2]);
        for (const uptr block : {first, second})
            EXPECT_FALSE(page_is_live(page_of(block), index_of(block)));
        expect_sound();
    });
}

/// From when it is taken off the list of the abandoned until it is on that of the unused.
TEST(RemotePoints, AHeapThatIsBeingAdoptedIsLeftToItsAdopter) {
    in_child([] {
        make_domain();
        add_chunks(0, 2);
        Heap* former = new_heap();
        Heap* h = new_heap();
        const u32 c = class_of(4096);
        std::vector<uptr> blocks;
        for (u32 i = 0; i < SLICE_SIZE / 4096 + 2; ++i) blocks.push_back(pop(former, c));
        const uptr queued = blocks.front(), late = blocks.back();
        ASSERT_NE(page_of(queued), page_of(late));
        abandon(former);
        push_remote(queued);
        ASSERT_EQ(mark(late), RemoteMark::first_of_page);
        u32 taken = ~u32{0};
        once_at(
            "remote: queued",
            [&] {
                late_push(former, page_of(late));
                taken = perform(op::TakeBack{.heap = former, .now = 1}).slices;
            });
        ASSERT_NE(pop(h, 0), 0u);  // adopts, and sends the queued page on
        EXPECT_EQ(taken, 0u);
        EXPECT_EQ(former->remote_pages.load(), page_of(late)) << "another was at its list";
        expect_sound();
        ASSERT_EQ(new_heap(), former);
        for (Heap* each : {former, h}) drain(each);
        for (const uptr block : {queued, late})
            EXPECT_FALSE(page_is_live(page_of(block), index_of(block)));
        expect_sound();
    });
}

}  // namespace
}  // namespace aep
