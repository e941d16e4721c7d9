// Purpose: see away.hpp.
// Who calls it: see away.hpp.
// Crash rule: see away.hpp.
#include "dsm-core/sharing/away.hpp"

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/inbox_ops.hpp"
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

/// What the first step of a send comes to.
struct SendBegun {
    Status status = Status::poisoned;  // ok: the export is pinned, and has a number
    bool again = false;  // another operation is at a transaction with the object, which ends
    bool first = false;  // the node's own reference is still to be made
    ShareId from{};
    Pin pin{};
};

SendBegun begin_send(Caller caller, const op::Send& o, const era::Tables& t) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {};
    const u32 as = o.as == 0 ? client : o.as;
    if (!is_inbox_of(client, as) || !is_reachable(t, o.to)) return {.status = Status::gone};
    u32 holder = NO_RECORD;
    const Status status = find_held(turn, client, o.object, o.bytes, holder);
    if (status != Status::ok) return {.status = status};
    const u32 index = holder_at(holder).object;
    if (!turn.object(index) || !turn.numbers()) return {};
    Export& e = export_at(index);
    const bool first = e.node_ref == NodeRef::none;
    if (!first && e.node_ref != NodeRef::held) return {.again = true};
    if (first) {
        const u32 object = free_number(t);
        if (object == era::NO_NODE) return {.status = Status::limit};
        e.object = object + 1;
        export_of_object(object) = index;
        describe(t, e, 0);
    }
    // Of another node's object that node tells.
    if (e.owner != OWNER_ELSEWHERE) {
        if (!number_extents(t, index, first))
            return {.status =
                        first && !forget_number(turn, index) ? Status::poisoned : Status::limit};
        tell_head(t, index);
    }
    if (first) e.node_ref = NodeRef::taking;
    SendBegun begun{
        .status = Status::ok, .first = first, .from = id_of(as), .pin = Pin(caller, index)};
    AEP_AWAY_CRASH_POINT("away: number taken");
    return begun;
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
    SendBegun begun;
    while ((begun = begin_send(caller, o, t)).again) __builtin_ia32_pause();
    if (begun.status != Status::ok) return {begun.status};
    const u32 index = begun.pin.index();
    const u32 object = export_at(index).object - 1;
    bool created = !begun.first;
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
            era::send(lane, to.node(), object, {to.bits, begun.from.bits, o.label});
        if (sent == era::Status::ok) AEP_AWAY_CRASH_POINT("away: message sent");
        return sent;
    });
    Turn turn(caller);
    LockList locks;
    if (!begun.pin.lock(turn, locks)) return {.status = Status::poisoned};
    if (begun.first) {
        if (created)
            export_at(index).node_ref = NodeRef::held;
        else if (!forget_number(turn, index))
            return {.status = Status::poisoned};
    }
    if (status == era::Status::ok) {
        ++share_client(caller.client).sent;
        ++sharing().sent_away;
    }
    if (!begun.pin.release(turn)) return {.status = Status::poisoned};
    return {.status = status_of(status)};
}

namespace {

/// What the first step of a receive comes to.
struct ReceiveBegun {
    Status status = Status::poisoned;  // ok: the export is pinned
    bool again = false;  // another operation is at a transaction with the object, which ends
    bool first = false;  // the message's reference is to become the node's
    Pin pin{};
};

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

ReceiveBegun begin_receive(Caller caller, const era::RemoteMessage& w) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.clients(0, client)) return {};
    if (!share_client(client).takes_part()) return {.status = Status::gone};
    if (const Status supplied = supply(turn, client, 2, true); supplied != Status::ok)
        return {.status = supplied};
    u32 index = export_of_object(w.object).load();
    if (index == NO_RECORD) {
        bool made = false;
        index = make_foreign_export(turn, client, w.object, made);
        if (index == NO_RECORD) return {};
        if (!made) return turn.take_back(), ReceiveBegun{.again = true};
        export_at(index).node_ref = NodeRef::taking;
        return {.status = Status::ok, .first = true, .pin = Pin(caller, index)};
    }
    if (!is_record(index)) return {.status = Status::miss};
    if (!turn.object(index)) return {};
    const Export& e = export_at(index);
    const bool same = export_of_object(w.object).load() == index && e.object.load() == w.object + 1;
    if (!same || e.node_ref != NodeRef::held) return {.again = true};
    return {.status = Status::ok, .pin = Pin(caller, index)};
}

/// The message's reference is the client's. If another thread of its has used up the records that were at hand before, it is a
/// message of this node's now. Under the locks of the client, its inbox and the export.
op::Receive::Reply take_over(u32 client, u32 at, const era::RemoteMessage& w, u32 index,
                             bool supplied) {
    Export& e = export_at(index);
    const bool lost = !supplied && inbox_at(at).messages == MAILBOX_MESSAGES;
    if (e.address == 0 || lost) return {.status = Status::gone};
    e.state = static_cast<u32>(ExportState::live);  // it may have lingered
    ++e.references;
    ++sharing().came_in;
    if (!supplied) {
        lay_down(at, {index, w.envelope.label.version, w.envelope.from, w.envelope.label.tag,
                      w.envelope.label.type});
        return {.status = Status::need_records};
    }
    if (const u32 holder = find_holder(client, index); holder != NO_RECORD)
        ++holder_at(holder).count;
    else
        hold_anew(client, index, 0);
    ++share_client(client).received;
    const bool group = is_group(index);
    return {.kind = group ? ObjectKind::group : ObjectKind::object,
            .object = e.address,
            .bytes = group ? 0 : u64{e.bytes},
            .sender = {w.envelope.from},
            .label = w.envelope.label};
}

/// The last step: the client has a reference, if the message was ours.
bool end_receive(Caller caller, u32 at, const era::Tables& t, const era::RemoteMessage& w,
                 ReceiveBegun& begun, era::Status status, op::Receive::Reply& reply) {
    const bool taken = status == era::Status::ok;
    const ObjectFacts facts = facts_of(t, w.object);
    reply.status = Status::poisoned;
    Turn turn(caller);
    LockList locks;
    const u32 index = begun.pin.index();
    // Who should have learned it before may have died, and its home's memory been given up just then.
    const bool learns = taken && export_at(index).address == 0;
    if (learns) add_locks_to_learn(facts, locks);
    locks.add_inbox(at);
    Status supplied = Status::ok;
    const auto supply_anew = [&] {
        supplied = supply(turn, caller.client, 1, true);
        return supplied != Status::poisoned;
    };
    for (;; turn.let_go(), __builtin_ia32_pause()) {
        if (!begun.pin.lock(turn, locks, supply_anew)) return true;
        if (!learns || !is_being_given_up(facts)) break;
    }
    if (begun.first && !taken && !forget_number(turn, index)) return true;
    if (begun.first && taken) export_at(index).node_ref = NodeRef::held;
    // A group's root takes a record.
    if (learns && (supplied == Status::ok || facts.head == 0)) learn(caller.client, facts, index);
    if (taken)
        reply = take_over(caller.client, at, w, index, supplied == Status::ok);
    else
        reply.status = status == era::Status::fenced ? status_of(status) : Status::miss;
    if (!begun.pin.release(turn)) {
        reply = {.status = Status::poisoned};
        return true;
    }
    return taken;
}

/// Takes one message. True: `reply` is the answer.
bool accept(Caller caller, u32 at, const era::Tables& t, const era::RemoteMessage& w,
            op::Receive::Reply& reply) {
    if (w.object >= t.shape.objects) return false;  // another machine's word is not believed
    ReceiveBegun begun;
    while ((begun = begin_receive(caller, w)).again) __builtin_ia32_pause();
    if (begun.status != Status::ok) {
        reply.status = begun.status;
        return true;
    }
    const era::Status status = in_lane(t, caller, [&](auto& lane) {
        // The node has a reference already, or gets the message's.
        return begun.first ? era::take_message(lane, w, w.object) : era::drop_message(lane, w);
    });
    if (begun.first)
        AEP_AWAY_CRASH_POINT("away: message taken");
    else
        AEP_AWAY_CRASH_POINT("away: message dropped");
    return end_receive(caller, at, t, w, begun, status, reply) || status == era::Status::fenced;
}

}  // namespace

op::Receive::Reply receive_from_away(Caller caller, const op::Receive& o) {
    const u32 client = caller.client;
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    const u32 at = o.at == 0 ? client : o.at;
    const ShareId own = id_of(at);  // the client's: receive_here() has looked
    op::Receive::Reply reply{.status = Status::miss};
    if (is_apart()) return {.status = is_elsewhere(o.from) ? Status::apart : Status::miss};
    const auto take = [&](const era::RemoteMessage& w) {
        return w.envelope.to == own.bits && (o.from.bits == 0 || w.envelope.from == o.from.bits) &&
               accept(caller, at, t, w, reply);
    };
    const bool found = with_pool_memory([&](auto& memory) {
        // Not all begin with the same node.
        return era::each_message_to(memory, t, node, client, take);
    });
    if (!found && is_elsewhere(o.from) && !is_reachable(t, o.from)) reply.status = Status::gone;
    return reply;
}

}  // namespace aep
