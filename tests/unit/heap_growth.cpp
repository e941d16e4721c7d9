// Purpose: tests how the driver grows: on a backing that can have no more memory, that has no room for a chunk's
//          metadata, or that several threads ask at once.
// Who calls it: ctest (unit_heap).
// Crash rule: each test runs in a child of its own.
#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "shim/backing/anonymous_backing.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/slow_path.hpp"
#include "tests/unit/heap_fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

constexpr unsigned MOST_SECONDS = 60;
constexpr Settings KEEPS_MEMORY{.decay_ms = 3'600'000};

// ---- a backing whose memory is counted, and has an end

constexpr usize MOST_SLICES = 100;
std::set<uptr> present;  // slices

bool commit_counted(uptr address, usize bytes) {
    for (uptr at = address / SLICE_SIZE; at * SLICE_SIZE < address + bytes; ++at) {
        if (present.size() == MOST_SLICES && !present.contains(at)) return false;
        present.insert(at);
    }
    return true;
}

bool purge_counted(uptr address, usize bytes) {
    for (uptr at = address; at < address + bytes; at += SLICE_SIZE) present.erase(at / SLICE_SIZE);
    return anonymous_purge(address, bytes);
}

bool keep_chunks(ChunkIndex, u32) { return false; }

Backing counted_backing() {
    Backing counted = *anonymous_backing();
    counted.commit = commit_counted;
    counted.purge = purge_counted;
    counted.release = keep_chunks;
    return counted;
}

/// All memory is in use by blocks of 1024 bytes.
std::vector<void*> use_all_memory() {
    std::vector<void*> blocks;
    while (void* p = allocate(1024)) blocks.push_back(p);
    return blocks;
}

/// All memory is in use, then every other page of it is free and kept for reuse: in pieces of a slice.
void leave_pieces() {
    static const Backing counted = counted_backing();
    process_configure(&counted, KEEPS_MEMORY);
    const std::vector<void*> blocks = use_all_memory();
    ASSERT_EQ(present.size(), MOST_SLICES);
    for (void* p : blocks)
        if ((reinterpret_cast<uptr>(p) >> SLICE_SHIFT) % 2 != 0) deallocate(p);
    ASSERT_EQ(present.size(), MOST_SLICES) << "nothing was kept";
}

TEST(Growth, WhatIsKeptForReuseGoesBackBeforeALargeBlockFails) {
    in_child([] {
        leave_pieces();
        EXPECT_NE(allocate(MAX_CLASS_SIZE + 10 * SLICE_SIZE), nullptr);
        EXPECT_EQ(allocate(MAX_CLASS_SIZE + MOST_SLICES * SLICE_SIZE), nullptr);
        expect_sound();
    });
}

TEST(Growth, WhatIsKeptForReuseGoesBackBeforeAPageFails) {
    in_child([] {
        leave_pieces();
        EXPECT_NE(allocate(MAX_CLASS_SIZE), nullptr);  // of a page of several slices
        expect_sound();
    });
}

TEST(Growth, ReallocDoesWithoutTheRoomThatItWishesFor) {
    in_child([] {
        static const Backing counted = counted_backing();
        process_configure(&counted, KEEPS_MEMORY);
        void* const p = allocate(500);
        deallocate(use_all_memory().back());
        EXPECT_NE(reallocate(p, 1000), nullptr) << "there is room for 1024 bytes, and for no more";
        expect_sound();
    });
}

TEST(Growth, WhatABlockCouldNotGrowByGoesBack) {
    in_child([] {
        static const Backing counted = counted_backing();
        process_configure(&counted, KEEPS_MEMORY);
        constexpr u32 HAS = 60;
        void* const p = allocate(HAS * SLICE_SIZE);
        ASSERT_NE(p, nullptr);
        EXPECT_EQ(reallocate(p, (MOST_SLICES + 10) * SLICE_SIZE), nullptr);
        EXPECT_EQ(page_of(reinterpret_cast<uptr>(p))->slices, HAS);
        deallocate(p);
        expect_sound();
    });
}

std::vector<SliceIndex> pages_noted;

u64 note_page(SliceIndex first) {
    pages_noted.push_back(first);
    return u64{1} << (raw(first) % SLICES_PER_CHUNK);
}

TEST(Growth, ThePlaceForEachPagesBitmapsIsAskedFor) {
    in_child([] {
        static Backing sparse = counted_backing();
        sparse.commit_page = note_page;
        process_configure(&sparse, KEEPS_MEMORY);
        constexpr usize SIZES[] = {100, 200, 300, 400};
        for (const usize size : SIZES) {
            const uptr block = reinterpret_cast<uptr>(allocate(size));
            ASSERT_NE(block, 0u);
            const SliceIndex page = slice_at(base_of(page_of(block)));
            EXPECT_EQ(std::count(pages_noted.begin(), pages_noted.end(), page), 1) << size;
        }
    });
}

// ---- rooms

u32 chunks_out = 0;
std::atomic<u32> provided{0};

ChunkRun provide_noted(u32 count, u32 align, ChunkIndex at) {
    provided.fetch_add(1);
    const ChunkRun run = anonymous_provide(count, align, at);
    chunks_out += run.count;
    return run;
}

bool release_noted(ChunkIndex first, u32 count) {
    if (!anonymous_release(first, count)) return false;
    chunks_out -= count;
    return true;
}

/// Where the arena has no room yet, which nothing can be made accessible for from now on.
ChunkRun provide_far_away(u32 count, u32 align, ChunkIndex at) {
    constexpr u32 FAR = MAX_CHUNKS - 64;
    const ChunkRun run = provide_noted(count, align, at != NO_CHUNK ? at : ChunkIndex{FAR});
    refuse_call(__NR_mprotect, 2, PROT_WRITE, ENOMEM);
    return run;
}

TEST(Growth, AChunkWithoutRoomInTheArenaGoesBack) {
    in_child([] {
        static Backing far = *anonymous_backing();
        far.provide = provide_far_away;
        far.release = release_noted;
        process_configure(&far, KEEPS_MEMORY);
        EXPECT_EQ(allocate(100), nullptr);
        EXPECT_GT(provided.load(), 0u);
        EXPECT_EQ(chunks_out, 0u);
    });
}

// ---- chunks that hold nothing

/// A backing that has to be asked for memory, and takes chunks back if `release` says so.
Backing noting_backing(bool (*release)(ChunkIndex, u32)) {
    Backing noting = *anonymous_backing();
    noting.commit = [](uptr, usize) { return true; };
    noting.provide = provide_noted;
    noting.release = release;
    return noting;
}

TEST(Growth, AChunkThatCannotGoBackIsUsedAgain) {
    in_child([] {
        static const Backing noting = noting_backing(keep_chunks);
        process_configure(&noting, KEEPS_MEMORY);
        deallocate(allocate(MAX_CLASS_SIZE + SLICE_SIZE));
        const u32 before = provided.load();
        for (int i = 0; i < 3; ++i) {
            trim();
            EXPECT_NE(allocate(100), nullptr);
        }
        EXPECT_EQ(provided.load(), before);
        expect_sound();
    });
}

TEST(Growth, AFreeChunkStaysForWhoIsAtItsBorder) {
    in_child([] {
        static const Backing noting = noting_backing(release_noted);
        process_configure(&noting, {.decay_ms = 0});
        void* const p = allocate(MAX_CLASS_SIZE + SLICE_SIZE);
        ASSERT_NE(p, nullptr);
        EXPECT_EQ(chunks_out, 1u);
        deallocate(p);
        const SlowPath inside;
        purge_due(now_ms());
        EXPECT_EQ(chunks_out, 1u);
        purge_all();
        EXPECT_EQ(chunks_out, 0u);
    });
}

TEST(Growth, NoMoreHeapsAreMappedThanThereIsRoomFor) {
    in_child([] {
        process_configure(nullptr, KEEPS_MEMORY);
        ASSERT_NE(allocate(100), nullptr);
        domain().heaps_used = MAX_HEAPS;
        domain().heaps_mapped.store(MAX_HEAPS);
        EXPECT_FALSE(add_heaps());
        EXPECT_EQ(domain().heaps_mapped.load(), MAX_HEAPS);
    });
}

// ---- several threads at once

constexpr u32 THREADS = 8;
std::atomic<u32> asking{0};

/// Answers when all threads are on their way here.
ChunkRun provide_when_all_ask(u32 count, u32 align, ChunkIndex at) {
    while (asking.load() < THREADS) sched_yield();
    for (int i = 0; i < 20; ++i) sched_yield();
    return provide_noted(count, align, at);
}

TEST(Growth, ThreadsThatWantAChunkAtOnceTakeOne) {
    in_child([] {
        alarm(MOST_SECONDS);
        static Backing slow = *anonymous_backing();
        slow.provide = provide_when_all_ask;
        process_configure(&slow, KEEPS_MEMORY);
        ASSERT_TRUE(process_start());
        std::vector<std::thread> threads;
        for (u32 i = 0; i < THREADS; ++i)
            threads.emplace_back([] {
                asking.fetch_add(1);
                EXPECT_NE(allocate(100), nullptr);
            });
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(provided.load(), 1u);
    });
}

TEST(Growth, ThreadsThatMakeTheFirstRequestAtOnceStartTheProcessOnce) {
    in_child([] {
        alarm(MOST_SECONDS);
        process_configure(nullptr, KEEPS_MEMORY);
        start_lock.lock();
        std::vector<std::thread> threads;
        std::set<Heap*> heaps;
        Lock of_heaps;
        for (u32 i = 0; i < THREADS; ++i)
            threads.emplace_back([&] {
                asking.fetch_add(1);
                EXPECT_TRUE(process_start());
                EXPECT_NE(allocate(100), nullptr);
                of_heaps.lock();
                heaps.insert(current_heap());
                of_heaps.unlock();
                asking.fetch_sub(1);
                while (asking.load() != 0)
                    sched_yield();  // a heap whose thread has ended is another's
            });
        while (asking.load() < THREADS) sched_yield();
        for (int i = 0; i < 20; ++i) sched_yield();  // all of them are on their way to the lock
        start_lock.unlock();
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(heaps.size(), THREADS);
        expect_sound();
    });
}

}  // namespace
}  // namespace aep
