// Purpose: creates a pool file: complete before it has its name.
// Who calls it: pool_file.cpp.
// Crash rule: see pool_file.hpp.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Room that a temporary name needs beyond the pool's own path.
inline constexpr usize PATH_SLACK = 48;

/// Creates the pool `path` of `bytes`, mode 0600 whatever the umask. True also if somebody else was
/// faster; false after a message.
bool create_pool_file(const char* path, usize bytes);

}  // namespace aep
