// Purpose: what the daemon says of shared objects (command "objects"), in JSON.
// Who calls it: daemon/commands.cpp.
// Crash rule: reads only.
#pragma once

#include <nlohmann/json.hpp>

#include "node/host.hpp"

namespace aep {

/// The most objects that one answer names.
inline constexpr u64 MOST_OBJECTS_TOLD = 10'000;

/// Sums, the `most` largest objects with who holds them, and what each client has. Walks for two seconds at most: nobody
/// is served meanwhile.
nlohmann::ordered_json objects_told(const NodeHost& host, u64 most);

}  // namespace aep
