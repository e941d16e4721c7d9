// Purpose: see many.hpp.
// Who calls it: see many.hpp.
// Crash rule: see many.hpp.
#include "shim/sharing/many.hpp"

#include <errno.h>

#include "shim/sharing/group_view.hpp"
#include "shim/sharing/guests.hpp"
#include "shim/sharing/held_lock.hpp"
#include "shim/sharing/share_mailbox.hpp"

namespace aep {
namespace {

using SendMany = op::SendMany;
using ReceiveMany = op::ReceiveMany;

bool goes_away(ShareId to) { return shares_between_nodes() && is_elsewhere(to); }

/// So many as one operation takes, of this node. The number that went.
u32 send_some(ShareId to, const Parcel* parcels, u32 count, const Sending& how) {
    SendMany request{.to = to, .label = how.label, .as = how.as, .drop = how.drop};
    request.count = static_cast<u8>(count < SendMany::MOST ? count : SendMany::MOST);
    for (u32 i = 0; i < request.count; ++i) {
        request.objects[i] = reinterpret_cast<uptr>(parcels[i].object);
        request.bytes[i] = parcels[i].bytes;
        share_collect_at_times(parcels[i].bytes);
    }
    const SendMany::Reply reply = share_operation(request);
    const u32 sent = reply.sent < request.count ? reply.sent : request.count;
    for (u32 i = 0; i < sent; ++i)
        if (AEP_UNLIKELY(reply.left_groups[i] != 0)) group_dropped(reply.left_groups[i]);
    return sent;
}

/// What lies in the inbox, as much as one operation takes. How many; -ENOMEM: there were some, and none can be looked at.
long receive_some(const Wanted& wanted, Received* received, u32 most) {
    const u32 at = wanted.at == 0 ? this_client.index : wanted.at;
    if (!a_message_waits(at) || !pool_is_accessible()) return 0;
    const ReceiveMany request{.from = wanted.from, .at = at, .most = most};
    const ReceiveMany::Reply reply = share_operation(request);
    u32 taken = 0;
    for (u32 i = 0; i < reply.count && i < most && i < ReceiveMany::MOST; ++i)
        if (AEP_LIKELY(hand_over(reply.taken.message[i], received[taken]) == 0)) ++taken;
    return taken == 0 && reply.count != 0 ? -ENOMEM : static_cast<long>(taken);
}

}  // namespace

long share_send_many(ShareId to, const Parcel* parcels, u32 count, int timeout_ms,
                     const Sending& how) {
    if (!takes_part()) return -ENOTCONN;
    u32 sent = 0;
    while (sent < count) {
        const u32 some = goes_away(to) ? 0 : send_some(to, parcels + sent, count - sent, how);
        sent += some;
        if (some == SendMany::MOST || sent == count) continue;
        // One that did not go as simply: alone it is told why, may wait if it is the first, and goes to other nodes, too.
        const Parcel& next = parcels[sent];
        const long result =
            share_send(to, next.object, next.bytes, sent == 0 ? timeout_ms : 0, how);
        if (result != 0) return sent != 0 ? static_cast<long>(sent) : result;
        ++sent;
    }
    return sent;
}

long share_receive_many(const Wanted& wanted, int timeout_ms, Received* received, u32 most) {
    if (!takes_part()) return -ENOTCONN;
    if (held_kinds != 0) return -EDEADLK;
    share_collect_at_times(0);
    u32 taken = 0;
    while (taken < most) {
        const long some = receive_some(wanted, received + taken, most - taken);
        if (some < 0) return taken != 0 ? static_cast<long>(taken) : some;
        taken += static_cast<u32>(some);
        if (some == ReceiveMany::MOST || taken == most) continue;
        // Alone a receive waits if it is the first, says why there is none, and takes what other nodes have sent.
        const long result = share_receive(wanted, taken == 0 ? timeout_ms : 0, received[taken]);
        if (result != 0) return taken != 0 ? static_cast<long>(taken) : result;
        ++taken;
    }
    return taken;
}

u32 share_drop_many(void* const* objects, u32 count, u32& last) {
    last = 0;
    if (!sharing_open.load(std::memory_order_acquire)) return 0;
    op::DropMany request;
    while (request.count < count && request.count < MOST_DROPPED) {
        if (is_copy_of_the_parents(objects[request.count])) break;
        request.objects[request.count] = reinterpret_cast<uptr>(objects[request.count]);
        ++request.count;
    }
    if (request.count == 0) return 0;
    const op::DropMany::Reply reply = share_operation(request);
    last = reply.yours_to_free;
    return reply.dropped < request.count ? reply.dropped : request.count;
}

}  // namespace aep
