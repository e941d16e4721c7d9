// Purpose: the sharing peer's commands for calls that a program had better not make.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include "tests/sharing/commands.hpp"

namespace aep::test {

extern const Commands ODD_COMMANDS;

}  // namespace aep::test
