// Purpose: aep pool create, info, grow, destroy.
// Who calls it: cli/main.cpp.
// Crash rule: see node/pool_care.hpp.
#pragma once

#include <string>

#include "node/pool_care.hpp"

namespace aep {

/// Each returns its exit status; all throw NodeError.
int create_pool(const std::string& path, const PoolPlan& plan, bool json);
int enlarge_pool(const std::string& path, u64 bytes, bool more, bool json);
int show_pool(const std::string& path, bool json);
int remove_pool(const std::string& path, bool force, bool json);

}  // namespace aep
