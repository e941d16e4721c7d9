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
    Turn turn(caller);
    status = Status::poisoned;
    if (!turn.client(client)) return Begun::no;
    if (share_client(client).open == 0 || !is_reachable(t, o.to)) {
        status = Status::gone;
        return Begun::no;
    }
    u32 holder = NO_RECORD;
    status = find_held(turn, client, o.object, o.bytes, holder);
    if (status != Status::ok) return Begun::no;
    index = holder_at(holder).object;
    if (!turn.object(index) || !turn.numbers()) {
        status = Status::poisoned;
        return Begun::no;
    }
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
            status = first && !forget_number(turn, index) ? Status::poisoned : Status::limit;
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
    Turn turn(caller);
    LockList locks;
    if (lock_pinned(turn, caller, index, locks) != Locked::yes) return {.status = Status::poisoned};
    if (begun == Begun::first) {
        if (created)
            export_at(index).node_ref = NodeRef::held;
        else if (!forget_number(turn, index))
            return {.status = Status::poisoned};
    }
    if (status == era::Status::ok) {
        ++share_client(caller.client).sent;
        ++sharing().sent_away;
    }
    if (!unpin(turn, caller, caller.slot, index)) return {.status = Status::poisoned};
    return {.status = status_of(status)};
}

namespace {

/// What becomes of a message that was found.
enum class Taking { nothing, first, another, wait };

/// An export of an object of another node, whose number there is `object`: its address is not known
/// yet, nobody finds it by that. NO_RECORD: given up. Another operation has made one: it is that one's index, not locked.
u32 make_foreign_export(Turn& turn, u32 client, u32 object, bool& made) {
    made = false;
    const u32 index = new_export(client);
    if (!turn.object(index) || !turn.numbers()) return NO_RECORD;
    if (const u32 other = export_of_object(object); other != NO_RECORD) return other;
    write_unreached<ExportFields>(export_at(index), {.state = static_cast<u32>(ExportState::live),
                                                     .owner = OWNER_ELSEWHERE,
                                                     .object = object + 1});
    write_unreached(side_at(index), {});
    export_of_object(object) = index;
    ++share_client(0).exports;
    ++share_client(0).foreign;
    made = true;
    return index;
}

/// The first step of a receive: the export is there and pinned. first: the message's reference is
/// to become the node's.
Taking begin_receive(Caller caller, const era::RemoteMessage& w, u32& index,
                     op::Receive::Reply& reply) {
    const u32 client = caller.client;
    Turn turn(caller);
    reply.status = Status::poisoned;
    if (!turn.clients(0, client)) return Taking::nothing;
    if (share_client(client).open == 0) {
        reply.status = Status::gone;
        return Taking::nothing;
    }
    if (const Status supplied = supply(turn, client, 2, true); supplied != Status::ok) {
        reply.status = supplied;
        return Taking::nothing;
    }
    index = export_of_object(w.object).load();
    if (index == NO_RECORD) {
        bool made = false;
        index = make_foreign_export(turn, client, w.object, made);
        if (index == NO_RECORD) return Taking::nothing;
        reply.status = Status::miss;
        if (!made) return turn.take_back(), Taking::wait;
        export_at(index).node_ref = NodeRef::taking;
        pin(caller.slot, index);
        return Taking::first;
    }
    if (!is_record(index)) return Taking::nothing;
    if (!turn.object(index)) return Taking::nothing;
    reply.status = Status::miss;
    const Export& e = export_at(index);
    const bool same = export_of_object(w.object).load() == index && e.object.load() == w.object + 1;
    if (!same || e.node_ref != NodeRef::held) return Taking::wait;
    pin(caller.slot, index);
    return Taking::another;
}

/// The last step: the client has a reference, if the message was ours.
bool end_receive(Caller caller, const era::Tables& t, const era::RemoteMessage& w, u32 index,
                 Taking taking, era::Status status, op::Receive::Reply& reply) {
    const bool taken = status == era::Status::ok;
    const bool first = taking == Taking::first;
    const ObjectFacts facts = facts_of(t, w.object);
    Turn turn(caller);
    LockList locks;
    if (first && taken) add_locks_to_learn(facts, locks);
    locks.add_client(0);
    locks.add_client(caller.client);
    Status supplied = Status::ok;
    reply.status = Status::poisoned;
    const Locked locked =
        lock_to_release(turn, caller.client, locks, false, [&](u32& found, u32& count) {
            // Another thread of the client's may have used up what was at hand before.
            supplied = supply(turn, caller.client, 1, true);
            found = index;
            count = 0;
            return supplied != Status::poisoned;
        });
    if (locked != Locked::yes) return true;
    Export& e = export_at(index);
    if (first && taken) {
        e.node_ref = NodeRef::held;
        if (supplied == Status::ok) learn(caller.client, facts, index);
    } else if (first && !forget_number(turn, index)) {
        return true;
    }
    reply.status = Status::miss;
    if (status == era::Status::fenced) reply.status = status_of(status);
    if (taken && (e.address == 0 || supplied != Status::ok)) {
        reply.status = Status::gone;
    } else if (taken) {
        e.state = static_cast<u32>(ExportState::live);  // it may have lingered
        if (const u32 holder = find_holder(caller.client, index); holder != NO_RECORD)
            ++holder_at(holder).count;
        else
            hold_anew(caller.client, index, 0);
        ++e.references;
        ++share_client(caller.client).received;
        ++sharing().came_in;
        const bool group = is_group(index);
        reply = {.kind = group ? ObjectKind::group : ObjectKind::object,
                 .object = e.address,
                 .bytes = group ? 0 : u64{e.bytes},
                 .sender = {w.envelope.from},
                 .label = w.envelope.label};
    }
    if (!unpin(turn, caller, caller.slot, index)) {
        reply = {.status = Status::poisoned};
        return true;
    }
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
