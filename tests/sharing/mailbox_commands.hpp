// Purpose: the sharing peer's commands for further mailboxes, calls, and coming and going.
// Who calls it: peer.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include "tests/sharing/commands.hpp"

namespace aep::test {

extern const Commands MAILBOX_COMMANDS;

}  // namespace aep::test
