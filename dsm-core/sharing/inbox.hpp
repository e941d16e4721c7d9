// Purpose: an inbox' messages: a ring, from which they may be taken out of turn.
// Who calls it: the sharing operations, with the inbox locked (turn.hpp).
// Crash rule: inside an operation, which completes or is undone.
//
// What is taken before older ones leaves a gap, so that none has to move. The oldest place in use never is one, and gaps are
// closed when all places are in use: an inbox has room for as many messages as it has places. Besides, it is bounded by how much
// memory they are about, for who sends more than is taken would fill the pool.
#pragma once

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/turn.hpp"

namespace aep {

/// What an object counts for in an inbox: whole KiB. What is smaller the number of places bounds.
inline u32 kib_of(u64 bytes) {
    const u64 kib = bytes / KiB;
    return kib < ~u32{0} ? static_cast<u32>(kib) : ~u32{0};
}
/// As long as a message refers to it that does not change.
inline u32 kib_of_export(u32 object) { return kib_of(export_at(object).bytes.load()); }

/// What one takes unless it says something else: a quarter of the pool.
inline u32 usual_most_kib() { return kib_of(u64{context().chunk_count} * (CHUNK_SIZE / 4)); }

/// Whether there is room for a message about an object of that size. What is larger than all that is taken has room alone.
inline bool has_room_for(const Inbox& in, u32 kib) {
    const u32 most = in.most_kib, now = in.kib;
    return AEP_LIKELY(kib == 0) || most == 0 || now == 0 || (now < most && kib <= most - now);
}

/// Of the places in use, oldest first.
inline Message& message_at(u32 inbox, u32 place) {
    return ring_of(inbox)[(inbox_at(inbox).first_message + place) % MAILBOX_MESSAGES];
}

/// The place of the oldest message, from anybody or from `from`; MAILBOX_MESSAGES: none.
inline u32 find_message(u32 inbox, ShareId from) {
    const Inbox& in = inbox_at(inbox);
    for (u32 i = 0; i < in.messages; ++i) {
        const Message& m = message_at(inbox, i);
        if (m.object != NO_RECORD && (from.bits == 0 || m.sender == from.bits)) return i;
    }
    return MAILBOX_MESSAGES;
}

/// The oldest place is free; so are those behind it from which messages were taken before.
inline void free_oldest_place(u32 inbox) {
    Inbox& in = inbox_at(inbox);
    u32 free = 1;
    if (AEP_UNLIKELY(in.gaps != 0)) {
        while (free < in.messages && message_at(inbox, free).object == NO_RECORD) ++free;
        if (free != 1) in.gaps -= free - 1;
    }
    in.first_message = (in.first_message + free) % MAILBOX_MESSAGES;
    in.messages -= free;
}

/// Where the next message is laid down; there is room.
inline Message& next_place(u32 inbox) { return message_at(inbox, inbox_at(inbox).messages); }

/// Lays one down that counts as a reference already, or will; there is room. It is memory that nobody reaches before.
inline void lay_down(u32 inbox, const Message& message) {
    write_unreached(next_place(inbox), message);
    AEP_SHARE_CRASH_POINT("share: message laid down");
    Inbox& in = inbox_at(inbox);
    if (const u32 kib = kib_of_export(message.object); AEP_UNLIKELY(kib != 0)) in.kib += kib;
    ++in.messages;
}

/// Takes the message out. Older ones stay where they are.
inline Message take_message(u32 inbox, u32 place) {
    const Message taken = message_at(inbox, place);
    Inbox& in = inbox_at(inbox);
    if (const u32 kib = kib_of_export(taken.object); AEP_UNLIKELY(kib != 0)) in.kib -= kib;
    if (AEP_LIKELY(place == 0)) {
        free_oldest_place(inbox);
    } else {
        message_at(inbox, place).object = NO_RECORD;
        ++in.gaps;
    }
    AEP_SHARE_CRASH_POINT("share: message taken");
    return taken;
}

/// Gaps are closed: places free that were taken out of turn. May commit what was done before, and leaves the last change to be committed with
/// what follows.
void close_gaps(Turn& turn, u32 inbox);
/// Older messages make room for it at the oldest place. As above.
void bring_forward(Turn& turn, u32 inbox, u32 place);

}  // namespace aep
