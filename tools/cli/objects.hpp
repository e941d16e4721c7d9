// Purpose: `aep objects`: who holds what of whom.
// Who calls it: cli/main.cpp.
// Crash rule: none needed.
#pragma once

#include <string>

#include "dsm-core/base/types.hpp"
#include "tools/cli/daemon_client.hpp"

namespace aep {

/// The `most` largest shared objects, with their holders; sums; what each client holds. Returns the exit status: 1 if the
/// daemon did not see all of it in time.
int show_objects(const Target& target, u64 most);

/// What the daemon says of objects, as text for people.
std::string objects_text(const Json& objects);

}  // namespace aep
