// Purpose: when a node gives up references that it has between nodes and that nobody of it needs.
// Who calls it: share_ops.cpp.
// Crash rule: what is on a list of those that linger stays there; the next call, or the daemon's
//             sweep, goes on.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// op::Settle: some of what lingers, where that may be: own objects that no other node refers
/// to any more, groups, and, with `visitors`, other nodes' objects. Cost: a transaction each.
op::Settle::Reply give_up_lingering(Caller caller, bool visitors);

/// After a client has dropped a reference: what need not or must not linger goes. `waited_before`:
/// the count of the list `waiting` before the drop.
void after_drop(Caller caller, u32 waited_before);

}  // namespace aep
