// Purpose: what the sharing peer sends and receives several at a time, in C and by the handles of C++.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include "tests/sharing/commands.hpp"

namespace aep::test {

extern const Commands MANY_COMMANDS;

}  // namespace aep::test
