// Purpose: what /proc says of a process and of the system, for the tables that people read.
// Who calls it: the node host, the daemon.
// Crash rule: reads only.
#pragma once

#include <sys/types.h>

#include <string>

#include "dsm-core/base/types.hpp"

namespace aep {

/// When a process began, in clock ticks since boot; 0: there is none.
u64 start_time_of(pid_t pid);
/// Its name as in /proc/PID/comm; empty: there is none.
std::string name_of(pid_t pid);
/// A clock for intervals, in ns and ms.
u64 monotonic_ns();
inline u64 monotonic_ms() { return monotonic_ns() / 1'000'000; }

}  // namespace aep
