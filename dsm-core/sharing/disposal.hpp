// Purpose: what becomes of an export when the last reference of this node to it is gone: it goes
//          back to its owner, away, or it lingers.
// Who calls it: the sharing operations, each of them alone (see SharingLock) and inside an operation.
// Crash rule: inside an operation, which completes or is undone.
#pragma once

#include "dsm-core/sharing/records.hpp"

namespace aep {

/// An export whose last reference of this node is gone: given back, a group's parts first; or,
/// while the node itself has a reference, onto a list of those that linger. While an operation is
/// at work with it nothing happens: that one disposes of it afterwards.
void dispose(u32 index);
/// Takes the export off the list that is on it the longest; it may be in use again. NO_RECORD: none
/// is on it.
u32 next_lingering(Lingering& list);

}  // namespace aep
