// Purpose: what the tests of fork in pool mode share.
// Who calls it: tests/unit/pool_fork*.cpp.
// Crash rule: see pool_fixture.hpp.
#pragma once

#include "tests/unit/pool_fixture.hpp"

namespace aep::test {

inline constexpr usize SMALL = 32 * MiB;
inline constexpr u32 SMALL_CHUNKS = 7;

/// fork() as the hooks make it.
template <class Body>
pid_t hooked_fork(const Backing* b, Body body) {
    EXPECT_TRUE(b->fork_prepare());
    const pid_t child = start_child([&] {
        b->fork_child();
        body();
    });
    b->fork_parent();
    return child;
}

/// From here on this process takes its pool for one of which a fork copies: a device.
inline void let_fork_copy() { pool.file.memory = PoolMemory::device; }

/// A chunk of ours, all of it usable.
inline ChunkIndex take(const Backing* b) {
    const ChunkRun run = b->provide(1, 1, NO_CHUNK);
    EXPECT_TRUE(run);
    EXPECT_TRUE(run && b->commit(chunk_address(run.first), CHUNK_SIZE));
    return run.first;
}

}  // namespace aep::test
