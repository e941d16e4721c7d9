// Purpose: a client's messages: a ring, from which they may be taken out of turn.
// Who calls it: the sharing operations, with the client's inbox locked (turn.hpp).
// Crash rule: inside an operation, which completes or is undone.
//
// What is taken before older ones leaves a gap, so that none has to move. The oldest place in use never is one, and gaps are
// closed when all places are in use: a mailbox has room for as many messages as it has places.
#pragma once

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/turn.hpp"

namespace aep {

/// Of the places in use, oldest first.
inline Message& message_at(u32 client, u32 place) {
    return mailbox_of(client)[(share_client(client).first_message + place) % MAILBOX_MESSAGES];
}

/// The place of the oldest message, from anybody or from `from`; MAILBOX_MESSAGES: none.
inline u32 find_message(u32 client, ShareId from) {
    const ShareClient& own = share_client(client);
    for (u32 i = 0; i < own.messages; ++i) {
        const Message& m = message_at(client, i);
        if (m.object != NO_RECORD && (from.bits == 0 || m.sender == from.bits)) return i;
    }
    return MAILBOX_MESSAGES;
}

/// The oldest place is free; so are those behind it from which messages were taken before.
inline void free_oldest_place(u32 client) {
    ShareClient& own = share_client(client);
    u32 free = 1;
    if (AEP_UNLIKELY(own.gaps != 0)) {
        while (free < own.messages && message_at(client, free).object == NO_RECORD) ++free;
        if (free != 1) own.gaps -= free - 1;
    }
    own.first_message = (own.first_message + free) % MAILBOX_MESSAGES;
    own.messages -= free;
}

/// Where the next message is laid down; there is room.
inline Message& next_place(u32 client) { return message_at(client, share_client(client).messages); }

/// Lays one down that counts as a reference already, or will; there is room. It is memory that nobody reaches before.
inline void lay_down(u32 client, const Message& message) {
    write_unreached(next_place(client), message);
    AEP_SHARE_CRASH_POINT("share: message laid down");
    ++share_client(client).messages;
}

/// Takes the message out. Older ones stay where they are.
inline Message take_message(u32 client, u32 place) {
    const Message taken = message_at(client, place);
    if (AEP_LIKELY(place == 0)) {
        free_oldest_place(client);
    } else {
        message_at(client, place).object = NO_RECORD;
        ++share_client(client).gaps;
    }
    AEP_SHARE_CRASH_POINT("share: message taken");
    return taken;
}

/// the last one.
void close_gaps(Turn& turn, u32 client);
/// Older messages make room for it at the oldest place. As above.
void bring_forward(Turn& turn, u32 client, u32 place);

}  // namespace aep
