// Purpose: further inboxes of a client are opened and closed; how much an inbox takes; its messages are dropped.
// Who calls it: share_ops.cpp; taking_part.cpp.
// Crash rule: inside an operation, which completes or is undone. Closing is many changes, each of them one: what comes after one that
//             is undone is done when it is asked for again.
#pragma once

#include "dsm-core/sharing/disposal.hpp"
#include "dsm-core/sharing/inbox.hpp"

namespace aep {

/// Messages, holders and exports that one operation deals with: some tenths of a millisecond. A step is asked of a completer, which takes as long.
inline constexpr u32 LEAVE_STEP = 4096;

/// Whether the inbox is open and the client's. Under the client's lock.
[[gnu::always_inline]] inline bool is_inbox_of(u32 client, u32 number) {
    if (AEP_LIKELY(number == client)) return share_client(client).sends_as != 0;
    return is_inbox(number) && inbox_at(number).client == client && inbox_at(number).open != 0;
}

/// The oldest message of an inbox or a topic goes, with its reference, if `goes()` says so under the locks of the client and of that. Locked::nothing:
/// there is none, or it stays; those are held. Takes the locks it needs, and lets go of all if one went.
template <class Goes>
Locked drop_message_if(Turn& turn, u32 client, u32 inbox, Goes&& goes) {
    LockList locks;
    locks.add_client(client);
    locks.add_inbox(inbox);
    u32 object = NO_RECORD;
    const Locked locked = lock_to_release(turn, client, locks, false, [&](u32& index, u32& count) {
        if (inbox_at(inbox).messages == 0 || !goes()) return false;
        index = object = message_at(inbox, 0).object;
        count = 1;
        return true;
    });
    if (locked != Locked::yes) return locked;
    take_message(inbox, 0);
    if (take_references(object, 1) && !dispose(turn, client, object)) return Locked::given_up;
    turn.let_go();
    return Locked::yes;
}
/// The same, whatever it is: nothing is laid down there any more.
Locked drop_message(Turn& turn, u32 client, u32 inbox);

/// op::OpenInbox.
op::OpenInbox::Reply open_inbox(Caller caller, const op::OpenInbox& o);
/// op::CloseInbox, of a further one.
op::CloseInbox::Reply close_inbox(Caller caller, const op::CloseInbox& o);
/// op::LimitInbox.
op::LimitInbox::Reply limit_inbox(Caller caller, const op::LimitInbox& o);

/// Those who wait for room in a closed inbox, or for a message there, find that out.
void tell_that_it_is_closed(u32 inbox);
/// The client's further inboxes take no messages any more. False: given up.
[[nodiscard]] bool close_further(Turn& turn, u32 client);
/// Whoever waits for a message finds out that somebody is gone. Cost: a look at each client, and at each of its inboxes.
void wake_all_receivers();
/// All that its inboxes have is dropped, up to `left` messages, which are counted down; then the further ones are nobody's.
Locked empty_inboxes(Turn& turn, u32 client, u32& left);

}  // namespace aep
