// Purpose: one sharing operation of this process: whether it takes part at all, the records that the
//          operation needs, what its outcome is as an errno.
// Who calls it: the rest of this folder; preload/.
// Crash rule: an operation completes or has not happened; between two nothing is held.
#pragma once

#include "dsm-core/sharing/format.hpp"
#include "shim/context/client.hpp"
#include "shim/context/door.hpp"
#include "shim/driver/slow_path.hpp"

namespace aep {

/// Whether this process takes part: then some of its blocks may be exports.
extern std::atomic<bool> sharing_open;

/// Whether it takes part now: it has attached, and not detached since.
inline bool takes_part() {
    return sharing_open.load(std::memory_order_acquire) &&
           share_client(this_client.index).sends_as.load() != 0;
}

/// This process as a client of sharing; 0: it takes no part.
ShareId share_self();

/// The number of the process's own inbox with that id; 0: it is none, or closed. Of DSM_ANY: the main one's.
u32 own_inbox(ShareId id);

/// Performs one operation, as a stay on the slow path; `nested` below a handler that interrupted
/// one. Here for what is done often; else share_with_records.
template <ShareOperation O>
inline typename O::Reply share_operation(const O& o) {
    const SlowPath here;
    if (here.nested()) return {.status = Status::nested};
    return perform_in_image(o);
}

/// Makes more records present; false: no memory, or there are as many as there can be.
bool add_records();

namespace detail {

/// An operation that lacked records, again.
template <class O>
[[gnu::noinline]] typename O::Reply perform_with_more_records(const O& o) {
    typename O::Reply reply{.status = Status::need_records};
    while (reply.status == Status::need_records && add_records()) reply = share_operation(o);
    return reply;
}

}  // namespace detail

/// The same; records are made present as it needs them.
template <ShareOperation O>
inline typename O::Reply share_with_records(const O& o) {
    const typename O::Reply reply = share_operation(o);
    return AEP_LIKELY(reply.status != Status::need_records) ? reply
                                                            : detail::perform_with_more_records(o);
}

/// 0 or -errno.
long error_of(Status status);

}  // namespace aep
