// Purpose: groups: all objects of one data structure, of which only the root is counted. What the
//          table of exports knows of them: which memory is theirs, their root, who may allocate.
// Who calls it: share_ops.cpp, with its lock; the records, when a last reference goes.
// Crash rule: inside an operation, which completes. A group's memory is never looked at.
//
// A group is an export: the block in which it begins. Its *extents* are exports without references
// that hang on it. When its last reference goes, each part goes to its own owner, or away with its
// chunk if that is dead. Its root is a record of its own in the hash of addresses, so that a
// reference can be sent and dropped by the root's address; find_export makes no difference.
//
// Cost: that of the other operations; an extension, a root and the last drop walk the extents, too.
#pragma once

#include "dsm-core/sharing/records.hpp"

namespace aep {

/// Of one group: bounds what is done under the lock. Extents grow with their group, so that the
/// pool is full before.
inline constexpr u32 MAX_EXTENTS = 64;

/// Perform the operations of groups for a client, under the lock of sharing.
op::MakeGroup::Reply perform_locked(u32 client, const op::MakeGroup& o, SharingLock& lock);
op::FindGroup::Reply perform_locked(u32 client, const op::FindGroup& o, SharingLock& lock);
op::ExtendGroup::Reply perform_locked(u32 client, const op::ExtendGroup& o, SharingLock& lock);
op::SetRoot::Reply perform_locked(u32 client, const op::SetRoot& o, SharingLock& lock);
op::SetWriter::Reply perform_locked(u32 client, const op::SetWriter& o, SharingLock& lock);
op::TakeGroup::Reply perform_locked(u32 client, const op::TakeGroup& o, SharingLock& lock);
op::CountUnknown::Reply perform_locked(u32 client, const op::CountUnknown& o, SharingLock& lock);

}  // namespace aep
