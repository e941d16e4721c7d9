// Purpose: creates a pool file: complete before it has its name.
// Who calls it: pool_file.cpp.
// Crash rule: see pool_file.hpp.
#pragma once

#include "dsm-core/era/region.hpp"

namespace aep {

/// Room that a temporary name needs beyond the pool's own path.
inline constexpr usize PATH_SLACK = 48;

/// What a new pool is to be.
struct PoolPlan {
    usize bytes = 0;  // 0: DEFAULT_POOL_BYTES, or a device's size
    usize room =
        0;  // that it may grow to; 0, or less than its size: not at all, or a device's size
    era::Sizes sizes{};  // of what its nodes share
    PoolTerms terms{};   // what they hold alike
};

/// Creates the pool `path`, mode 0600 whatever the umask. True also if somebody else was faster, with a plan of his own;
/// false after a message.
bool create_pool_file(const char* path, const PoolPlan& plan);

/// The superblock for a plan, whose bytes are the file's or device's. False after a message: the pool has no room for
/// what it asks.
bool plan_superblock(Superblock& made, const char* path, const PoolPlan& plan,
                     const u8 (&uuid)[16]);

/// Whether the file is mapped past the page cache: memory that may be other machines', too (fsdax, famfs).
bool is_dax_file(int fd);

/// Whether the plan says that caches are coherent, or not, of memory that other machines may map: nothing here can find
/// that out. False after a message.
bool says_coherence(const char* path, const PoolPlan& plan);

}  // namespace aep
