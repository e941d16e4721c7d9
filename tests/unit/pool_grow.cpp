// Purpose: tests of pools that grow while processes use them, files and what stands for a device.
// Who calls it: ctest. With nodes and their daemons: tests/sharing/growing.py. Deaths: pool_crash_points.cpp.
// Crash rule: none needed: files and memory go with the test.
#include "shim/backing/pool_grow.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstring>

#include "tests/unit/growing.hpp"

namespace aep::test {
namespace {

TEST(PoolGrow, WhoHasAllOfItFindsMore) {
    const Directory directory;
    const std::string path = directory.file();
    make_roomy_pool(path);
    const Signal full, grown;
    const pid_t user = start_child([&] {
        const Backing* b = attach(path);
        EXPECT_EQ(take_all(b), ROOMY_CHUNKS);
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK));
        full.say();
        grown.wait();
        const ChunkRun more = b->provide(2, 1, NO_CHUNK);
        ASSERT_TRUE(more);
        EXPECT_EQ(raw(more.first), ROOMY_CHUNKS);
        EXPECT_TRUE(b->commit(chunk_address(more.first), 2 * CHUNK_SIZE));
        EXPECT_EQ(bytes_at(more.first)[CHUNK_SIZE], 0);
        std::memset(bytes_at(more.first), 1, 2 * CHUNK_SIZE);
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK));
    });
    full.wait();
    in_child([&] { EXPECT_TRUE(grow(path, ROOMY_BYTES + 2 * CHUNK_SIZE + 5)); });
    grown.say();
    EXPECT_EQ(wait_for(user), 0);
    EXPECT_EQ(check(path).chunks, ROOMY_CHUNKS + 2);
    in_child([&] { EXPECT_EQ(take_all(attach(path)), ROOMY_CHUNKS + 2); });
}

TEST(PoolGrow, NeverBeyondItsRoomNorSmaller) {
    const Directory directory;
    const std::string path = directory.file();
    make_roomy_pool(path);
    in_child([&] {
        EXPECT_FALSE(grow(path, ROOM_BYTES + CHUNK_SIZE));
        EXPECT_FALSE(grow(path, ROOMY_BYTES - CHUNK_SIZE));
        EXPECT_TRUE(grow(path, ROOMY_BYTES));
        EXPECT_EQ(check(path).chunks, ROOMY_CHUNKS);
        EXPECT_TRUE(grow(path, ROOM_BYTES));
        EXPECT_FALSE(grow(path, ROOMY_BYTES));
    });
    EXPECT_EQ(check(path).chunks, ROOM_CHUNKS);
}

TEST(PoolGrow, WhatLiesBehindTheEndIsNobodys) {
    const Directory directory;
    const std::string path = directory.file();
    make_roomy_pool(path);
    in_child([&] {
        const int fd = ::open(path.c_str(), O_RDWR);
        ASSERT_EQ(pwrite(fd, "left", 4, ROOMY_BYTES + 100), 4);  // somebody has made it longer
        close(fd);
        EXPECT_EQ(take_all(attach(path)), ROOMY_CHUNKS);
        EXPECT_TRUE(grow(path, ROOM_BYTES));
    });
    EXPECT_TRUE(free_chunks_are_clean(path));
}

TEST(PoolGrow, ALimitOfTheFileSizeIsSaid) {
    const Directory directory;
    const std::string path = directory.file();
    make_roomy_pool(path);
    in_child([&] {
        signal(SIGXFSZ, SIG_IGN);
        const rlimit least{ROOMY_BYTES, ROOMY_BYTES};
        ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &least), 0);
        EXPECT_FALSE(grow(path, ROOM_BYTES));
    });
    EXPECT_EQ(check(path).chunks, ROOMY_CHUNKS);
}

TEST(PoolGrow, OfTwoAtOnceTheLargerOneStays) {
    for (int round = 0; round < 10; ++round) {
        const Directory directory;
        const std::string path = directory.file();
        make_roomy_pool(path);
        std::vector<pid_t> growers;
        for (const usize more : {1, 3, 2}) {
            growers.push_back(
                start_child([&, more] { grow(path, ROOMY_BYTES + more * CHUNK_SIZE); }));
        }
        for (const pid_t grower : growers) EXPECT_EQ(wait_for(grower), 0);
        EXPECT_EQ(check(path).chunks, ROOMY_CHUNKS + 3);
        in_child([&] { EXPECT_EQ(take_all(attach(path)), ROOMY_CHUNKS + 3); });
    }
}

TEST(PoolGrow, AFileThatIsShorterThanItsPoolIsRefused) {
    const Directory directory;
    const std::string path = directory.file();
    make_roomy_pool(path);
    in_child([&] { EXPECT_TRUE(grow(path, ROOM_BYTES)); });
    ASSERT_EQ(truncate(path.c_str(), ROOMY_BYTES), 0);
    in_child([&] { EXPECT_EQ(pool_backing(path.c_str(), 0), nullptr); });
}

TEST(PoolGrow, AWordThatSaysMoreThanThereIsRoomForIsCut) {
    alignas(CACHE_LINE) u8 page[2 * OS_PAGE_SIZE] = {};
    PoolShape shape{};
    shape.nodes_offset = SUPERBLOCK_BYTES + sizeof(PoolGrowth);
    shape.chunk_words_offset = shape.nodes_offset + sizeof(PoolGrowth);
    shape.chunk_count = 9;
    shape.first_chunks = 4;
    const PoolTables t = tables_of(page, shape);
    EXPECT_EQ(t.chunks_there(), 4u);
    grow_to(t, 6);
    EXPECT_EQ(t.chunks_there(), 6u);
    grow_to(t, 5);
    EXPECT_EQ(t.chunks_there(), 6u);
    for (const u64 wild : {u64{5}, u64{6}, ~u64{0}}) {
        t.growth->chunks = wild;
        EXPECT_EQ(t.chunks_there(), 9u);
    }
}

}  // namespace
}  // namespace aep::test
