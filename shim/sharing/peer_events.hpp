// Purpose: waiting for what there is to tell of peers, with or without the descriptor.
// Who calls it: the C API (preload/peers.cpp).
// Crash rule: private to the process; what a kill leaves is a sleeper less.
#pragma once

#include "shim/sharing/peer_table.hpp"

namespace aep {

/// follow_peers(), and who sleeps is told when there may be an event. -ENOTCONN.
long watch_peers(Following how);

/// The next event; waits for one up to timeout_ms (-1: for ever). -EAGAIN: there is none, and it was not to wait; -ETIMEDOUT, -EINTR; -EINVAL: nothing is
/// followed; -ENOTCONN, also when the process ceases to take part meanwhile.
long next_peer_event(int timeout_ms, PeerEvent& event);

}  // namespace aep
