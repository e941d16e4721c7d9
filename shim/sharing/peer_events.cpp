// Purpose: see peer_events.hpp.
// Who calls it: see peer_events.hpp.
// Crash rule: see peer_events.hpp.
#include "shim/sharing/peer_events.hpp"

#include <errno.h>

#include "shim/sharing/share_fd.hpp"
#include "shim/sharing/share_operation.hpp"
#include "shim/sharing/share_wait.hpp"

namespace aep {

long watch_peers(Following how) {
    if (!takes_part()) return -ENOTCONN;
    const long result = follow_peers(how);
    if (result == 0) watch_again();
    return result;
}

long next_peer_event(int timeout_ms, PeerEvent& event) {
    const u64 deadline = timeout_ms > 0 ? deadline_of(now_ns(), timeout_ms) : 0;
    Naps naps;  // other nodes wake nobody
    for (;;) {
        if (!takes_part()) return -ENOTCONN;
        // Both before the look: what changes after that wakes us, or puts the descriptor up.
        const std::atomic<u32>& changed = sharing().peers_changed;
        const u32 before = changed.load(std::memory_order_seq_cst);
        const u32 arrivals = share_client(this_client.index).inbox.arrivals.load();
        const long result = take_peer_event(event);
        if (result != -EAGAIN) return result;
        lower_share_fd(arrivals);
        if (timeout_ms == 0) return -EAGAIN;
        const u64 now = shares_between_nodes() ? now_ns() : 0;
        const u64 nap = now == 0 ? deadline : now + naps.next(now);
        const bool last = now == 0 || (deadline != 0 && deadline <= nap);
        const long slept = sleep_while(changed, before, last ? deadline : nap);
        if (slept == -EINTR || (slept != 0 && last)) return slept;
    }
}

}  // namespace aep
