// Purpose: the sharing operations that cross nodes: an object is sent to a client of another node,
//          a message of another node is taken, the node's reference is given up.
// Who calls it: the sharing operations (share_ops.cpp).
// Crash rule: inside an operation, which completes; or its lane's redo record decides whether the
//             transaction has happened, and finish_away() brings the tables in line with that. If
//             the whole machine dies, other nodes do so (dsm-core/era/recovery.hpp).
//
// The node has one reference to an object, whatever its clients have: number i of its references is
// for object i. The node whose memory it is keeps its own until it is the last, so memory is always
// freed by whose it is, or goes with the chunks of a dead node.
//
// Each has steps under locks (turn.hpp), and between them transactions without any, in a lane of
// its own: any number of clients at once. `pins` keeps an export meanwhile, and pin_of() tells what
// a slot has pinned.
//
// What two at once may see, of this node; of others see era/transaction.hpp and era/mailbox.hpp.
//
//   send | send, first of an object   one makes the node's reference, the other waits until it is there
//   send | last drop             the export is pinned: what ends first does not dispose of it
//   receive | receive            one of them gets the message, the other goes on to the next
//   receive | settle, one object the receiver waits until the reference is held or gone, and then
//                                makes an export of its own
//   finish_away | all            the dead slot's pin keeps the export until it is put right
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// op::Send to a client of another node. Cost: one transaction (4 to 5 fences), the first time
/// for an object two.
op::Send::Reply send_away(Caller caller, const op::Send& o);

/// op::Receive, of messages from other nodes. miss: there is none.
op::Receive::Reply receive_from_away(Caller caller, const op::Receive& o);

/// op::FinishAway: the slot died between nodes, in a lane that settle_lanes() has
/// settled. What it had pinned is put right: the pool says whether the node has its reference. And
/// other nodes are told the name that its client has, if it died in open(). Repeatable.
op::FinishAway::Reply finish_away(Caller caller, const op::FinishAway& o);

/// Whether the operation in a slot is one that tells other nodes of its client.
inline bool may_have_told_a_name(u32 slot) { return slot_at(slot).op == number_of<op::Open>(); }

/// By the host, for a slot whose thread is dead: ends or takes back what it was in the middle of in
/// its lanes, and frees them. `pinned`: the export that it had pinned, whose record is in memory;
/// NO_RECORD: none. No lock is needed. Repeatable after a kill.
void settle_lanes(u32 slot, u32 pinned);

/// Gives up the node's references to exports on the list, of which it looks at up to `limit`, where
/// that may be: objects of other nodes, and own ones that no other node refers to any more. How
/// many it gave up. Their nodes' doorbells are rung when all have gone.
u32 settle(Lingering& list, Caller caller, u32 limit);

/// Whether one more object or extent of this node's can be told to others. Under the lock of numbers.
bool has_free_number();
/// Tells other nodes of those extents of a group that they do not know: a chunk that they lie in is
/// kept with the group if this node dies. Under the group's lock and that of numbers; one flush.
void publish_extents(u32 group);

/// Messages for clients that are no more, and whatever a dead sender's hints do not tell of in the
/// ring of node `from`, or, where there is no such node, in all of them. Cost: a look at each cell
/// of those, and at each message of the others.
void tidy_rings(Caller caller, u32 from);

}  // namespace aep
