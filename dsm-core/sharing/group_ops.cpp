// Purpose: see group_ops.hpp.
// Who calls it: see group_ops.hpp.
// Crash rule: see group_ops.hpp.
#include "dsm-core/sharing/group_ops.hpp"

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/records.hpp"

namespace aep {
namespace {

/// The group that begins at the address and that somebody refers to; NO_RECORD: none.
u32 group_at(u64 address) {
    const u32 index = find_export(address);
    const bool live =
        is_group(index) && export_at(index).address == address && export_at(index).references != 0;
    return live ? index : NO_RECORD;
}

/// The group, if the client may change it. Nothing else is done unless ok.
Status find_written(u32 client, u64 address, u32& group) {
    group = group_at(address);
    if (group == NO_RECORD) return Status::miss;
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

op::MakeGroup::Reply perform_locked(u32 client, const op::MakeGroup& o, SharingLock&) {
    if (share_client(client).open == 0) return {.status = Status::gone};
    if (find_export(o.block) != NO_RECORD) return {.status = Status::exists};
    u32 holder = NO_RECORD;
    const Status status = find_held(client, o.block, o.bytes, holder);
    if (status != Status::ok) return {.status = status};
    const u32 group = holder_at(holder).object;
    export_at(group).writer = client;
    const u64 number = begin_group(group);
    AEP_SHARE_CRASH_POINT("share: group made");
    return {.index = group, .number = number};
}

op::FindGroup::Reply perform_locked(u32 client, const op::FindGroup& o, SharingLock&) {
    const u32 group = find_export(o.object);
    if (!is_group(group)) return {.status = Status::miss};
    if (find_holder(client, group) == NO_RECORD) return {.status = Status::not_held};
    return {.index = group, .group = export_at(group).address};
}

op::ExtendGroup::Reply perform_locked(u32 client, const op::ExtendGroup& o, SharingLock&) {
    u32 group = NO_RECORD;
    const Status status = find_written(client, o.group, group);
    if (status != Status::ok) return {.status = status};
    Export& e = export_at(group);
    u32 extents = 0;
    for (u32 i = side_at(group).next_extent; i != NO_RECORD; i = side_at(i).next_extent) ++extents;
    if (extents >= MAX_EXTENTS) return {.status = Status::limit};
    if (!is_memory_of(client, o.extent, o.bytes) || find_export(o.extent) != NO_RECORD)
        return {.status = Status::not_held};
    if (!records_left(1, false)) return {.status = Status::need_records};
    const bool known_elsewhere = e.node_ref != NodeRef::none;
    if (known_elsewhere && !has_free_number()) return {.status = Status::limit};
    const u32 extent = make_export(client, o.extent, o.bytes);
    Export& added = export_at(extent);
    added.state = static_cast<u32>(ExportState::extent);
    added.group = group;
    side_at(extent).next_extent = side_at(group).next_extent;
    side_at(group).next_extent = extent;  // readers follow the list without the lock
    ++sharing().extents;
    AEP_SHARE_CRASH_POINT("share: extent added");
    // Other nodes may find their way into it at once.
    if (known_elsewhere) publish_extents(group);
    return {};
}

op::SetRoot::Reply perform_locked(u32 client, const op::SetRoot& o, SharingLock&) {
    u32 group = NO_RECORD;
    const Status status = find_written(client, o.group, group);
    if (status != Status::ok) return {.status = status};
    Export& e = export_at(group);
    // Others drop their references by the root's address.
    if (holder_at(find_holder(client, group)).count != e.references || references_elsewhere(e) != 0)
        return {.status = Status::busy};
    if (o.root != 0) {
        const bool same = e.root != NO_RECORD && export_at(e.root).address == o.root;
        if (!lies_in_group(group, o.root, o.bytes) || (!same && find_export(o.root) != NO_RECORD))
            return {.status = Status::not_live};
        if (e.root == NO_RECORD && !records_left(1, false)) return {.status = Status::need_records};
    }
    if (o.root == 0)
        remove_root(group);
    else
        add_root(group, o.root, o.bytes);
    return {};
}

op::SetWriter::Reply perform_locked(u32 client, const op::SetWriter& o, SharingLock&) {
    u32 group = NO_RECORD;
    const Status status = find_written(client, o.group, group);
    if (status != Status::ok) return {.status = status};
    const ShareId to = o.writer;
    if (to.bits != 0) {
        if (!is_open(to)) return {.status = Status::gone};
        if (find_holder(to.client(), group) == NO_RECORD) return {.status = Status::not_held};
    }
    // A release: what the former writer wrote is seen by who finds itself the writer.
    export_at(group).writer = to.client();
    AEP_SHARE_CRASH_POINT("share: writer set");
    return {};
}

op::TakeGroup::Reply perform_locked(u32 client, const op::TakeGroup& o, SharingLock&) {
    const u32 group = group_at(o.group);
    if (group == NO_RECORD) return {.status = Status::miss};
    Export& e = export_at(group);
    if (find_holder(client, group) == NO_RECORD) return {.status = Status::not_held};
    if (e.owner == OWNER_ELSEWHERE) return {.status = Status::elsewhere};
    if (e.writer != 0) return {.status = e.writer == client ? Status::ok : Status::not_writer};
    e.writer = client;
    AEP_SHARE_CRASH_POINT("share: writer set");
    return {};
}

op::CountUnknown::Reply perform_locked(u32 client, const op::CountUnknown& o, SharingLock&) {
    const u32 group = group_at(o.group);
    if (group == NO_RECORD) return {.status = Status::miss};
    const Export& e = export_at(group);
    u64 known = 0;
    const auto add = [&](u32 one) {
        if (const u32 holder = find_holder(one, group); holder != NO_RECORD)
            known += holder_at(holder).count;
    };
    add(client);
    for (const u16 one : o.known)
        if (one != 0 && one <= context().max_clients) add(one);
    const u64 all = u64{e.references} + references_elsewhere(e);
    // More than all: it named one of them twice, and knows nothing.
    return {.unknown = known > all ? 1 : all - known};
}

}  // namespace aep
