// Purpose: what a context did a second, between two looks at its counters.
// Who calls it: cli/top.cpp.
// Crash rule: none needed.
#pragma once

#include "tools/cli/daemon_client.hpp"

namespace aep {

/// A second, of `now` and what was `before`, both the daemon's status: {"sent": 12.5, ...}. An object of zeros where the
/// daemon is another one, or no time has passed.
Json rates_between(const Json& before, const Json& now);

}  // namespace aep
