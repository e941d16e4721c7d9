// Purpose: see away.hpp.
// Who calls it: see away.hpp.
// Crash rule: see away.hpp.
#include "dsm-core/sharing/away.hpp"

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/transit.hpp"

namespace aep {
namespace {

/// A number for an object of this node's; era::NO_NODE: all are in use.
u32 free_number(const era::Tables& t) {
    ShareHeader& s = sharing();
    const u32 first = t.first_object(context().era_node);
    const u32 count = t.objects_per_node();
    for (u32 i = 0; i < count; ++i) {
        const u32 object = first + (s.next_object + i) % count;
        // Objects of a former life of this node may live on, held by others.
        if (export_of_object(object) == NO_RECORD && !era::is_living(t, t.object(object))) {
            s.next_object = (s.next_object + i + 1) % count;
            return object;
        }
    }
    return era::NO_NODE;
}

/// What an object or an extent is, on the line of its count: in the pool before the count is.
/// `root`: 1 + the number of the group that the extent is of, or 0.
void describe(const era::Tables& t, const Export& e, u64 root) {
    with_pool_memory([&](auto& m) {
        era::ObjectEntry& entry = t.object(e.object - 1);
        m.store(entry.address, e.address);
        m.store(entry.bytes, e.bytes);
        m.store(entry.serial, m.load(entry.serial) + 1);
        m.store(entry.root, root);
        m.store(entry.root_serial,
                root == 0 ? 0 : m.load(t.object(static_cast<u32>(root - 1)).serial));
        return 0;
    });
}

/// By what address a group's references are sent; it changes while nobody else has any.
void tell_head(const era::Tables& t, u32 index) {
    const Export& e = export_at(index);
    const Export& head = e.root == NO_RECORD ? e : export_at(e.root);
    with_pool_memory([&](auto& m) {
        era::ObjectEntry& entry = t.object(e.object - 1);
        m.store(entry.head, is_group(index) ? u64{head.address} : 0);
        m.store(entry.head_bytes, head.bytes);
        return 0;
    });
}

/// Numbers for the extents that have none; `anew`: the group has another one than before. False:
/// there are not enough.
bool number_extents(const era::Tables& t, u32 group, bool anew) {
    const u32 whole = export_at(group).object;
    for (u32 i = side_at(group).next_extent; i != NO_RECORD; i = side_at(i).next_extent) {
        Export& extent = export_at(i);
        if (extent.object == 0) {
            const u32 object = free_number(t);
            if (object == era::NO_NODE) return false;
            extent.object = object + 1;
            export_of_object(object) = i;
        } else if (!anew) {
            continue;
        }
        describe(t, extent, whole);
    }
    return true;
}

/// What number_extents() wrote, on its way to the pool. The group is pinned, or the lock held.
template <class Memory>
void flush_extents(Memory& m, const era::Tables& t, u32 group) {
    for (u32 i = side_at(group).next_extent.load(); i != NO_RECORD; i = side_at(i).next_extent)
        if (export_at(i).object != 0) m.flush(t.object(export_at(i).object - 1).serial);
}

enum class Begun { no, known, first, wait };

/// The first step of a send: the export is pinned, and has a number.
Begun begin_send(Caller caller, const op::Send& o, const era::Tables& t, u32& index,
                 Status& status) {
    const u32 client = caller.client;
    const SharingLock lock(caller);
    if (!lock.is_sound()) {
        status = Status::poisoned;
        return Begun::no;
    }
    if (share_client(client).open == 0 || !is_reachable(t, o.to)) {
        status = Status::gone;
        return Begun::no;
    }
    u32 holder = NO_RECORD;
    status = find_held(client, o.object, o.bytes, holder);
    if (status != Status::ok) return Begun::no;
    index = holder_at(holder).object;
    Export& e = export_at(index);
    const bool first = e.node_ref == NodeRef::none;
    if (!first && e.node_ref != NodeRef::held) return Begun::wait;
    if (first) {
        const u32 object = free_number(t);
        if (object == era::NO_NODE) {
            status = Status::limit;
            return Begun::no;
        }
        e.object = object + 1;
        export_of_object(object) = index;
        describe(t, e, 0);
    }
    // Of another node's object that node tells.
    if (e.owner != OWNER_ELSEWHERE) {
        if (!number_extents(t, index, first)) {
            if (first) forget_number(index);
            status = Status::limit;
            return Begun::no;
        }
        tell_head(t, index);
    }
    if (first) e.node_ref = NodeRef::taking;
    pin(caller.slot, index);
    AEP_AWAY_CRASH_POINT("away: number taken");
    return first ? Begun::first : Begun::known;
}

}  // namespace

bool has_free_number() { return free_number(era_tables()) != era::NO_NODE; }

void publish_extents(u32 group) {
    const era::Tables t = era_tables();
    number_extents(t, group, false);
    with_pool_memory([&](auto& memory) {
        flush_extents(memory, t, group);
        memory.fence();  // before anything in them can be reached
        return 0;
    });
}

op::Send::Reply send_away(Caller caller, const op::Send& o) {
    if (is_apart()) return {Status::apart};
    const era::Tables t = era_tables();
    const ShareId to = o.to;
    u32 index = NO_RECORD;
    Status refused = Status::ok;
    Begun begun;
    while ((begun = begin_send(caller, o, t, index, refused)) == Begun::wait) {
        // Another operation is at a transaction with it, which ends.
        __builtin_ia32_pause();
    }
    if (begun == Begun::no) return {refused};
    const Export& e = export_at(index);  // pinned
    const u32 object = e.object - 1;
    bool created = begun == Begun::known;
    const era::Status status = in_lane(t, caller, [&](auto& lane) {
        auto& memory = lane.memory();
        if (!era::has_room(memory, t, lane.node(), to.node(), to.bits,
                           sharing().heads_seen[to.node()]))
            return era::Status::full;
        flush_extents(memory, t, index);  // the fence of what follows is theirs, too
        memory.flush(t.count(object));
        if (!created) {
            const era::Status made = lane.create(object, object);
            if (made != era::Status::ok) return made;
            created = true;
            AEP_AWAY_CRASH_POINT("away: created");
        }
        const era::Status sent =
            era::send(lane, to.node(), object, {to.bits, id_of(caller.client).bits, o.label});
        if (sent == era::Status::ok) AEP_AWAY_CRASH_POINT("away: message sent");
        return sent;
    });
    const SharingLock lock(caller);
    if (!lock.is_sound()) return {.status = Status::poisoned};
    if (begun == Begun::first) {
        if (created)
            export_at(index).node_ref = NodeRef::held;
        else
            forget_number(index);
    }
    if (status == era::Status::ok) {
        ++sharing().sent;
        ++sharing().sent_away;
    }
    unpin(caller.slot, index);
    return {.status = status_of(status)};
}

namespace {

/// What becomes of a message that was found.
enum class Taking { nothing, first, another, wait };

/// The first step of a receive: the export is there and pinned. first: the message's reference is
/// to become the node's.
Taking begin_receive(Caller caller, const era::RemoteMessage& w, u32& index,
                     op::Receive::Reply& reply) {
    const SharingLock lock(caller);
    if (!lock.is_sound()) {
        reply.status = Status::poisoned;
        return Taking::nothing;
    }
    if (share_client(caller.client).open == 0) {
        reply.status = Status::gone;
        return Taking::nothing;
    }
    if (!records_left(2, true)) {
        reply.status = Status::need_records;
        return Taking::nothing;
    }
    index = export_of_object(w.object);
    if (index == NO_RECORD) {
        index = make_foreign_export(w.object);
        export_at(index).node_ref = NodeRef::taking;
        pin(caller.slot, index);
        return Taking::first;
    }
    if (export_at(index).node_ref != NodeRef::held) return Taking::wait;
    pin(caller.slot, index);
    return Taking::another;
}

/// The last step: the client has a reference, if the message was ours.
bool end_receive(Caller caller, const era::Tables& t, const era::RemoteMessage& w, u32 index,
                 Taking taking, era::Status status, op::Receive::Reply& reply) {
    const SharingLock lock(caller);
    if (!lock.is_sound()) {
        reply.status = Status::poisoned;
        return true;
    }
    Export& e = export_at(index);
    const bool taken = status == era::Status::ok;
    if (taking == Taking::first && taken) {
        e.node_ref = NodeRef::held;
        learn(t, index);
    } else if (taking == Taking::first) {
        forget_number(index);
    }
    if (taken && e.address == 0) {
        reply.status = Status::gone;
    } else if (taken) {
        e.state = static_cast<u32>(ExportState::live);  // it may have lingered
        hold(caller.client, index);
        ++e.references;
        ++sharing().received;
        ++sharing().came_in;
        const bool group = is_group(index);
        reply = {.kind = group ? ObjectKind::group : ObjectKind::object,
                 .object = e.address,
                 .bytes = group ? 0 : u64{e.bytes},
                 .sender = {w.envelope.from},
                 .label = w.envelope.label};
    }
    unpin(caller.slot, index);
    return taken;
}

/// Takes one message. True: `reply` is the answer.
bool accept(Caller caller, const era::Tables& t, const era::RemoteMessage& w,
            op::Receive::Reply& reply) {
    if (w.object >= t.shape.objects) return false;  // another machine's word is not believed
    u32 index = NO_RECORD;
    Taking taking;
    while ((taking = begin_receive(caller, w, index, reply)) == Taking::wait)
        __builtin_ia32_pause();  // the operation that is at it ends
    if (taking == Taking::nothing) return true;
    const era::Status status = in_lane(t, caller, [&](auto& lane) {
        // The node has a reference already, or gets the message's.
        return taking == Taking::first ? era::take_message(lane, w, w.object)
                                       : era::drop_message(lane, w);
    });
    if (taking == Taking::first)
        AEP_AWAY_CRASH_POINT("away: message taken");
    else
        AEP_AWAY_CRASH_POINT("away: message dropped");
    if (status == era::Status::fenced) reply.status = status_of(status);
    return end_receive(caller, t, w, index, taking, status, reply) || status == era::Status::fenced;
}

}  // namespace

op::Receive::Reply receive_from_away(Caller caller, const op::Receive& o) {
    const u32 client = caller.client;
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    const ShareId own = id_of(client);
    op::Receive::Reply reply{.status = Status::miss};
    if (is_apart()) return {.status = is_elsewhere(o.from) ? Status::apart : Status::miss};
    const auto take = [&](const era::RemoteMessage& w) {
        return w.envelope.to == own.bits && (o.from.bits == 0 || w.envelope.from == o.from.bits) &&
               accept(caller, t, w, reply);
    };
    const bool found = with_pool_memory([&](auto& memory) {
        // Not all begin with the same node.
        return era::each_message_to(memory, t, node, client, false, take);
    });
    if (!found && is_elsewhere(o.from) && !is_reachable(t, o.from)) reply.status = Status::gone;
    return reply;
}

}  // namespace aep
