// Purpose: a descriptor that is readable while a message or an event of peers may be waiting for this process, for event
//          loops: an eventfd, and a thread of ours that writes it, as a sender cannot.
// Who calls it: the C API (dsm_fd); sharing.cpp when a receive finds nothing, and in a forked child; peer_events.cpp.
// Crash rule: both are private to the process and end with it; what a kill leaves is a count of
//             waiters too high, as in sharing.cpp.
#pragma once

#include "dsm-core/base/thread_safety.hpp"
#include "dsm-core/base/types.hpp"

namespace aep {

/// The process's descriptor; the first call makes it and its thread. -ENOTCONN: it takes no part;
/// -EMFILE, -ENFILE, -ENOMEM; -EAGAIN: no thread could be made.
long share_fd();

/// A receive has found nothing, or there is no event: the descriptor is not readable any more, until something comes, or
/// at once again if it was for one peer and messages of others wait. `arrivals`: of the own
/// mailbox, read before the receive looked. Costs one load while the descriptor is down or was
/// never asked for.
void lower_share_fd(u32 arrivals);

/// The process takes part again after it had ceased to, or begins or ceases to follow its peers: others are to know that somebody watches, and for what.
void watch_again();

/// In a forked child: it has no such thread, and the descriptor is its parent's.
void forget_share_fd() AEP_NOT_CHECKED;  // nobody else is there

}  // namespace aep
