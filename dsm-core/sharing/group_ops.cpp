// Purpose: see group_ops.hpp.
// Who calls it: see group_ops.hpp.
// Crash rule: see group_ops.hpp.
#include "dsm-core/sharing/group_ops.hpp"

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/records.hpp"

namespace aep {
namespace {

/// What is said to a client that does not hold it: `refused` if there is a group that begins at the address and that somebody
/// refers to. Takes the stripe.
Status refuse_group(Turn& turn, u64 address, Status refused) {
    if (!turn.stripe(address)) return Status::poisoned;
    const u32 index = find_export(address);
    if (index == NO_RECORD) return Status::miss;
    const Export& e = export_at(index);
    const bool live = e.group.load() == index && e.address == address && e.references.load() != 0;
    return live ? refused : Status::miss;
}

/// The group, if the client holds it, else `refused`: with its lock, then. Under the client's lock; `wanted`: stripes to be taken
/// before the group's lock.
Status find_group_held(Turn& turn, u32 client, u64 address, Status refused, u32& group,
                       const LockList& wanted = {}) {
    const u32 holder = find_holder_at(client, address);
    if (holder == NO_RECORD) return refuse_group(turn, address, refused);
    group = holder_at(holder).object;
    if (export_at(group).group.load() != group) return Status::miss;
    if (!turn.stripes(wanted) || !turn.object(group)) return Status::poisoned;
    return Status::ok;
}

/// The same, if the client may change it: it is the writer.
Status find_written(Turn& turn, u32 client, u64 address, u32& group, const LockList& wanted = {}) {
    const Status status = find_group_held(turn, client, address, Status::not_writer, group, wanted);
    if (status != Status::ok) return status;
    return export_at(group).writer == client ? Status::ok : Status::not_writer;
}

bool lies_in(const Export& e, u64 address, u64 bytes) {
    return address >= e.address && address - e.address < e.bytes &&
           bytes <= e.bytes - (address - e.address);
}

/// Whether the bytes lie in one part of the group.
bool lies_in_group(u32 group, u64 address, u64 bytes) {
    u32 part = group;
    while (part != NO_RECORD && !lies_in(export_at(part), address, bytes))
        part = side_at(part).next_extent;
    return part != NO_RECORD && bytes != 0;
}

}  // namespace

// ---- operations

op::MakeGroup::Reply make_group(Caller caller, const op::MakeGroup& o) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    if (!share_client(client).takes_part()) return {.status = Status::gone};
    if (find_holder_at(client, o.block) != NO_RECORD) return {.status = Status::exists};
    const Status supplied = supply(turn, client, 1, true);
    if (supplied == Status::poisoned || !turn.stripe(o.block)) return {.status = Status::poisoned};
    if (find_export(o.block) != NO_RECORD) return {.status = Status::exists};
    if (!is_memory_of(client, o.block, o.bytes)) return {.status = Status::not_held};
    if (supplied != Status::ok) return {.status = supplied};
    const u32 group = holder_at(export_own_memory(client, o.block, o.bytes, 0)).object;
    export_at(group).writer = client;
    const u64 number = begin_group(client, group);
    AEP_SHARE_CRASH_POINT("share: group made");
    return {.index = group, .number = number};
}

op::FindGroup::Reply find_group(Caller caller, const op::FindGroup& o) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    u32 holder = find_holder_at(client, o.object);
    if (holder == NO_RECORD) {
        if (!turn.stripe(o.object)) return {.status = Status::poisoned};
        const u32 found = find_export(o.object);
        if (found == NO_RECORD || export_at(found).group.load() != found)
            return {.status = Status::miss};
        holder = find_holder(client, found);  // by its root
        if (holder == NO_RECORD) return {.status = Status::not_held};
    }
    const u32 group = holder_at(holder).object;
    if (export_at(group).group.load() != group) return {.status = Status::miss};
    return {.index = group, .group = export_at(group).address.load()};
}

op::ExtendGroup::Reply extend_group(Caller caller, const op::ExtendGroup& o) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    const Status supplied = supply(turn, client, 1, false);
    LockList wanted;
    wanted.add_stripe(o.extent);
    u32 group = NO_RECORD;
    const Status status = find_written(turn, client, o.group, group, wanted);
    if (status != Status::ok) return {.status = status};
    Export& e = export_at(group);
    u32 extents = 0;
    for (u32 i = side_at(group).next_extent; i != NO_RECORD; i = side_at(i).next_extent) ++extents;
    if (extents >= MAX_EXTENTS) return {.status = Status::limit};
    if (!is_memory_of(client, o.extent, o.bytes) || find_export(o.extent) != NO_RECORD)
        return {.status = Status::not_held};
    if (supplied != Status::ok) return {.status = supplied};
    const bool known_elsewhere = e.node_ref != NodeRef::none;
    if (known_elsewhere) {
        if (!turn.numbers()) return {.status = Status::poisoned};
        if (!has_free_number()) return {.status = Status::limit};
    }
    const u32 extent = make_export(client, o.extent, o.bytes, 0);
    Export& added = export_at(extent);
    added.state = static_cast<u32>(ExportState::extent);
    added.group = group;
    side_at(extent).next_extent = side_at(group).next_extent;
    side_at(group).next_extent = extent;  // readers follow the list without the lock
    ++share_client(client).extents;
    AEP_SHARE_CRASH_POINT("share: extent added");
    // Other nodes may find their way into it at once.
    if (known_elsewhere) publish_extents(group);
    return {};
}

op::SetRoot::Reply set_root(Caller caller, const op::SetRoot& o) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    const Status supplied = supply(turn, client, 1, false);
    LockList wanted;
    if (o.root != 0) wanted.add_stripe(o.root);
    // The root that it has, which its writer alone changes: this client, if it is that.
    if (const u32 holder = find_holder_at(client, o.group); holder != NO_RECORD) {
        const u32 root = export_at(holder_at(holder).object).root.load();
        if (is_record(root)) wanted.add_stripe(export_at(root).address.load());
    }
    u32 group = NO_RECORD;
    const Status status = find_written(turn, client, o.group, group, wanted);
    if (status != Status::ok) return {.status = status};
    Export& e = export_at(group);
    // Others drop their references by the root's address.
    if (holder_at(find_holder(client, group)).count != e.references || references_elsewhere(e) != 0)
        return {.status = Status::busy};
    if (o.root == 0) {
        remove_root(client, group);
        return {};
    }
    const bool same = e.root != NO_RECORD && export_at(e.root).address == o.root;
    if (!lies_in_group(group, o.root, o.bytes) || (!same && find_export(o.root) != NO_RECORD))
        return {.status = Status::not_live};
    if (e.root == NO_RECORD && supplied != Status::ok) return {.status = supplied};
    add_root(client, group, o.root, o.bytes);
    return {};
}

op::SetWriter::Reply set_writer(Caller caller, const op::SetWriter& o) {
    const u32 client = caller.client;
    const ShareId to = o.writer;
    const u32 writer = client_of(to);
    Turn turn(caller);
    if (!turn.clients(client, writer == 0 ? client : writer)) return {.status = Status::poisoned};
    u32 group = NO_RECORD;
    const Status status = find_written(turn, client, o.group, group);
    if (status != Status::ok) return {.status = status};
    if (to.bits != 0) {
        if (writer == 0 || client_of(to) != writer) return {.status = Status::gone};
        if (find_holder(writer, group) == NO_RECORD) return {.status = Status::not_held};
    }
    // A release: what the former writer wrote is seen by who finds itself the writer.
    export_at(group).writer = writer;
    AEP_SHARE_CRASH_POINT("share: writer set");
    return {};
}

op::TakeGroup::Reply take_group(Caller caller, const op::TakeGroup& o) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    u32 group = NO_RECORD;
    const Status status = find_group_held(turn, client, o.group, Status::not_held, group);
    if (status != Status::ok) return {.status = status};
    Export& e = export_at(group);
    if (e.owner == OWNER_ELSEWHERE) return {.status = Status::elsewhere};
    if (e.writer != 0) return {.status = e.writer == client ? Status::ok : Status::not_writer};
    e.writer = client;
    AEP_SHARE_CRASH_POINT("share: writer set");
    return {};
}

/// With the group's lock the number of its references stays, and nobody who holds it ceases to: only messages become
/// references meanwhile. So if those that are found are all, they are at the end, too. Of a receiver that dies in
/// that the message may be one again; but only its own.
op::CountUnknown::Reply count_unknown(Caller caller, const op::CountUnknown& o) {
    const u32 client = caller.client;
    Turn turn(caller);
    if (!turn.client(client)) return {.status = Status::poisoned};
    u32 group = NO_RECORD;
    const Status status = find_group_held(turn, client, o.group, Status::not_held, group);
    if (status != Status::ok) return {.status = status};
    const Export& e = export_at(group);
    u64 known = holder_at(find_holder(client, group)).count;
    for (const u16 one : o.known)
        if (one != 0 && one <= context().max_clients) known += references_of(one, group);
    // Who is at work with it between nodes may be about to send it.
    const u64 all = u64{e.references} + references_elsewhere(e) + e.pins;
    // More than all: it named one of them twice, and knows nothing.
    return {.unknown = known > all ? 1 : all - known};
}

}  // namespace aep
