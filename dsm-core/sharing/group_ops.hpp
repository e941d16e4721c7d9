// Purpose: groups: all objects of one data structure, of which only the root is counted. What the
//          table of exports knows of them: which memory is theirs, their root, who may allocate.
// Who calls it: share_ops.cpp.
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

/// Perform the operations of groups for a client.
op::MakeGroup::Reply make_group(Caller caller, const op::MakeGroup& o);
op::FindGroup::Reply find_group(Caller caller, const op::FindGroup& o);
op::ExtendGroup::Reply extend_group(Caller caller, const op::ExtendGroup& o);
op::SetRoot::Reply set_root(Caller caller, const op::SetRoot& o);
op::SetWriter::Reply set_writer(Caller caller, const op::SetWriter& o);
op::TakeGroup::Reply take_group(Caller caller, const op::TakeGroup& o);
op::CountUnknown::Reply count_unknown(Caller caller, const op::CountUnknown& o);

}  // namespace aep
