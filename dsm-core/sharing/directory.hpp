// Purpose: clients by their names: those of this context, and what nodes tell each other of theirs, in the pool.
// Who calls it: the sharing operations (share_ops.cpp, away.cpp); clients look names up.
// Crash rule: an entry says nothing while its node is not live, and a node that joins clears its own. An operation that
//             is killed in a claim completes, or recovery announces anew: an entry is odd no longer than that.
//
// What two at once may see.
//
//   claim | claim, one node      the first one that comes back with it, under the lock of names, has the name
//   claim | claim, two nodes     at least one sees the other: the node that comes first has the name,
//                                the other gives way; if neither can be told, nobody has it
//   find_here | open, leave      an id that had the name at one moment, or none
//   find_elsewhere | announce    the same; an entry that stays half changed is passed over
//   is_reachable | announce      before or after it
//   look_elsewhere | announce    the same, or it says that it is in the middle; the node's count changes afterwards
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// Claims a name among all nodes for a client of this one: others see that from now on. Under the lock of names; announce() ends
/// the claim. Which change of the client's entry that was. Cost: a flush.
u64 begin_claim(u32 client, const char* name);
/// Whether nobody of another node has the name that the client claims, nor gets it: of two who want it at the same moment the one whose
/// node comes first does. Waits for other nodes' decisions, and so is called with nothing locked. Cost: a look at all clients
/// of all nodes.
bool may_have_claimed(u32 client, const char* name);
/// Whether the entry says what begin_claim() wrote. Under the lock of names.
bool still_claims(u32 client, u64 claim);

/// Tells other nodes that the client takes part, or (`open` 0) that it does not any more.
void announce(u32 client);

/// Whether an entry of this node's client says that a name is being claimed, or is in the middle of
/// a change: announce() was not reached, or not finished.
bool is_claiming(u32 client);

/// What changes when another node's clients come, go or are renamed: which life of it that is (0: it does not live), and a count.
struct NodeSigns {
    u32 generation;
    u64 changes;
};
NodeSigns signs_of(const era::Tables& tables, u32 node);

/// What another node says of one of its clients, as op::LookAtPeer. False: that is being changed, or a name claimed; signs_of() is others when it is done.
bool look_elsewhere(u32 node, u32 client, op::LookAtPeer::Reply& seen);

/// Whether that inbox of another node is open. Of a further one nothing is known here but that its node is the same still: what is
/// sent to one that is closed is dropped there.
bool is_reachable(const era::Tables& tables, ShareId id);

/// The client of this context with that name, which is not empty; 0: none, or the context is poisoned. Without the lock:
/// who seems to have the name is looked at again while no operation is under way. If one stays open, because its client
/// has died in it, until that is taken back. Linear in the clients.
ShareId find_here(const char* name);

/// The client of another living node with that name; 0: none. Linear in the clients of all nodes.
ShareId find_elsewhere(const char* name);

}  // namespace aep
