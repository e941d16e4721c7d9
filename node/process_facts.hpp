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
/// Of one moment.
struct Relations {
    pid_t parent = 0;  // who began it, or has inherited it
    u32 threads = 0;
};
/// Zeros: there is no such process.
Relations relations_of(pid_t pid);
/// What it does, as in /proc/PID/stat: 'R', 'S', 'D', 'T' (stopped), 'Z', ...; 0: there is none.
char state_of(pid_t pid);
/// Whether it is on its way out, so that its memory may still be there.
bool is_ending(pid_t pid);
/// Whether one of its user ids (real, effective, saved) is `user`; false, too: there is none, or /proc does not show it.
bool is_of_user(pid_t pid, uid_t user);
/// A clock for intervals, in ns and ms.
u64 monotonic_ns();
inline u64 monotonic_ms() { return monotonic_ns() / 1'000'000; }

}  // namespace aep
