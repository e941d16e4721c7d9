// Purpose: unit tests of fork in pool mode: what the program asked of its memory (protection,
// locks,
//          fork advice) holds after freeze.
// Who calls it: ctest.
// Crash rule: pools live in a directory that each test removes; all children are waited for.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cstring>
#include <fstream>

#include "tests/unit/pool_fork_fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

/// Whether a store to `at` ends a process that shares our memory.
bool store_faults(char* at) {
    const pid_t child = vfork();
    if (child == 0) {
        *static_cast<volatile char*>(at) = 9;
        _exit(0);
    }
    return wait_for(child) == SIGSEGV;
}

TEST(PoolFork, TheProgramsProtectionsHold) {
    const Directory directory;
    in_child([&] {
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL);
        const Backing* b = attach(directory.file(), SMALL);
        char* a = bytes_at(take(b));
        take(b);
        std::memset(a, 1, 2 * CHUNK_SIZE);
        char* guard = a + CHUNK_SIZE - OS_PAGE_SIZE;  // and on into the next chunk
        ASSERT_EQ(mprotect(guard, 2 * OS_PAGE_SIZE, PROT_READ), 0);
        ASSERT_EQ(mprotect(a + OS_PAGE_SIZE, OS_PAGE_SIZE, PROT_NONE), 0);
        for (int round = 0; round < 2; ++round) {
            const pid_t child = hooked_fork(b, [&] {
                EXPECT_TRUE(store_faults(guard));
                EXPECT_TRUE(store_faults(guard + OS_PAGE_SIZE));
                EXPECT_TRUE(store_faults(a + OS_PAGE_SIZE));
                EXPECT_EQ(guard[0], 1);
                guard[-1] = 2;
                guard[2 * OS_PAGE_SIZE] = 2;
                a[2 * OS_PAGE_SIZE] = 2;
            });
            EXPECT_EQ(wait_for(child), 0);
            EXPECT_TRUE(store_faults(guard));
            EXPECT_TRUE(store_faults(guard + OS_PAGE_SIZE));
            EXPECT_TRUE(store_faults(a + OS_PAGE_SIZE));
        }
        ASSERT_EQ(mprotect(a, 2 * CHUNK_SIZE, PROT_READ | PROT_WRITE), 0);
        EXPECT_EQ(a[0] + a[CHUNK_SIZE] + a[OS_PAGE_SIZE], 3);
    });
}

TEST(PoolFork, MemoryKeptFromChildrenStaysKept) {
    const Directory directory;
    in_child([&] {
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL);
        const Backing* b = attach(directory.file(), SMALL);
        const ChunkIndex chunk = take(b);
        char* a = bytes_at(chunk);
        std::memset(a, 1, CHUNK_SIZE);
        char* kept = a + 5 * OS_PAGE_SIZE;
        ASSERT_TRUE(before_fork_advice(reinterpret_cast<uptr>(kept), 2 * OS_PAGE_SIZE));
        ASSERT_EQ(madvise(kept, 2 * OS_PAGE_SIZE, MADV_DONTFORK), 0);
        kept[0] = 2;
        EXPECT_FALSE(b->purge(chunk_address(chunk), CHUNK_SIZE));
        EXPECT_FALSE(b->release(chunk, 1));
        EXPECT_EQ(a[0], 1);
        EXPECT_EQ(kept[0], 2);
        for (int round = 0; round < 2; ++round) {
            const pid_t child = hooked_fork(b, [&] {
                EXPECT_EQ(kept[-1], 1);
                EXPECT_EQ(kept[2 * OS_PAGE_SIZE], 1);
                EXPECT_TRUE(store_faults(kept));
                EXPECT_TRUE(store_faults(kept + OS_PAGE_SIZE));
                EXPECT_FALSE(store_faults(kept - 1));
            });
            EXPECT_EQ(wait_for(child), 0);
            EXPECT_EQ(kept[0], 2);
            EXPECT_EQ(kept[OS_PAGE_SIZE], 1);
        }
        ASSERT_EQ(madvise(kept, 2 * OS_PAGE_SIZE, MADV_DOFORK), 0);
        EXPECT_EQ(wait_for(hooked_fork(b, [&] { EXPECT_EQ(kept[0], 2); })), 0);
    });
    expect_all_chunks_come_back(directory.file());
}

TEST(PoolFork, ALockedProcessFillsNoPoolAndForksAsEver) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), 256 * MiB);
        char* a = bytes_at(take(b));
        a[0] = 1;
        struct stat before {
        }, after{};
        ASSERT_EQ(stat(directory.file().c_str(), &before), 0);
        if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
            // Not allowed to lock that much: the system says so, and nothing has happened.
            EXPECT_TRUE(errno == EPERM || errno == ENOMEM || errno == EAGAIN);
        }
        ASSERT_EQ(stat(directory.file().c_str(), &after), 0);
        EXPECT_EQ(after.st_blocks, before.st_blocks);
        a[0] = 2;
        const pid_t child = hooked_fork(b, [&] {
            EXPECT_EQ(a[0], 2);
            a[0] = 3;
        });
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_EQ(a[0], 2);
        EXPECT_EQ(bytes_at(take(b))[0], 0);
    });
}

/// What was never used has no memory, and gets none by being made private.
TEST(PoolFork, AForkOfALockedProcessFillsNoPoolEither) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), 256 * MiB);
        if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
            return cannot_run("PoolFork.AForkOfALockedProcessFillsNoPoolEither", "may not lock");
        const ChunkRun unused = b->provide(4, 1, NO_CHUNK);
        ASSERT_TRUE(unused && b->commit(chunk_address(unused.first), SLICE_SIZE));
        const usize before = allocated(directory.file());
        EXPECT_EQ(wait_for(hooked_fork(b, [] {})), 0);
        EXPECT_LT(allocated(directory.file()), before + CHUNK_SIZE);
    });
}

/// Whoever has a heap to share from looks whether it is private by now.
TEST(PoolFork, EachThatMakesMemoryPrivateIsCounted) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        for (u32 forks = 1; forks <= 2; ++forks) {
            take(b);
            EXPECT_EQ(wait_for(hooked_fork(b, [] {})), 0);
            EXPECT_EQ(pool_here().freezes.load(), forks);
        }
    });
}

/// Else both would write the same memory.
TEST(PoolFork, WhatCannotBeMadePrivateRefusesIt) {
    const Directory directory;
    const Output out = stderr_of([&] {
        const Backing* b = attach(directory.file(), SMALL);
        bytes_at(take(b))[0] = 1;
        refuse_call(__NR_mremap, 3, MREMAP_FIXED, ENOMEM);
        EXPECT_FALSE(b->fork_prepare());
        b->fork_parent();
    });
    EXPECT_EQ(out.status, 0);
    EXPECT_NE(out.text.find("cannot make 4 MiB of heap"), std::string::npos) << out.text;
}

/// Bytes that this process has mapped.
usize mapped_bytes() {
    usize pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * OS_PAGE_SIZE;
}

/// Of memory that has no private mappings a child gets copies, each at its place; the parent keeps none.
TEST(PoolFork, WhereItCopiesEachRunIsCopiedOnce) {
    const Directory directory;
    in_child([&] {
        const Backing* b = attach(directory.file(), SMALL);
        char* chunks[3];
        for (char*& chunk : chunks) {
            chunk = bytes_at(take(b));
            std::memset(chunk, static_cast<int>(1 + (&chunk - chunks)), CHUNK_SIZE);
        }
        ASSERT_TRUE(b->release(ChunkIndex{chunk_index(reinterpret_cast<uptr>(chunks[1]))},
                               1));  // two runs are left
        let_fork_copy();
        const usize before = mapped_bytes();
        const pid_t child = hooked_fork(b, [&] {
            for (char* chunk : {chunks[0], chunks[2]}) {
                const int value = chunk == chunks[0] ? 1 : 3;
                EXPECT_EQ(chunk[0], value);
                EXPECT_EQ(std::memcmp(chunk, chunk + 1, CHUNK_SIZE - 1), 0);
                std::memset(chunk, 9, CHUNK_SIZE);
            }
        });
        EXPECT_EQ(wait_for(child), 0);
        EXPECT_LT(mapped_bytes(), before + CHUNK_SIZE);
        EXPECT_EQ(chunks[0][0], 1);
        EXPECT_EQ(chunks[2][0], 3);
    });
}

}  // namespace
}  // namespace aep
