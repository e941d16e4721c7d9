// Purpose: see giving.hpp.
// Who calls it: see giving.hpp.
// Crash rule: see giving.hpp.
#include "dsm-core/sharing/giving.hpp"

#include "dsm-core/sharing/records.hpp"

namespace aep {
namespace {

/// The reference that a message takes.
struct Given {
    Status status = Status::ok;
    u32 object = NO_RECORD;
    u64 left_group = 0;  // the one that the client does not hold any more
};

/// One more, of what the client holds or, from now on, of its own memory.
Given give_one_more(Turn& turn, u32 client, const op::Send& o) {
    u32 holder = NO_RECORD;
    const Status status = find_held(turn, client, o.object, o.bytes, holder);
    if (status != Status::ok) return {.status = status};
    if (!take_reference(turn, holder)) return {.status = Status::poisoned};
    return {.object = holder_at(holder).object};
}

/// The client's own one. Of its own memory that it sends for the first time it never has any.
Given give_own(Turn& turn, u32 client, const op::Send& o) {
    u32 holder = NO_RECORD;
    const Status status = find_held_or_own(turn, client, o.object, o.bytes, false, holder);
    if (status != Status::ok) return {.status = status};
    if (holder == NO_RECORD) return {.object = make_export(client, o.object, o.bytes, 1)};
    Given given{.object = holder_at(holder).object};
    if (!move_reference(turn, client, holder, given.left_group))
        return {.status = Status::poisoned};
    return given;
}

}  // namespace

op::Send::Reply send_under_locks(Turn& turn, u32 client, u32 as, const op::Send& o) {
    const u32 to = o.to.inbox();
    Inbox& receiver = inbox_at(to);
    if (AEP_UNLIKELY(!has_room_for(receiver, kib_of(o.bytes)))) return {.status = Status::full};
    const bool gaps_go = receiver.messages == MAILBOX_MESSAGES;
    if (AEP_UNLIKELY(gaps_go)) {
        if (receiver.gaps == 0) return {.status = Status::full};
        close_gaps(turn, to);
    }
    const Given given = o.drop ? give_own(turn, client, o) : give_one_more(turn, client, o);
    if (given.status != Status::ok) return {.status = given.status};
    if (AEP_UNLIKELY(gaps_go)) next_place(to).keep();  // reached again if this is undone
    lay_down(
        to, {given.object, o.label.version, id_of_own(client, as).bits, o.label.tag, o.label.type});
    ++share_client(client).sent;
    return {.left_group = given.left_group};
}

}  // namespace aep
