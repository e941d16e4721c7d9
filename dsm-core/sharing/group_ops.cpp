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
    while (part != NO_RECORD && !lies_in(export_at(part), address, bytes)) {
        part = export_at(part).next_extent;
    }
    return part != NO_RECORD && bytes != 0;
}

void remove_root(u32 group) {
    Export& e = export_at(group);
    if (e.root == NO_RECORD) return;
    recycle_export(e.root);
    e.root = NO_RECORD;
}

// ---- operations

ShareReply make(u32 client, const ShareRequest& r) {
    if (share_client(client).open == 0) return {.status = Status::gone};
    if (find_export(r.a) != NO_RECORD) return {.status = Status::exists};
    u32 group = NO_RECORD;
    const Status status = find_held(client, r.a, r.mask, group);
    if (status != Status::ok) return {.status = status};
    export_at(group).writer = client;
    const u64 number = begin_group(group);
    AEP_SHARE_CRASH_POINT("share: group made");
    return {.value = group, .mask = number};
}

ShareReply find(u32 client, const ShareRequest& r) {
    const u32 group = find_export(r.a);
    if (!is_group(group)) return {.status = Status::miss};
    if (find_holder(client, group) == NO_RECORD) return {.status = Status::not_held};
    return {.value = export_at(group).address, .mask = group};
}

ShareReply extend(u32 client, const ShareRequest& r) {
    u32 group = NO_RECORD;
    const Status status = find_written(client, r.a, group);
    if (status != Status::ok) return {.status = status};
    Export& e = export_at(group);
    u32 extents = 0;
    for (u32 i = e.next_extent; i != NO_RECORD; i = export_at(i).next_extent) ++extents;
    if (extents >= MAX_EXTENTS) return {.status = Status::limit};
    if (!is_memory_of(client, r.b, r.mask) || find_export(r.b) != NO_RECORD) {
        return {.status = Status::not_held};
    }
    if (!records_left(1, 0)) return {.status = Status::need_records};
    const bool known_elsewhere = e.node_ref != NodeRef::none;
    if (known_elsewhere && !numbers_left()) return {.status = Status::limit};
    const u32 extent = make_export(client, r.b, r.mask);
    Export& added = export_at(extent);
    added.state = static_cast<u32>(ExportState::extent);
    added.group = group;
    added.next_extent = e.next_extent;
    e.next_extent = extent;  // readers follow the list without the lock
    ++sharing().extents;
    AEP_SHARE_CRASH_POINT("share: extent added");
    // Other nodes may find their way into it at once.
    if (known_elsewhere) publish_extents(group);
    return {};
}

ShareReply set_root(u32 client, const ShareRequest& r) {
    u32 group = NO_RECORD;
    const Status status = find_written(client, r.a, group);
    if (status != Status::ok) return {.status = status};
    Export& e = export_at(group);
    // Others drop their references by the root's address.
    if (holder_at(find_holder(client, group)).count != e.references ||
        references_elsewhere(e) != 0) {
        return {.status = Status::busy};
    }
    if (r.b != 0) {
        const bool same = e.root != NO_RECORD && export_at(e.root).address == r.b;
        if (!lies_in_group(group, r.b, r.mask) || (!same && find_export(r.b) != NO_RECORD)) {
            return {.status = Status::not_live};
        }
        if (e.root == NO_RECORD && !records_left(1, 0)) return {.status = Status::need_records};
    }
    if (r.b == 0) {
        remove_root(group);
    } else {
        add_root(group, r.b, r.mask);
    }
    return {};
}

ShareReply set_writer(u32 client, const ShareRequest& r) {
    u32 group = NO_RECORD;
    const Status status = find_written(client, r.a, group);
    if (status != Status::ok) return {.status = status};
    const ShareId to{r.b};
    if (to.bits != 0) {
        if (!is_open(to)) return {.status = Status::gone};
        if (find_holder(to.client(), group) == NO_RECORD) return {.status = Status::not_held};
    }
    // A release: what the former writer wrote is seen by who finds itself the writer.
    export_at(group).writer = to.client();
    AEP_SHARE_CRASH_POINT("share: writer set");
    return {};
}

}  // namespace

u64 begin_group(u32 index) {
    Export& e = export_at(index);
    u64 number = ++sharing().groups_made;
    if (static_cast<u32>(number) == 0) number = ++sharing().groups_made;
    e.group = index;
    e.born = static_cast<u32>(number);
    ++sharing().groups;
    return number;
}

void add_root(u32 group, u64 address, u64 bytes) {
    u32 root = export_at(group).root;
    if (root == NO_RECORD) {
        root = new_export();
        write_unreached(export_at(root),
                        {.state = static_cast<u32>(ExportState::root), .group = group});
    }
    name_export(root, address, bytes);
    export_at(group).root = root;  // readers find the record without the lock
    AEP_SHARE_CRASH_POINT("share: root set");
}

void release_parts(u32 group) {
    Export& e = export_at(group);
    remove_root(group);
    e.born = 0;  // whoever remembers the group finds that it is no more
    e.writer = 0;
    u32 extent = e.next_extent;
    e.next_extent = NO_RECORD;
    while (extent != NO_RECORD) {
        Export& part = export_at(extent);
        const u32 next = part.next_extent;
        part.group = NO_RECORD;
        part.next_extent = NO_RECORD;
        if (part.object != 0) forget_number(extent);
        --sharing().extents;
        give_back(extent);
        AEP_SHARE_CRASH_POINT("share: extent released");
        extent = next;
    }
    --sharing().groups;
}

ShareReply perform_group(u32 client, ShareOp op, const ShareRequest& r) {
    switch (op) {
        case ShareOp::group_make:
            return make(client, r);
        case ShareOp::group_find:
            return find(client, r);
        case ShareOp::group_extend:
            return extend(client, r);
        case ShareOp::group_root:
            return set_root(client, r);
        case ShareOp::group_writer:
            return set_writer(client, r);
        default:
            return {.status = Status::no_such_op};
    }
}

}  // namespace aep
