// Purpose: what a new pool is to be, and the superblock that says so.
// Who calls it: pool_create.cpp, pool_device.cpp; whoever asks for a pool fills the plan in.
// Crash rule: no state.
#pragma once

#include "dsm-core/era/region.hpp"

namespace aep {

struct PoolPlan {
    usize bytes = 0;  // 0: DEFAULT_POOL_BYTES, or a device's size
    // That it may grow to; 0, or less than its size: not at all, or a device's size.
    usize room = 0;
    era::Sizes sizes{};  // of what its nodes share
    PoolTerms terms{};   // what they hold alike
};

/// The superblock for a plan, whose bytes are the file's or device's. False after a message: the pool has no room for
/// what it asks.
bool plan_superblock(Superblock& made, const char* path, const PoolPlan& plan,
                     const u8 (&uuid)[16]);

/// Whether the plan says that caches are coherent, or not, of memory that other machines may map: nothing here can find
/// that out. False after a message.
bool says_coherence(const char* path, const PoolPlan& plan);

}  // namespace aep
