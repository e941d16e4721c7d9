// Purpose: how the parts of the node host say what happens.
// Who calls it: node, the daemon, which has a log.
// Crash rule: no state.
#pragma once

#include <functional>
#include <string>

namespace aep {

enum class LogLevel { debug, info, warning, error };
using Log = std::function<void(LogLevel, const std::string&)>;

}  // namespace aep
