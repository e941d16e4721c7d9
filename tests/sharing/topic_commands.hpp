// Purpose: what the sharing peer does with topics, in C and by the handles of C++.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include "tests/sharing/commands.hpp"

namespace aep::test {

extern const Commands TOPIC_COMMANDS;

}  // namespace aep::test
