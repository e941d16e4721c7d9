// Purpose: a process joins a context, allocates there from many threads, meets its limits, loses
//          its daemon, and is refused what it must not have.
// Who calls it: CTest (client_join).
// Crash rule: fixture.hpp.
#include <dirent.h>
#include <linux/close_range.h>
#include <sys/syscall.h>

#include <mutex>

#include "shim/driver/forking.hpp"
#include "shim/sharing/sharing.hpp"
#include "shim/sys/syscall.hpp"
#include "tests/client/fixture.hpp"
#include "tests/unit/own_mounts.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep::test {
namespace {

int open_descriptors() {
    int count = 0;
    DIR* d = opendir("/proc/self/fd");
    while (readdir(d) != nullptr) ++count;
    closedir(d);
    return count;
}

TEST(Join, TheHeapIsInTheContext) {
    const Host host;
    in_child([&] {
        host.configure();
        const int before = open_descriptors();
        void* p = allocate(100);
        ASSERT_NE(p, nullptr);
        EXPECT_EQ(open_descriptors(), before);  // a program finds none that it did not open
        EXPECT_TRUE(heap_in_context.load());
        EXPECT_NE(thread_slot, nullptr);
        EXPECT_EQ(&domain(), &domain_at(this_client.index));
        const u32 chunk = raw(chunk_of(slice_at(reinterpret_cast<uptr>(p))));
        EXPECT_EQ(chunk_owner(chunk).load(), this_client.index);
        EXPECT_EQ(client_at(this_client.index).chunks.load(), 1u);
        EXPECT_GT(thread_slot->operations, 0u);
        EXPECT_EQ(thread_slot->sequence.load() % 2, 0u);
        deallocate(p);
        expect_sound();
    });
}

TEST(Join, EveryCallIsAnOperationWhenPure) {
    const Host host;
    host.in_client(
        [] {
            deallocate(allocate(64));
            const u64 before = thread_slot->operations;
            for (int i = 0; i < 100; ++i) deallocate(allocate(64));
            EXPECT_GE(thread_slot->operations - before, 200u);
            std::vector<void*> blocks;
            for (usize i = 0; i < 3000; ++i) blocks.push_back(allocate(i * 7));
            std::thread([&] {
                for (usize i = 0; i < blocks.size(); i += 2) deallocate(blocks[i]);
            }).join();
            for (usize i = 1; i < blocks.size(); i += 2) deallocate(blocks[i]);
            expect_sound();
        },
        {.pure = true});
}

/// Threads that allocate, grow and free, each other's blocks too.
void stress(int threads, int rounds) {
    std::mutex mutex;
    std::vector<void*> shared;
    const auto work = [&](u64 seed) {
        std::vector<std::pair<u8*, usize>> own;
        for (int i = 0; i < rounds; ++i) {
            const u64 r = next_random(seed);
            const usize size = r % 64 == 0 ? r % 700'000 : r % 16 == 0 ? r % 30'000 : r % 900;
            u8* p = static_cast<u8*>(r % 5 == 0 ? allocate_zeroed(size) : allocate(size));
            ASSERT_NE(p, nullptr);
            if (r % 5 == 0)
                for (usize at = 0; at < size; at += 97) ASSERT_EQ(p[at], 0) << size;
            memset(p, static_cast<int>(seed & 0x7f), size);
            own.emplace_back(p, size);
            if (own.size() < 100) continue;
            const usize victim = next_random(seed) % own.size();
            auto [block, bytes] = own[victim];
            own[victim] = own.back();
            own.pop_back();
            if (r % 3 == 0) {
                void* grown = reallocate(block, bytes * 2 + 1);
                ASSERT_NE(grown, nullptr);
                deallocate(grown);
            } else if (r % 3 == 1) {
                deallocate(block);
            } else {
                const std::lock_guard lock(mutex);
                shared.push_back(block);
                if (shared.size() > 50) {
                    deallocate(shared.front());
                    shared.erase(shared.begin());
                }
            }
        }
        for (const auto& [block, bytes] : own) deallocate(block);
    };
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) all.emplace_back(work, 0x9e37'79b9'7f4a'7c15 + t);
    for (std::thread& t : all) t.join();
    for (void* block : shared) deallocate(block);
}

TEST(Join, ManyThreadsLeaveTheDomainWhole) {
    const Host host({"pool-size=256M"});
    host.in_client([] {
        stress(4, 4000);
        expect_sound();
        trim();
        expect_sound();
        EXPECT_LE(client_at(this_client.index).slots.load(), 2u);
    });
}

/// How many slots are this client's.
u32 own_slots() {
    u32 count = 0;
    for (u32 i = 0; i < host_slot(); ++i)
        count += SlotOwner{slot_at(i).owner.load()}.client() == this_client.index;
    return count;
}

TEST(Join, ThreadsOneAfterTheOtherUseTheSameSlot) {
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
TEST(Join, ASlotNamesItsThread) {
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

TEST(Join, ASlotForWhoseStackThereIsNoMemoryIsNobodys) {
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

TEST(Join, AThreadsStackIsGivenBackUnlessItRests) {
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
TEST(Join, AStackThatACompleterIsOnStays) {
    const Host host({"pool-size=256M"});
    host.in_client([] {
        constexpr u32 THREADS = 40;
        threads_at_once(THREADS, [] { thread_slot->completer.store(1); });
        EXPECT_GE(stacks_present(), THREADS);
        for (u32 i = 0; i < host_slot(); ++i) slot_at(i).completer.store(0);
    });
}

/// Its operation is the daemon's to complete, and nobody else's until then.
TEST(Join, ASlotWithAnOpenOperationIsGivenToNobody) {
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
TEST(Join, WhoHasLeftTheSpareSlotIsNotInsideIt) {
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
TEST(Join, AnOperationThatCannotBeCompletedIsTheLast) {
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
TEST(Join, AChildHasSlotsOfItsOwn) {
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

TEST(Join, MoreThreadsThanSlotsShareTheSpareOne) {
    const Host host({"pool-size=256M", "slots=3"});
    host.in_client([] {
        stress(6, 1000);
        expect_sound();
        EXPECT_EQ(context().max_slots, 4u);
        EXPECT_EQ(slot_at(host_slot()).owner.load(), 0u);
        EXPECT_EQ(slot_at(host_slot()).operations, 0u);
    });
}

TEST(Join, ManyClientsAtOnce) {
    const Host host({"pool-size=512M"});
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
        children.push_back(start_child([&] {
            host.configure();
            stress(2, 1500);
            expect_sound();
        }));
    }
    for (const pid_t child : children) EXPECT_EQ(wait_for(child), 0);
}

/// Allocates until nothing is left; how much there was.
usize exhaust(usize size) {
    std::vector<void*> blocks;
    blocks.reserve(1'000'000);
    while (void* p = allocate(size)) {
        memset(p, 1, size);
        blocks.push_back(p);
    }
    for (void* p : blocks) deallocate(p);
    return blocks.size() * size;
}

TEST(Join, ALimitMeansNoMemory) {
    const Host host({"client-limit=16M"});
    host.in_client([] {
        for (const usize size : {100'000, 3'000, 500}) {
            const usize had = exhaust(size);
            EXPECT_LE(had, 16 * MiB);
            EXPECT_GT(had, 12 * MiB);
        }
        expect_sound();
    });
}

TEST(Join, AFullPoolMeansNoMemory) {
    const Host host({"pool-size=32M"});
    host.in_client([] {
        EXPECT_GT(exhaust(100'000), 20 * MiB);
        EXPECT_GT(exhaust(500), 20 * MiB);
        expect_sound();
    });
}

TEST(Join, AFullFileSystemMeansNoMemoryAndNoSignal) {
    in_child([] {
        const Directory here;
        own_mount(here.path(), "tmpfs", "size=24M");
        {
            const Host host({"pool-size=512M"}, here.path().c_str());
            for (const usize size : {64, 1'000, 40'000, 1'000'000})
                host.in_client([size] {
                    EXPECT_GT(exhaust(size), 8 * MiB);
                    trim();
                    expect_sound();
                });
        }
        umount(here.path().c_str());
    });
}

TEST(Join, AProgramMayCloseEveryDescriptor) {
    const Host host;
    host.in_client([] {
        void* p = allocate(100);
        syscall(SYS_close_range, 3, ~0u, 0);
        void* q = allocate(20 * MiB);  // further chunks
        ASSERT_NE(q, nullptr);
        deallocate(q);
        deallocate(p);
        expect_sound();
    });
}

TEST(Join, TheDaemonMayBeGone) {
    Host host;
    host.in_client([&] {
        void* p = allocate(100);
        host.stop();
        void* q = allocate(20 * MiB);
        ASSERT_NE(q, nullptr);
        deallocate(q);
        deallocate(p);
        expect_sound();
    });
}

TEST(Join, WithoutADaemonTheModeIsPrivateAndAMessageSaysSo) {
    Host host;
    host.stop();
    const Output output = stderr_of([&] {
        host.configure();
        EXPECT_NE(allocate(100), nullptr);
        EXPECT_FALSE(this_client.attached);
        EXPECT_EQ(&domain(), &domain_at(0));
    });
    EXPECT_EQ(output.status, 0);
    EXPECT_NE(output.text.find("is its daemon running"), std::string::npos) << output.text;
    const Output required = stderr_of([&] {
        host.configure({.require = true});
        allocate(100);
    });
    EXPECT_TRUE(WIFSIGNALED(required.status));
}

TEST(Join, AnotherBuildsImageIsRefused) {
    const Host host({"image-hash=wrong"});
    const Output output = stderr_of([&] {
        host.configure();
        EXPECT_NE(allocate(100), nullptr);
        EXPECT_FALSE(this_client.attached);
    });
    EXPECT_EQ(output.status, 0);
    EXPECT_NE(output.text.find("refused: "), std::string::npos) << output.text;
}

TEST(Join, AFullClientTableIsRefused) {
    const Host host({"clients=1"});
    const pid_t first = start_child([&] {
        host.configure();
        EXPECT_NE(allocate(1), nullptr);
        pause();
    });
    while (host.attached() == 0) usleep(100);
    const Output output = stderr_of([&] {
        host.configure();
        EXPECT_NE(allocate(100), nullptr);
        EXPECT_FALSE(this_client.attached);
    });
    kill(first, SIGKILL);
    wait_for(first);
    EXPECT_EQ(output.status, 0);
    EXPECT_NE(output.text.find("full"), std::string::npos) << output.text;
}

TEST(Join, MemoryOfAProcessThatEndedComesBack) {
    const Host host({"pool-size=32M"});
    for (int round = 0; round < 3; ++round)
        host.in_client([] { EXPECT_GT(exhaust(50'000), 20 * MiB); });
    EXPECT_GE(host.attached(), 3u);
}

TEST(Join, ABlockOfAnotherClientIsForeign) {
    const Host host;
    int address[2];
    int done[2];
    ASSERT_EQ(pipe(address), 0);
    ASSERT_EQ(pipe(done), 0);
    const pid_t other = start_child([&] {
        host.configure();
        void* blocks[2] = {allocate(100), allocate(2 * MiB)};
        EXPECT_EQ(write(address[1], blocks, sizeof blocks), static_cast<ssize_t>(sizeof blocks));
        char c;
        EXPECT_EQ(read(done[0], &c, 1), 1);
        EXPECT_EQ(usable_size(blocks[0]), 112u);
        deallocate(blocks[0]);
        deallocate(blocks[1]);
        expect_sound();
    });
    void* blocks[2];
    ASSERT_EQ(read(address[0], blocks, sizeof blocks), static_cast<ssize_t>(sizeof blocks));
    host.in_client(
        [&] {
            void* p = allocate(20 * MiB);  // the window reaches beyond the other's
            for (void* block : blocks) {
                EXPECT_EQ(usable_size(block), 0u);
                deallocate(block);
                EXPECT_EQ(reallocate(block, 50), nullptr);
            }
            EXPECT_EQ(bad_free_count(), 4u);
            deallocate(static_cast<char*>(blocks[1]) + SLICE_SIZE);
            EXPECT_EQ(bad_free_count(), 5u);
            deallocate(p);
            expect_sound();
        },
        {.on_error = OnError::ignore});
    ASSERT_EQ(write(done[1], "x", 1), 1);
    EXPECT_EQ(wait_for(other), 0);
}

TEST(Operations, UnknownNumbers) {
    const Host host;
    host.in_client([] {
        EXPECT_TRUE(process_start());
        for (const u32 number : {op::HeapOperations::END, 0xffu, 0x1000u, ~0u})
            EXPECT_EQ(perform_in_image(op::Trim{}, number).status, Status::no_such_op) << number;
        void* p = allocate(100);
        EXPECT_NE(p, nullptr);
        deallocate(p);
        expect_sound();
    });
}

}  // namespace
}  // namespace aep::test
