// Purpose: see mailboxes.hpp.
// Who calls it: see mailboxes.hpp.
// Crash rule: see mailboxes.hpp.
#include "shim/sharing/mailboxes.hpp"

#include <errno.h>

#include "dsm-core/sharing/inbox.hpp"
#include "shim/backing/populate.hpp"

namespace aep {

bool make_ring_present(u32 inbox) {
    return populate(reinterpret_cast<uptr>(ring_of(inbox)), MAILBOX_MESSAGES * sizeof(Message));
}

long open_mailbox(ShareId& id) {
    if (!takes_part()) return -ENOTCONN;
    const u32 count = further_inboxes(context().max_clients);
    // Each client looks for its own at a place of its own first.
    const u32 first = this_client.index * (count / (context().max_clients + 1));
    for (u32 i = 0; i < count; ++i) {
        const u32 inbox = FIRST_FURTHER + (first + i) % count;
        if (inbox_at(inbox).client.load() != 0) continue;
        if (!make_ring_present(inbox)) return -ENOMEM;
        const auto reply = share_operation(op::OpenInbox{inbox});
        if (reply.status == Status::exists) continue;  // somebody else was faster
        if (reply.status == Status::gone) return -ENOTCONN;
        id = reply.id;
        return error_of(reply.status);
    }
    return -ENOSPC;
}

long rename_mailbox(ShareId& id) {
    const auto reply = share_operation(op::OpenInbox{.inbox = id.inbox(), .former = id});
    id = reply.id;
    return error_of(reply.status);
}

long close_inbox(u32 inbox) {
    Status status = Status::ok;
    while (status == Status::ok) status = share_operation(op::CloseInbox{inbox}).status;
    return status == Status::miss ? 0 : error_of(status);
}

long limit_inbox(u32 inbox, usize bytes) {
    // Less than one KiB bounds, too.
    const u32 kib = bytes != 0 && bytes < KiB ? 1 : kib_of(bytes);
    return error_of(share_operation(op::LimitInbox{inbox, kib}).status);
}

}  // namespace aep
