// Purpose: see peers.hpp.
// Who calls it: see peers.hpp.
// Crash rule: see peers.hpp.
#include "dsm-core/sharing/peers.hpp"

#include "dsm-core/sharing/turn.hpp"

namespace aep {
namespace {

/// Those who wait for peers look; threads behind a descriptor sleep for messages, too.
void tell_watchers() {
    std::atomic<u32>& changed = sharing().peers_changed;
    // seq_cst: who goes to sleep has read it before he looked, or sees that it is another one.
    changed.fetch_add(1, std::memory_order_seq_cst);
    detail::futex(&changed, detail::FUTEX_WAKE, ~0u >> 1);
    for (u32 i = 1; i <= context().max_clients; ++i)
        if ((inbox_at(i).watched.load() & Inbox::PEERS_WATCHED) != 0)
            wake(words_of(i, Sleep::arrivals));
}

}  // namespace

void stay_begins(u32 client) {
    ++attendance_of(client).stays;
    tell_watchers();
}

void name_changes(u32 client) {
    ++attendance_of(client).names;
    tell_watchers();
}

void stay_ends(u32 client, bool died) {
    Attendance& attendance = attendance_of(client);
    attendance.died = died ? 1 : 0;
    ++attendance.stays;
    tell_watchers();
}

op::LookAtPeer::Reply look_at_peer(Caller caller, const op::LookAtPeer& o) {
    if (o.client == 0 || o.client > context().max_clients) return {.status = Status::miss};
    Turn turn(caller);
    if (!turn.names()) return {.status = Status::poisoned};
    const Attendance& attendance = attendance_of(o.client);
    op::LookAtPeer::Reply reply{.stays = attendance.stays,
                                .names = attendance.names,
                                .died = attendance.died,
                                .id = id_of(o.client)};
    const ClientName name = share_client(o.client).name();
    __builtin_memcpy(reply.name.text, name.text, sizeof reply.name.text);
    return reply;
}

}  // namespace aep
