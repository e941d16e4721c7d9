// Purpose: several messages at once: as many in one operation as go into its request and its answer.
// Who calls it: preload/, for aep/dsm.h.
// Crash rule: each operation is whole; what a process that is killed between two of them has taken goes with it, what it has not sent is
//             its own.
#pragma once

#include "shim/sharing/sharing.hpp"

namespace aep {

/// One object of many that are sent.
struct Parcel {
    void* object = nullptr;
    usize bytes = 0;  // of an own block; 0: it must be one that was received
};

/// Sends them in this order until there is no room, and waits for room for the first alone. How many went; -errno: not even one.
long share_send_many(ShareId to, const Parcel* parcels, u32 count, int timeout_ms,
                     const Sending& how);

/// Waits for one message, then takes what else is there, `most` in all. How many; -errno: none. Their memory is accessible afterwards; of what
/// cannot be made so the reference goes (-ENOMEM: of all).
long share_receive_many(const Wanted& wanted, int timeout_ms, Received* received, u32 most);

/// One reference of this process less to each, in this order, until one is not held or is nothing that was shared. How many went; which of them
/// are the caller's to free, `last` says, a bit each. At most MOST_DROPPED are looked at. Callable in any process.
u32 share_drop_many(void* const* objects, u32 count, u32& last);
inline constexpr u32 MOST_DROPPED = op::DropMany::MOST;

}  // namespace aep
