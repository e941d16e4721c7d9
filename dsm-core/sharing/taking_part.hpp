// Purpose: a client begins to take part in sharing, under a name or without one; and what it has goes when it is dead.
// Who calls it: share_ops.cpp.
// Crash rule: inside an operation, which completes or is undone. Leaving is many changes, each of them one: what comes after one that is
//             undone is done when it is asked for again.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// op::Open. A name is claimed among all nodes first; while other nodes decide nothing is locked. Cost: linear in the clients.
op::Open::Reply open_client(Caller caller, const op::Open& o);

/// op::CloseInbox of the main one: it takes part no more, under no name; its messages are dropped, its references and exports stay.
op::CloseInbox::Reply stop_taking_part(Caller caller);

/// op::Leave: first it takes part no more; then its messages, its references and its exports go, so many at a time.
op::Leave::Reply leave_client(Caller caller);

}  // namespace aep
