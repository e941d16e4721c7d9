// Purpose: the locks of sharing, when their words name somebody who cannot have them.
// Who calls it: the node host's sweep.
// Crash rule: one word is written.
#pragma once

#include "node/log.hpp"

namespace aep {

/// The locks of sharing are taken and let go within an operation. If a word names a slot that is in
/// none, a client wrote that there: nobody lets it go, and all wait who need it. It is freed, or the
/// context poisoned where somebody is in the middle of something. Of exports the locks are not looked at: there may be
/// millions.
void free_stray_locks(const Log& log);

}  // namespace aep
