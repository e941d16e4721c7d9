// Purpose: topics: opened by their names, subscribed to, published in, taken from and closed.
// Who calls it: share_ops.cpp; taking_part.cpp, for who takes part no more.
// Crash rule: inside an operation, which completes or is undone. Closing is many changes, each of them one: what comes after one that
//             is undone is done when it is asked for again. So is what a publication takes the place of: a publisher killed in between leaves
//             a history that is shorter by one, of what everybody has taken who may miss nothing.
//
// What two at once may see, beside turn.hpp's:
//
//   publish | publish    one after the other: the order in which all take them
//   publish | take       the publication, or not yet; what is missed is what the ring has no more
//   take | take          of one client, one after the other: each publication once. Of two, each its own
//   publish | subscribe  it is the newcomer's, or of the history
//   publish | leave      who has left holds nobody up
//   open | close         of the last one: the topic that ends, or a new one of that name
#pragma once

#include "dsm-core/sharing/disposal.hpp"

namespace aep {

/// op::OpenTopic. Cost: linear in the topics, and in what clients have open of them.
op::OpenTopic::Reply open_topic(Caller caller, const op::OpenTopic& o);
/// op::Subscribe. Cost: linear in the history.
op::Subscribe::Reply subscribe(Caller caller, const op::Subscribe& o);
/// op::Publish. Cost: that of a send, whatever the number of subscribers; each time that one of those who may miss nothing may be too far behind,
/// a look at each who has the topic open; of a topic that is full, besides, that of a drop.
op::Publish::Reply publish(Caller caller, const op::Publish& o);
/// op::TakePublication. Cost: that of a receive; of who is too far behind, linear in what is kept.
op::TakePublication::Reply take_publication(Caller caller, const op::TakePublication& o);
/// op::CloseTopic.
op::CloseTopic::Reply close_topic(Caller caller, const op::CloseTopic& o);

/// The client has no topic open any more, after up to `left` steps, which are counted down. Locked::yes: not yet.
Locked close_topics(Turn& turn, u32 client, u32& left);

}  // namespace aep
