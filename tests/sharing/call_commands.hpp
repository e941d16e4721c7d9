// Purpose: the sharing peer's commands for the calls of aep/call.hpp.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include "tests/sharing/commands.hpp"

namespace aep::test {

extern const Commands CALL_COMMANDS;

}  // namespace aep::test
