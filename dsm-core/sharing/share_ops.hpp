// Purpose: the sharing operations: how a reference is sent, received, kept and dropped.
// Who calls it: the image's dispatcher on behalf of clients; recovery, through the image, for dead
//               ones.
// Crash rule: inside an operation, which completes or is undone; nothing of the process's own is
//             touched, so another one can do either. The object's memory is never looked at.
//
// Cost of each: one lock, a search among those of the same hash, and among an object's holders;
// no flush, no fence but the lock's, nothing of the pool.
#pragma once

#include "dsm-core/sharing/share_request.hpp"

namespace aep {

/// Performs a sharing operation. Safe from any number of threads, each in a slot of its own.
ShareReply perform_share(Caller caller, ShareOp op, const ShareRequest& request);

}  // namespace aep
