// Purpose: one sharing operation of this process: whether it takes part at all, the records that the
//          operation needs, what its outcome is as an errno.
// Who calls it: the rest of this folder; preload/.
// Crash rule: an operation completes or has not happened; between two nothing is held.
#pragma once

#include "dsm-core/sharing/share_request.hpp"
#include "shim/context/slots.hpp"
#include "shim/driver/slow_path.hpp"

namespace aep {

/// Whether this process takes part: then some of its blocks may be exports.
extern std::atomic<bool> sharing_open;

/// This process as a client of sharing; 0: it takes no part.
ShareId share_self();

/// Performs one operation, as a stay on the slow path; `nested` below a handler that interrupted
/// one. Here for what is done often; else share_with_records.
inline ShareReply share_operation(ShareOp op, const ShareRequest& request) {
    const SlowPath here;
    if (here.nested()) return {.status = Status::nested};
    return perform_share_op(op, request);
}
/// The same; records are made present as it needs them.
ShareReply share_with_records(ShareOp op, const ShareRequest& request);

/// 0 or -errno.
long error_of(Status status);

}  // namespace aep
