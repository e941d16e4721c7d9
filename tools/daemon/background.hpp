// Purpose: a daemon in the background whose starter learns whether it serves.
// Who calls it: daemon/main.cpp.
// Crash rule: a daemon that dies on the way closes the pipe; its starter says so.
#pragma once

#include "dsm-core/base/types.hpp"
#include "node/unique_fd.hpp"

namespace aep {

/// Goes on in a new session without terminal. In the starting process it does not return: that
/// exits with what the daemon says, see tell_starter().
UniqueFd go_to_background();

/// Ends the starter with this exit code.
void tell_starter(UniqueFd& starter, int exit_code);

/// Makes fd 0 and 1 /dev/null and fd 2 `log_fd`.
void leave_terminal(int log_fd);

/// systemd, where it started us (sd_notify). Nothing is said where it did not.
class ServiceManager {
  public:
    ServiceManager();
    /// We serve.
    void say_ready();
    /// The loop goes round. Said as often as the unit's WatchdogSec asks for; never waits.
    void say_alive(u64 now_ms);
    /// How often say_alive() must be called, at least.
    u64 period_ms() const;

  private:
    void say(const char* what) const;

    u64 watchdog_ms_ = 0;  // 0: nobody watches
    u64 said_ms_ = 0;
};

}  // namespace aep
