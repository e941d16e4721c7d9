// Purpose: see peer_table.hpp.
// Who calls it: see peer_table.hpp.
// Crash rule: see peer_table.hpp.
#include "shim/sharing/peer_table.hpp"

#include <errno.h>

#include "shim/sharing/held_lock.hpp"
#include "shim/sharing/peers_elsewhere.hpp"
#include "shim/sharing/share_operation.hpp"

namespace aep {
namespace {

Lock table_lock;
ToldPeer told[MAX_DOMAINS] AEP_GUARDED_BY(table_lock);  // memory for those alone that are used
std::atomic<Following> following{Following::nobody};
std::atomic<u32> seen{0};  // peers_changed when all had been told

u32 last_client() {
    const u32 last = context().max_clients;
    return last < MAX_DOMAINS ? last : MAX_DOMAINS - 1;
}

/// Whether it has changed as far as can be seen without the lock; `gone`: by somebody's end, else by a beginning or a name.
bool seems_changed(const ToldPeer& known, u32 client, bool gone) {
    const Attendance& now = attendance_of(client);
    const u32 stays = now.stays.load();
    if (stays == known.stays) return !gone && now.names.load() != known.names;
    return gone == (known.is_there() || stays % 2 == 0);
}

/// 0: told; -EAGAIN: there is nothing to tell of that one; -errno.
long tell_of(u32 client, PeerEvent& event) AEP_UNDER(table_lock) {
    const auto now = share_operation(op::LookAtPeer{client});
    if (now.status != Status::ok) return error_of(now.status);
    return told[client].tell(now, event) ? 0 : -EAGAIN;
}

}  // namespace

bool follows_peers() { return following.load(std::memory_order_acquire) != Following::nobody; }

bool ends_receives() {
    return following.load(std::memory_order_acquire) == Following::ends_receives && peer_news();
}

bool peer_news() {
    if (!follows_peers()) return false;
    const u32 now = sharing().peers_changed.load(std::memory_order_seq_cst);
    return now != seen.load(std::memory_order_relaxed) ||
           (shares_between_nodes() && news_elsewhere());
}

long follow_peers(Following how) {
    const HeldLock scope(table_lock, HeldKind::peers);
    if (scope.refused()) return -EDEADLK;
    following.store(Following::nobody, std::memory_order_relaxed);
    if (how == Following::nobody) return 0;
    if (shares_between_nodes() && !follow_elsewhere()) return -ENOMEM;
    seen.store(sharing().peers_changed.load(std::memory_order_acquire) - 1,
               std::memory_order_relaxed);
    for (u32 i = 1; i <= last_client(); ++i) {
        const auto now = share_operation(op::LookAtPeer{i});
        if (now.status != Status::ok) return error_of(now.status);
        told[i].begin(now.stays);
    }
    following.store(how, std::memory_order_release);
    return 0;
}

long take_peer_event(PeerEvent& event) {
    const HeldLock scope(table_lock, HeldKind::peers);
    if (scope.refused()) return -EDEADLK;
    if (!follows_peers()) return -EINVAL;
    const u32 now = sharing().peers_changed.load(std::memory_order_seq_cst);
    const bool here = now != seen.load(std::memory_order_relaxed);
    for (const bool gone : {true, false}) {
        for (u32 i = 1; here && i <= last_client(); ++i) {
            if (i == this_client.index || !seems_changed(told[i], i, gone)) continue;
            if (const long result = tell_of(i, event); result != -EAGAIN) return result;
        }
        if (shares_between_nodes() && take_event_elsewhere(gone, event)) return 0;
    }
    seen.store(now, std::memory_order_relaxed);
    return -EAGAIN;
}

void forget_peers() {
    following.store(Following::nobody, std::memory_order_relaxed);
    table_lock.reset();
}

}  // namespace aep
