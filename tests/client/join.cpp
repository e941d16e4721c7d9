// Purpose: a process joins a context, allocates there from many threads, meets its limits, loses
//          its daemon, and is refused what it must not have.
// Who calls it: CTest (client_join).
// Crash rule: fixture.hpp.
#include <dirent.h>
#include <linux/close_range.h>
#include <sys/syscall.h>

#include <mutex>

#include "tests/client/fixture.hpp"
#include "tests/unit/own_mounts.hpp"

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
