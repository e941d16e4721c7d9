// Purpose: creates a pool file: complete before it has its name.
// Who calls it: pool_file.cpp.
// Crash rule: see pool_file.hpp.
#pragma once

#include "shim/backing/pool_plan.hpp"

namespace aep {

/// Room that a temporary name needs beyond the pool's own path.
inline constexpr usize PATH_SLACK = 48;

/// Creates the pool `path`, mode 0600 whatever the umask. True also if somebody else was faster, with a plan of his own;
/// false after a message.
bool create_pool_file(const char* path, const PoolPlan& plan);

}  // namespace aep
