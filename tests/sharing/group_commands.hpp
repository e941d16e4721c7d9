// Purpose: what the sharing peer does with groups.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include "tests/sharing/commands.hpp"

namespace aep::test {

/// The commands of groups: each name begins with a g.
extern const Commands GROUP_COMMANDS;

}  // namespace aep::test
