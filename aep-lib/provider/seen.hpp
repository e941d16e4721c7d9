// Purpose: whether a process that asks to be a client can be watched at all.
// Who calls it: the providers' plugs; kernel_provider.cpp.
// Crash rule: reads only.
#pragma once

#include <sys/types.h>

#include <string>

namespace aep {

/// The number of a process by its descriptor; 0: it is dead, or cannot be seen from here.
pid_t pid_of(int pidfd);

/// Why the process behind `pidfd`, which the socket says has the number `pid`, cannot be watched:
/// it is in a pid namespace that this process does not see, or it is gone. One line; empty: it can.
std::string why_not_seen(pid_t pid, int pidfd);

}  // namespace aep
