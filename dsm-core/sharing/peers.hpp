// Purpose: who of the node's clients takes part since when, for those who follow who comes and goes.
// Who calls it: taking_part.cpp, with the change that it is about; share_ops.cpp.
// Crash rule: inside an operation, which completes or is undone. Whoever sleeps is woken before it commits, and looks under the lock
//             that it holds until then: killed before that, somebody is woken for nothing; after it, all know.
//
// There is no list of events that could be full or lost: a client's attendance counts its stays, and whoever follows it compares that with what
// he saw last. He is told less only of stays that began and ended between two looks, and then how many.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// The client begins to take part; it takes another name; it ceases to, because its process ended or by its own wish. With the lock of names;
/// its change is made, and is announced to other nodes afterwards. Cost: linear in the clients.
void stay_begins(u32 client);
void name_changes(u32 client);
void stay_ends(u32 client, bool died);

/// op::LookAtPeer.
op::LookAtPeer::Reply look_at_peer(Caller caller, const op::LookAtPeer& o);

}  // namespace aep
