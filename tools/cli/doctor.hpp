// Purpose: looks at the system: what a context and its provider need, what is missing, how to get
// it. Who calls it: cli/commands.cpp. Crash rule: reads only.
#pragma once

#include <string>
#include <vector>

#include "tools/cli/daemon_client.hpp"

namespace aep {

enum class Health { good, weak, bad };

struct Diagnosis {
    std::string what;
    Health health;
    std::string found;
    std::string advice;  // empty when nothing need be done
};

/// All that is looked at, the daemon's own word on its provider included where one listens.
std::vector<Diagnosis> diagnose(const Target& target);

}  // namespace aep
