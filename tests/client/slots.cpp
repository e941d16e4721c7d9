// Purpose: slots of a joined process's threads: who has one, when it is the next one's, and what an open operation, a completer
//          or a fork means for it.
// Who calls it: CTest (client_slots).
// Crash rule: fixture.hpp.
#include <sys/mman.h>
#include <sys/syscall.h>

#include "shim/driver/forking.hpp"
#include "shim/sharing/sharing.hpp"
#include "shim/sys/syscall.hpp"
#include "tests/client/fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep::test {
namespace {

/// How many slots are this client's.
u32 own_slots() {
    u32 count = 0;
    for (u32 i = 0; i < host_slot(); ++i)
        count += SlotOwner{slot_at(i).owner.load()}.client() == this_client.index;
    return count;
}

TEST(Slots, ThreadsOneAfterTheOtherUseTheSameSlot) {
    const Host host({"pool-size=256M"});
    host.in_client([] {
        deallocate(allocate(64));
        Slot* first = nullptr;
        for (int i = 0; i < 50; ++i)
            std::thread([&] {
                deallocate(allocate(64));
                if (first == nullptr) first = thread_slot;
                EXPECT_EQ(thread_slot, first);
            }).join();
        EXPECT_EQ(own_slots(), 3u);  // one in reserve
    });
}

/// By which a thread is found that has died alone.
TEST(Slots, ASlotNamesItsThread) {
    const Host host({"pool-size=256M"});
    host.in_client([] {
        const auto look = [] {
            deallocate(allocate(64));
            ASSERT_NE(thread_slot, nullptr);
            EXPECT_EQ(thread_slot->tid.load(), static_cast<u32>(gettid()));
        };
        look();
        for (int i = 0; i < 3; ++i) std::thread(look).join();
    });
}

TEST(Slots, ASlotForWhoseStackThereIsNoMemoryIsNobodys) {
    const Host host({"pool-size=256M"});
    host.in_client([] {
        deallocate(allocate(64));
        const u32 before = own_slots();
        for (int i = 0; i < 3; ++i)
            std::thread([] {
                refuse_call(__NR_madvise, 2, MADV_POPULATE_WRITE,
                            ENOMEM);  // of this thread's alone
                deallocate(allocate(64));
                EXPECT_EQ(thread_slot, nullptr);
            }).join();
        EXPECT_EQ(own_slots(), before);
        std::thread([] {
            deallocate(allocate(64));
            EXPECT_NE(thread_slot, nullptr);
        }).join();
    });
}

/// Stacks with memory.
u32 stacks_present() {
    u32 present = 0;
    for (u32 i = 0; i < host_slot(); ++i) {
        u8 page = 0;
        EXPECT_EQ(sys::mincore(stack_top_of(i) & ~(OS_PAGE_SIZE - 1), OS_PAGE_SIZE, &page), 0);
        present += page & 1;
    }
    return present;
}

/// Threads that all have a slot at the same time, and end; each calls body() with it.
template <class Body>
void threads_at_once(u32 count, Body body) {
    std::atomic<u32> inside{0};
    std::vector<std::thread> threads;
    for (u32 t = 0; t < count; ++t)
        threads.emplace_back([&] {
            deallocate(allocate(64));
            EXPECT_NE(thread_slot, nullptr);
            if (thread_slot != nullptr) body();
            inside.fetch_add(1);
            while (inside.load() < count) std::this_thread::yield();
        });
    for (std::thread& t : threads) t.join();
}

TEST(Slots, AThreadsStackIsGivenBackUnlessItRests) {
    const Host host({"pool-size=256M"});
    host.in_client([] {
        threads_at_once(40, [] {});
        const u32 left = own_slots();
        EXPECT_LE(left, 1 + 1 + 8u);
        EXPECT_LE(stacks_present(), left);
        expect_sound();
    });
}

/// It has completed an operation there, and is on its way out.
TEST(Slots, AStackThatACompleterIsOnStays) {
    const Host host({"pool-size=256M"});
    host.in_client([] {
        constexpr u32 THREADS = 40;
        threads_at_once(THREADS, [] { thread_slot->completer.store(1); });
        EXPECT_GE(stacks_present(), THREADS);
        for (u32 i = 0; i < host_slot(); ++i) slot_at(i).completer.store(0);
    });
}

/// Its operation is the daemon's to complete, and nobody else's until then.
TEST(Slots, ASlotWithAnOpenOperationIsGivenToNobody) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        Slot* const own = thread_slot;
        own->sequence.fetch_add(1);
        give_thread_slot();
        EXPECT_EQ(thread_slot, own);
        own->sequence.fetch_sub(1);
        give_thread_slot();
        EXPECT_EQ(thread_slot, nullptr);
    });
}

/// It is in the next one's hands.
TEST(Slots, WhoHasLeftTheSpareSlotIsNotInsideIt) {
    const Host host;
    host.in_client([] {
        deallocate(allocate(64));
        give_thread_slot();
        deallocate(allocate(300'000));
        ASSERT_EQ(thread_slot, nullptr);
        const auto change_all = [](u32 by) {
            for (u32 i = 0; i < host_slot(); ++i)
                if (SlotOwner{slot_at(i).owner.load()}.client() == this_client.index)
                    slot_at(i).sequence.fetch_add(by);
        };
        change_all(1);
        EXPECT_FALSE(inside_image());
        change_all(~u32{0});
    });
}

/// A handler has jumped out of it, and nobody is there who could end it.
TEST(Slots, AnOperationThatCannotBeCompletedIsTheLast) {
    Host host;
    const Output out = stderr_of([&] {
        host.configure();
        deallocate(allocate(64));
        ASSERT_NE(thread_slot, nullptr);
        host.stop();
        detail::entered_slot = thread_slot;
        thread_slot->sequence.fetch_add(1);
        EXPECT_FALSE(finish_left_operation());
        thread_slot->sequence.fetch_sub(1);
        EXPECT_TRUE(finish_left_operation());
        EXPECT_EQ(detail::entered_slot, nullptr);
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("the daemon does not answer"), std::string::npos) << out.text;
}

/// Its parent's are its parent's: that of its thread, those that rest, and the spare one.
TEST(Slots, AChildHasSlotsOfItsOwn) {
    const Host host;
    host.in_client([] {
        ASSERT_EQ(share_attach("parent"), 0);
        deallocate(allocate(64));
        std::thread([] { deallocate(allocate(64)); }).join();
        give_thread_slot();
        deallocate(allocate(300'000));
        take_thread_slot();
        ASSERT_NE(thread_slot, nullptr);
        const u32 parent = this_client.index;
        ASSERT_EQ(fork_prepare(), 0);
        const pid_t child = start_child([&] {
            fork_child();
            EXPECT_EQ(thread_slot, nullptr);
            ASSERT_EQ(share_attach("child"), 0);
            ASSERT_NE(this_client.index, parent);
            take_thread_slot();
            ASSERT_NE(thread_slot, nullptr);
            EXPECT_EQ(SlotOwner{thread_slot->owner.load()}.client(), this_client.index);
        });
        fork_parent();
        EXPECT_EQ(wait_for(child), 0);
    });
}

}  // namespace
}  // namespace aep::test
