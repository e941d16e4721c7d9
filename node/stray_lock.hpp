// Purpose: the lock of sharing, when its word names somebody who cannot have it.
// Who calls it: the node host's sweep.
// Crash rule: one word is written.
#pragma once

#include "node/log.hpp"

namespace aep {

/// The lock of sharing is taken and let go within an operation. If its word names a slot that is in
/// none, a client wrote that there: nobody lets it go, and all wait who share. It is freed, or the
/// context poisoned where somebody is in the middle of something.
void free_stray_lock(const Log& log);

}  // namespace aep
