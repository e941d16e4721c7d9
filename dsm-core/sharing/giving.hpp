// Purpose: a message is laid down, with the reference that it takes: in an inbox, or in a topic.
// Who calls it: share_ops.cpp, topic_ops.cpp.
// Crash rule: inside an operation, which completes or is undone.
#pragma once

#include "dsm-core/sharing/inbox.hpp"

namespace aep {

/// Lays one message down in an open inbox, or in a topic by its number, under the client's lock and the one of that. Needs a turn that wakes who
/// sleeps there.
op::Send::Reply send_under_locks(Turn& turn, u32 client, u32 as, const op::Send& o);

}  // namespace aep
