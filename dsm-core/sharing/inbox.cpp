// Purpose: see inbox.hpp.
// Who calls it: see inbox.hpp.
// Crash rule: see inbox.hpp.
#include "dsm-core/sharing/inbox.hpp"

namespace aep {
namespace {

/// So many messages change places between two commits, each of five words that are logged twice.
constexpr u32 MOST_MOVES = 64;
static_assert(MOST_MOVES * 2 * 5 < UndoLog::CAPACITY - 100);

}  // namespace

void close_gaps(Turn& turn, u32 inbox) {
    Inbox& own = inbox_at(inbox);
    u32 to = own.messages, moved = 0;
    for (u32 i = to; i-- != 0;) {
        if (message_at(inbox, i).object == NO_RECORD || --to == i) continue;
        // Not after the last move, which is the oldest one's: a gap is never the oldest place.
        if (++moved % MOST_MOVES == 0) turn.commit();
        message_at(inbox, to) = message_at(inbox, i);
        message_at(inbox, i).object = NO_RECORD;
    }
    own.first_message = (own.first_message + to) % MAILBOX_MESSAGES;
    own.messages -= to;
    own.gaps = 0;
}

void bring_forward(Turn& turn, u32 inbox, u32 place) {
    for (u32 i = place; i != 0; --i) {
        const Message older = message_at(inbox, i - 1);
        message_at(inbox, i - 1) = message_at(inbox, i);
        message_at(inbox, i) = older;
        if (i % MOST_MOVES == 0) turn.commit();
    }
}

}  // namespace aep
