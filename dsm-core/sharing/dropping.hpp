// Purpose: references that a client drops, and what becomes of an object with its last one.
// Who calls it: share_ops.cpp.
// Crash rule: inside an operation; each reference goes as a whole, with what its end leads to.
#pragma once

#include "dsm-core/sharing/turn.hpp"

namespace aep {

/// One reference of the client's, to whatever it is.
op::Drop::Reply drop_reference(Caller caller, const op::Drop& o);

/// One to each of several objects, as long as that is simple: each has gone before the next one is begun, since an operation has one
/// object locked.
op::DropMany::Reply drop_references(Caller caller, const op::DropMany& o);

}  // namespace aep
