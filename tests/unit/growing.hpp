// Purpose: a pool with room to grow, and one who makes it larger as `aep pool grow` does.
// Who calls it: tests/unit/pool_grow.cpp, pool_crash_points.cpp.
// Crash rule: goes with the test's directory.
#pragma once

#include "shim/backing/pool_create.hpp"
#include "shim/backing/pool_grow.hpp"
#include "tests/unit/pool_fixture.hpp"

namespace aep::test {

inline constexpr usize ROOMY_BYTES = 32 * MiB, ROOM_BYTES = 64 * MiB;
inline constexpr u32 ROOMY_CHUNKS = 7, ROOM_CHUNKS = 15;

inline void make_roomy_pool(const std::string& path) {
    in_child([&] {
        EXPECT_TRUE(create_pool_file(path.c_str(), {.bytes = ROOMY_BYTES, .room = ROOM_BYTES}));
    });
    EXPECT_EQ(check(path).chunks, ROOMY_CHUNKS);
}

/// In a process of its own: opens the pool, makes it larger. What grow_pool_file() says.
inline bool grow(const std::string& path, usize bytes) {
    PoolFile file{};
    const int fd = open_pool_file(file, path.c_str(), {}, PoolUser::process);
    EXPECT_GE(fd, 0);
    void* at =
        mmap(nullptr, file.superblock.chunks_offset, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT_NE(at, MAP_FAILED);
    const bool grown = grow_pool_file(file, fd, tables_of(at, shape_of(file.superblock)), bytes);
    munmap(at, file.superblock.chunks_offset);
    close(fd);
    return grown;
}

}  // namespace aep::test
