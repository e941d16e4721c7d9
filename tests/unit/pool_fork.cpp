// Purpose: unit tests of fork in pool mode: freeze under writers, nested and repeated forks, who
//          keeps what alive, children made behind our back.
// Who calls it: ctest.
// Crash rule: pools live in a directory that each test removes; all children are waited for.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "shim/backing/futex_waiters.hpp"
#include "tests/unit/pool_fork_fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// Children whose parent ended become ours, so that their end can be waited for and judged.
class Orphans {
  public:
    Orphans() { prctl(PR_SET_CHILD_SUBREAPER, 1); }
    ~Orphans() { prctl(PR_SET_CHILD_SUBREAPER, 0); }
    Orphans(const Orphans&) = delete;
    Orphans& operator=(const Orphans&) = delete;
    void expect_good_end() const { EXPECT_EQ(wait_for(-1), 0); }
};

TEST(PoolFork, ParentAndChildKeepWhatTheyHadAndPartWays) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        char* a = bytes_at(take(b));
        char* c = bytes_at(ChunkIndex{2});
        take(b);
        ASSERT_TRUE(b->provide(1, 1, ChunkIndex{2}));
        ASSERT_TRUE(b->commit(chunk_address(ChunkIndex{2}), SLICE_SIZE));
        std::memset(a, 1, 2 * CHUNK_SIZE);
        c[0] = 1;
        const Signal parent_wrote, child_wrote;
        const pid_t child = hooked_fork(b, [&] {
            parent_wrote.wait();
            EXPECT_EQ(a[0], 1) << "the parent's store after the fork is not seen";
            EXPECT_EQ(a[2 * CHUNK_SIZE - 1], 1);
            EXPECT_EQ(c[0], 1);
            a[0] = 3;
            c[0] = 3;
            child_wrote.say();
        });
        a[0] = 2;
        c[0] = 2;
        parent_wrote.say();
        child_wrote.wait();
        EXPECT_EQ(a[0], 2);
        EXPECT_EQ(a[1], 1);
        EXPECT_EQ(c[0], 2);
        EXPECT_EQ(wait_for(child), 0);
    });
}

TEST(PoolFork, WritersInOtherThreadsLoseNothing) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        constexpr int THREADS = 3;
        constexpr usize STRIDE = 5 * OS_PAGE_SIZE + 64;
        char* base = bytes_at(take(b));
        std::atomic<bool> stop{false};
        std::atomic<int> running{0};
        std::vector<u64> written(THREADS, 0);
        const auto counter = [&](int thread, u64 i) {
            const usize at = (i * STRIDE + static_cast<usize>(thread) * 8) % (CHUNK_SIZE - 64);
            return reinterpret_cast<std::atomic<u64>*>(base + round_down(at, 64) +
                                                       static_cast<usize>(thread) * 8);
        };
        std::vector<std::thread> threads;
        for (int t = 0; t < THREADS; ++t)
            threads.emplace_back([&, t] {
                running.fetch_add(1);
                u64 i = 0;
                // Adding is a read and a write: a store that went to a lost copy would be missed.
                for (; !stop.load(std::memory_order_relaxed) || i < 1000; ++i)
                    counter(t, i % 512)->fetch_add(1, std::memory_order_relaxed);
                written[static_cast<size_t>(t)] = i;
            });
        while (running.load() < THREADS) std::this_thread::yield();
        for (int round = 0; round < 8; ++round) {
            char* fresh = round < 5 ? bytes_at(take(b)) : base + 32;
            fresh[0] = static_cast<char>(round);
            const pid_t child = hooked_fork(b, [&] {
                EXPECT_EQ(fresh[0], static_cast<char>(round));
                u64 sum = 0;
                for (int t = 0; t < THREADS; ++t)
                    for (u64 i = 0; i < 512; ++i) sum += counter(t, i)->load();
                EXPECT_GT(sum, 0u);
                std::memset(base, 0, CHUNK_SIZE);  // the child's business only
            });
            EXPECT_EQ(wait_for(child), 0);
        }
        stop.store(true);
        for (std::thread& thread : threads) thread.join();
        for (int t = 0; t < THREADS; ++t) {
            u64 sum = 0;
            for (u64 i = 0; i < 512; ++i) sum += counter(t, i)->load();
            EXPECT_EQ(sum, written[static_cast<size_t>(t)]);
        }
    });
}

TEST(PoolFork, NestedForksEachHaveTheirOwn) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        char* a = bytes_at(take(b));
        a[0] = 'a';
        const pid_t child = hooked_fork(b, [&] {
            char* c = bytes_at(take(b));
            EXPECT_NE(c, a);
            EXPECT_EQ(c[0], 0);
            c[0] = 'c';
            a[0] = 'A';
            const pid_t grandchild = hooked_fork(b, [&] {
                EXPECT_EQ(a[0], 'A');
                EXPECT_EQ(c[0], 'c');
                char* g = bytes_at(take(b));
                EXPECT_EQ(g[0], 0);
                g[0] = 'g';
                c[0] = 'x';
            });
            EXPECT_EQ(wait_for(grandchild), 0);
            EXPECT_EQ(c[0], 'c');
            c[1] = 'd';
        });
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(a[0], 'a');
        const char* p = bytes_at(take(b));
        EXPECT_EQ(p[0], 0);
    });
    expect_all_chunks_come_back(directory.file());
}

TEST(PoolFork, ManyForksCostNoNodesWhereNothingIsTaken) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        char* a = bytes_at(take(b));
        for (int i = 0; i < 200; ++i) {
            const pid_t child = hooked_fork(b, [&] { a[0] = 1; });
            ASSERT_EQ(wait_for(child), 0);
        }
        EXPECT_EQ(a[0], 0);
        EXPECT_EQ(check(directory.file()).live_nodes, 1u);
    });
}

TEST(PoolFork, AChildThatOutlivesItsParentKeepsTheFrozenChunks) {
    const Directory directory;
    const std::string path = directory.file();
    const Signal child_ready, child_may_end;
    const Orphans orphans;
    in_child([&] {
        const Backing* b = attach(path, SMALL);
        char* a = bytes_at(take(b));
        ASSERT_EQ(take_all(b), SMALL_CHUNKS - 1);
        a[0] = 7;
        hooked_fork(
            b,
            [&] {
                child_ready.say();
                child_may_end.wait();
                EXPECT_EQ(a[0], 7) << "read from the file through all that others did meanwhile";
            });
        child_ready.wait();
    });
    in_child([&] { EXPECT_FALSE(attach(path)->provide(1, 1, NO_CHUNK)); });
    EXPECT_EQ(check(path).owned_chunks, SMALL_CHUNKS);
    child_may_end.say();
    orphans.expect_good_end();
    expect_all_chunks_come_back(path);
}

TEST(PoolFork, WhatTheParentTakesAfterwardsDoesNotDependOnTheChild) {
    const Directory directory;
    const std::string path = directory.file();
    const Signal child_ready, child_may_end;
    const Orphans orphans;
    in_child([&] {
        const Backing* b = attach(path, SMALL);
        take(b);
        hooked_fork(
            b,
            [&] {
                child_ready.say();
                child_may_end.wait();
            });
        child_ready.wait();
        EXPECT_EQ(take_all(b), SMALL_CHUNKS - 1);
        const PoolReport report = check(path);
        EXPECT_EQ(report.live_nodes, 2u);
    });
    in_child(
        [&] { EXPECT_EQ(take_all(attach(path)), SMALL_CHUNKS - 1) << "all but the frozen one"; });
    child_may_end.say();
    orphans.expect_good_end();
}

TEST(PoolFork, ExecEndsTheHoldOnFrozenChunks) {
    const Directory directory;
    const std::string path = directory.file();
    int input[2];
    ASSERT_EQ(pipe2(input, O_CLOEXEC), 0);
    int output[2];
    ASSERT_EQ(pipe2(output, O_CLOEXEC), 0);
    const Orphans orphans;
    in_child([&] {
        const Backing* b = attach(path, SMALL);
        take_all(b);
        hooked_fork(b, [&] {
            dup2(input[0], 0);
            dup2(output[1], 1);
            execl("/bin/cat", "cat", nullptr);  // until we close the pipe
            _exit(1);
        });
    });
    // Only what cat answers shows that exec is through: it closes descriptors before it has let go
    // of the old memory.
    char c = 'a';
    ASSERT_EQ(write(input[1], &c, 1), 1);
    close(output[1]);
    EXPECT_EQ(read(output[0], &c, 1), 1);
    expect_all_chunks_come_back(path);
    close(input[0]);
    close(input[1]);
    close(output[0]);
    orphans.expect_good_end();
}

TEST(PoolFork, FrozenChunksArePurgedPrivatelyAndNeverReleased) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkIndex chunk = take(b);
        char* a = bytes_at(chunk);
        std::memset(a, 5, CHUNK_SIZE);
        const Signal purged;
        const pid_t child = hooked_fork(b, [&] {
            purged.wait();
            EXPECT_EQ(a[0], 5);
            EXPECT_EQ(a[CHUNK_SIZE - 1], 5);
            EXPECT_FALSE(b->release(chunk, 1));
        });
        std::memset(a, 6, CHUNK_SIZE);
        EXPECT_FALSE(b->purge(chunk_address(chunk), CHUNK_SIZE)) << "does not read as zero";
        EXPECT_EQ(a[0], 5) << "its own copy is still there";
        EXPECT_FALSE(b->release(chunk, 1));
        purged.say();
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(check(directory.file()).owned_chunks, 1u);
        ASSERT_TRUE(b->commit(chunk_address(chunk), CHUNK_SIZE));
        std::memset(a, 8, CHUNK_SIZE);
    });
    expect_all_chunks_come_back(directory.file());
}

TEST(PoolFork, AForkThatFailsAfterPrepareDoesNoHarm) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        char* a = bytes_at(take(b));
        a[0] = 1;
        ASSERT_TRUE(b->fork_prepare());
        b->fork_parent();
        EXPECT_EQ(a[0], 1);
        a[0] = 2;
        char* c = bytes_at(take(b));
        c[0] = 3;
        const pid_t child = hooked_fork(b, [&] {
            EXPECT_EQ(a[0], 2);
            EXPECT_EQ(c[0], 3);
        });
        EXPECT_EQ(wait_for(child), 0);
    });
}

TEST(PoolFork, AChildThatCannotReachThePoolUsesPrivateMemory) {
    const Directory directory;
    const Output out = stderr_of([&] {
        const Backing* b = attach(directory.file(), SMALL);
        char* a = bytes_at(take(b));
        a[0] = 4;
        const pid_t child = hooked_fork(b, [&] {
            const rlimit none{0, 0};
            setrlimit(RLIMIT_NOFILE, &none);
            for (int i = 0; i < 3; ++i) {
                const ChunkIndex chunk = take(b);
                EXPECT_GE(raw(chunk), SMALL_CHUNKS);
                bytes_at(chunk)[0] = 1;
            }
            EXPECT_EQ(a[0], 4);
        });
        EXPECT_EQ(wait_for(child), 0);
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("EMFILE"), std::string::npos) << out.text;
    EXPECT_EQ(std::count(out.text.begin(), out.text.end(), '\n'), 1) << out.text;
}

TEST(PoolFork, FindsProcessSharedWaits) {
    const auto waits_at = [](const char* text) -> uptr {
        uptr address = 0;
        return parse_shared_wait(text, address) ? address : 0;
    };
    EXPECT_EQ(waits_at("202 0x120000000040 0x0 0x2 0x0 0x0 0x0 0x7ffd 0x7f12\n"),
              0x1200'0000'0040u);
    EXPECT_EQ(waits_at("202 0x120000000040 0x109 0x2 0x0 0x0 0xffffffff 0x7ffd 0x7f12\n"),
              0x1200'0000'0040u)
        << "bitset, by the real-time clock";
    EXPECT_EQ(waits_at("202 0x120000000040 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x7f12\n"), 0u) << "private";
    EXPECT_EQ(waits_at("202 0x120000000040 0x1 0x2 0x0 0x0 0x0 0x7ffd 0x7f12\n"), 0u) << "a wake";
    EXPECT_EQ(waits_at("0 0x3 0x120000000040 0x2 0x0 0x0 0x0 0x7ffd 0x7f12\n"), 0u) << "a read";
    EXPECT_EQ(waits_at("running\n"), 0u);
    EXPECT_EQ(waits_at("-1 0x7ffd 0x7f12\n"), 0u);
    EXPECT_EQ(waits_at(""), 0u);
}

TEST(PoolFork, ChildrenMadeBehindOurBackAreTold) {
    const Directory directory;
    in_child([&] {
        EXPECT_TRUE(in_attached_process()) << "private mode: any child is whole";
        const Backing* b = attach(directory.file(), SMALL);
        EXPECT_TRUE(in_attached_process());
        char* frozen = bytes_at(take(b));
        frozen[0] = 1;
        EXPECT_EQ(wait_for(hooked_fork(b, [&] { EXPECT_TRUE(in_attached_process()); })), 0);
        char* shared = bytes_at(take(b));
        shared[0] = 2;
        const pid_t child = start_child([&] {  // no hooks
            EXPECT_FALSE(in_attached_process());
            EXPECT_EQ(frozen[0], 1);
            frozen[0] = 3;
        });
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(frozen[0], 1);
        const pid_t writer = start_child([&] {
            const rlimit no_core{0, 0};
            setrlimit(RLIMIT_CORE, &no_core);
            signal(SIGSEGV, SIG_DFL);
            shared[0] = 9;
        });
        EXPECT_EQ(wait_for(writer), SIGSEGV) << "a signal rather than the parent's memory";
        EXPECT_EQ(shared[0], 2);
        EXPECT_TRUE(in_attached_process());
    });
}

TEST(PoolFork, AChildMadeBehindOurBackDoesNotKeepOurNodeAlive) {
    const Directory directory;
    const Signal ready, end;
    const Orphans orphans;
    in_child([&] {
        take_all(attach(directory.file(), SMALL));
        start_child([&] {
            ready.say();
            end.wait();
        });
        ready.wait();
    });
    expect_all_chunks_come_back(directory.file());
    end.say();
    orphans.expect_good_end();
}

}  // namespace
}  // namespace aep
