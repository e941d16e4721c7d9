// Purpose: what a context did a second, between two looks at its counters.
// Who calls it: cli/top.cpp, cli/commands.cpp.
// Crash rule: none needed.
#pragma once

#include "tools/cli/daemon_client.hpp"

namespace aep {

/// A second, of `now` and what was `before`, both the daemon's status: {"sent": 12.5, ...}. An object of zeros where the
/// daemon is another one, or no time has passed.
Json rates_between(const Json& before, const Json& now);

/// Adds to each client of `now` what it did a second since `before`, both the daemon's answer to `top`:
/// "operations_a_second", "sent_a_second" and "received_a_second", by all of its threads; null where it was not there before.
void add_client_rates(const Json& before, Json& now);

}  // namespace aep
