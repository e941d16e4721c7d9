// Purpose: the sharing peer's commands about peers that come and go.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include "tests/sharing/commands.hpp"

namespace aep::test {

extern const Commands EVENT_COMMANDS;

}  // namespace aep::test
