// Purpose: what this process has been told of its peers, and what there is to tell: who came, left, died, has another name since.
// Who calls it: peer_events.cpp; the thread behind the descriptor (share_fd.cpp) asks whether there may be something.
// Crash rule: private to the process. What it is compared with is read by operations that change nothing.
//
// Of each client the table has the stay that was told of last (dsm-core/sharing/peers.hpp). What differs from that is an event, and telling it makes
// it known: so nothing is queued that could be full, however long nobody asks, and whoever comes and goes without end fills nothing.
#pragma once

#include "shim/sharing/told_peer.hpp"

namespace aep {

/// Whether there is something to tell of peers, and who is told that there may be.
enum class Following : u32 {
    nobody = 0,
    events = 1,         // who asks, and the descriptor
    ends_receives = 2,  // those who wait for a message, too
};

/// From here on there is to be told who is there, and then who comes and goes; or nothing. Again: all who are there are told anew.
/// 0 or -errno. Cost: an operation a client that the context has room for.
long follow_peers(Following how);
bool follows_peers();
/// Whether who waits for a message is to look for an event instead.
bool ends_receives();

/// Whether there may be something to tell. Takes nothing and performs no operation; for a thread that has no thread-local storage, too. Cost: a load, and two
/// for each other node.
bool peer_news();

/// The next one: those who have gone before those who have come. 0, -errno; -EAGAIN: there is none. Cost: nothing while nothing has changed, else a look at
/// each client and an operation.
long take_peer_event(PeerEvent& event);

/// In a forked child: nobody follows.
void forget_peers() AEP_NOT_CHECKED;  // nobody else is there

}  // namespace aep
