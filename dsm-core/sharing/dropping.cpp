// Purpose: see dropping.hpp.
// Who calls it: see dropping.hpp.
// Crash rule: see dropping.hpp.
#include "dsm-core/sharing/dropping.hpp"

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/disposal.hpp"
#include "dsm-core/sharing/group_ops.hpp"
#include "dsm-core/sharing/references.hpp"

namespace aep {
namespace {

/// The client's references to an object by its address, or by its group's root. NO_RECORD: `status` says why.
u32 holder_of(Turn& turn, u32 client, u64 address, Status& status) {
    u32 holder = find_holder_at(client, address);
    if (holder != NO_RECORD) return holder;
    status = Status::poisoned;
    if (!turn.stripe(address)) return NO_RECORD;
    const u32 found = find_export(address);
    status = found == NO_RECORD ? Status::miss : Status::not_held;
    if (found != NO_RECORD) holder = find_holder(client, found);
    turn.let_go_of_last();  // what the client holds stays as it is
    return holder;
}

/// The last reference that the client has.
op::Drop::Reply drop_last(Turn& turn, u32 client, u32 holder) {
    const u32 object = holder_at(holder).object;
    const u64 forgotten = is_group(object) ? u64{export_at(object).address} : 0;
    const u32 weight = weight_of(holder_at(holder));
    free_holder(client, holder);
    if (!take_references(object, weight)) return {.left_group = forgotten};
    if (is_freed_by(client, object)) {
        free_export(object);
        return {.memory = Memory::yours_to_free};
    }
    if (!dispose(turn, client, object)) return {.status = Status::poisoned};
    return {.left_group = forgotten};
}

/// A reference of the client's goes, to whatever it is.
op::Drop::Reply drop_whole(Turn& turn, u32 client, const op::Drop& o) {
    LockList locks;
    locks.add_client(client);
    u32 holder = NO_RECORD;
    Status status = Status::ok;
    const Locked locked = lock_to_release(turn, client, locks, true, [&](u32& index, u32& weight) {
        holder = holder_of(turn, client, o.object, status);
        if (holder == NO_RECORD || holder_at(holder).count > 1) return false;
        index = holder_at(holder).object;
        weight = weight_of(holder_at(holder));
        return true;
    });
    if (locked == Locked::yes) return drop_last(turn, client, holder);
    if (locked == Locked::given_up) return {.status = Status::poisoned};
    if (holder == NO_RECORD) return {.status = status};
    return {.status = drop_one_of_several(turn, holder) ? Status::ok : Status::poisoned};
}

/// The locks under which the client's last references to an object go that is no group's, that no other node knows, and whose
/// owner lives: what is dropped all the time. Locked::nothing: it is not that simple, or somebody dropped his at the same moment.
Locked lock_simple(Turn& turn, u32 client, u32 holder) {
    const u32 index = holder_at(holder).object;
    const u32 own = weight_of(holder_at(holder));
    const Export& e = export_at(index);
    if (e.group.load() != NO_RECORD) return Locked::nothing;
    const u32 owner = e.owner.load();
    const bool last = e.references.load() == own;
    if (last) {
        if (keeper_of(owner) == 0) return Locked::nothing;
        if (!(owner == client ? turn.stripe(e.address) : turn.inbox(owner)))
            return Locked::given_up;
    }
    if (!turn.object(index)) return Locked::given_up;
    if (!last) return e.references != own ? Locked::yes : Locked::nothing;
    const bool same =
        e.references == own && e.owner == owner && e.node_ref == NodeRef::none && e.pins == 0;
    return same ? Locked::yes : Locked::nothing;
}

/// What is dropped all the time, under the client's lock. busy: it is not that simple; nothing has been changed, and locks may have been taken.
[[gnu::always_inline]] inline op::Drop::Reply drop_simple(Turn& turn, u32 client, u64 object) {
    Status status = Status::ok;
    const u32 holder = holder_of(turn, client, object, status);
    if (holder == NO_RECORD) return {.status = status};
    if (holder_at(holder).count > 1)
        return {.status = drop_one_of_several(turn, holder) ? Status::ok : Status::poisoned};
    switch (lock_simple(turn, client, holder)) {
        case Locked::yes:
            return drop_last(turn, client, holder);
        case Locked::given_up:
            return {.status = Status::poisoned};
        case Locked::nothing:
            break;
    }
    return {.status = Status::busy};
}

}  // namespace

op::Drop::Reply drop_reference(Caller caller, const op::Drop& o) {
    Turn turn(caller);
    if (!turn.client(caller.client)) return {.status = Status::poisoned};
    const op::Drop::Reply reply = drop_simple(turn, caller.client, o.object);
    if (reply.status != Status::busy) return reply;
    turn.let_go();
    return drop_whole(turn, caller.client, o);
}

op::DropMany::Reply drop_references(Caller caller, const op::DropMany& o) {
    op::DropMany::Reply reply;
    Turn turn(caller);
    if (!turn.client(caller.client)) return {.status = Status::poisoned};
    const u32 locks = turn.held();
    while (reply.dropped < o.count && reply.dropped < op::DropMany::MOST) {
        const op::Drop::Reply one = drop_simple(turn, caller.client, o.objects[reply.dropped]);
        reply.status = one.status;
        if (one.status != Status::ok) break;
        turn.let_go_of_later(locks);
        AEP_SHARE_CRASH_POINT("share: one of many dropped");
        if (one.memory == Memory::yours_to_free) reply.yours_to_free |= 1U << reply.dropped;
        ++reply.dropped;
    }
    return reply;
}

}  // namespace aep
