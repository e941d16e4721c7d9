// Purpose: see disposal.hpp.
// Who calls it: the sharing operations.
// Crash rule: inside an operation, which completes or is undone.
#include "dsm-core/sharing/disposal.hpp"

#include "dsm-core/sharing/crash_points.hpp"

namespace aep {
namespace {

/// The list on which the export lingers, when it does.
Lingering& list_of(u32 index) {
    const bool visits = export_at(index).owner == OWNER_ELSEWHERE && !is_group(index);
    return visits ? sharing().visiting : sharing().deferred;
}

void linger(u32 index) {
    Export& e = export_at(index);
    e.state = static_cast<u32>(ExportState::lingering);
    if (e.listed) return;
    Lingering& list = list_of(index);
    e.listed = true;
    side_at(index).next_lingering = NO_RECORD;
    if (list.last != NO_RECORD)
        side_at(list.last).next_lingering = index;
    else
        list.first = index;
    list.last = index;
    ++list.count;
    list.bytes += e.bytes;
}

/// An export that nobody refers to: to its owner, or away with it if that is dead or elsewhere.
void give_back(u32 index) {
    Export& e = export_at(index);
    if (e.owner == 0 || e.owner == OWNER_ELSEWHERE || share_client(e.owner).open == 0)
        return free_export(index);
    ShareClient& owner = share_client(e.owner);
    e.state = static_cast<u32>(ExportState::returned);  // found, but held by nobody
    e.next_returned = owner.first_returned;
    owner.first_returned = index;
}

/// The group's last reference is gone: its root's record and its extents go.
void release_parts(u32 group) {
    Export& e = export_at(group);
    remove_root(group);
    side_at(group).born = 0;  // whoever remembers the group finds that it is no more
    e.writer = 0;
    u32 extent = side_at(group).next_extent;
    side_at(group).next_extent = NO_RECORD;
    while (extent != NO_RECORD) {
        Export& part = export_at(extent);
        const u32 next = side_at(extent).next_extent;
        part.group = NO_RECORD;
        side_at(extent).next_extent = NO_RECORD;
        if (part.object != 0) forget_number(extent);
        --sharing().extents;
        give_back(extent);
        AEP_SHARE_CRASH_POINT("share: extent released");
        extent = next;
    }
    --sharing().groups;
}

}  // namespace

u32 next_lingering(Lingering& list) {
    const u32 index = list.first;
    if (index == NO_RECORD) return NO_RECORD;
    Export& e = export_at(index);
    list.first = side_at(index).next_lingering;
    if (list.first == NO_RECORD) list.last = NO_RECORD;
    side_at(index).next_lingering = NO_RECORD;
    e.listed = false;
    --list.count;
    list.bytes -= e.bytes;
    return index;
}

void dispose(u32 index) {
    const Export& e = export_at(index);
    if (e.pins != 0) return;
    if (e.node_ref != NodeRef::none) return linger(index);
    if (is_group(index)) release_parts(index);
    give_back(index);
}

}  // namespace aep
