// Purpose: a daemon in the background whose starter learns whether it serves.
// Who calls it: daemon/main.cpp.
// Crash rule: a daemon that dies on the way closes the pipe; its starter says so.
#pragma once

#include "node/unique_fd.hpp"

namespace aep {

/// Goes on in a new session without terminal. In the starting process it does not return: that
/// exits with what the daemon says, see tell_starter().
UniqueFd go_to_background();

/// Ends the starter with this exit code.
void tell_starter(UniqueFd& starter, int exit_code);

/// Makes fd 0 and 1 /dev/null and fd 2 `log_fd`.
void leave_terminal(int log_fd);

/// Tells systemd, where it started us, that we serve.
void notify_service_manager();

}  // namespace aep
