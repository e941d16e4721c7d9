// Purpose: what this process has been told of the clients of other nodes, by their nodes' directories, and what there is to tell.
// Who calls it: peer_table.cpp, which has the lock of what has been told.
// Crash rule: private to the process; reads only. A node that dies takes what was told of its clients with it.
//
// What two at once may see.
//
//   take_event_elsewhere | announce     an entry before or after it, or in the middle of it, which is passed over: the node's count of
//                                       changes is read before the entries, and goes up when the change is over
//   take_event_elsewhere | join, death  the generation is another one: all that was told are lost, then those who are there come
#pragma once

#include "shim/sharing/told_peer.hpp"

namespace aep {

/// From here on all of other nodes are to be told. False: no memory.
bool follow_elsewhere();
/// Whether there may be something to tell. For a thread that has no thread-local storage, too.
bool news_elsewhere();
/// The next event: of those who have gone (`gone`), or any. False: none.
bool take_event_elsewhere(bool gone, PeerEvent& event);

}  // namespace aep
