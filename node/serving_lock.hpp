// Purpose: one daemon a context: its directory, and the lock of whoever serves it.
// Who calls it: the node host, before anything else.
// Crash rule: the kernel drops the lock with its holder.
#pragma once

#include "node/paths.hpp"
#include "node/unique_fd.hpp"

namespace aep {

/// Makes the context's directory, or finds it sound, and takes the lock in it, which goes with the
/// descriptor. Waits for the one of a daemon that has just been killed, 5 s at most. Throws
/// NodeError (EBUSY: another daemon serves the context).
UniqueFd take_serving_lock(const ContextPaths& paths);

}  // namespace aep
