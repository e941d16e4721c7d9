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

bool linger(Turn& turn, u32 index) {
    Export& e = export_at(index);
    if (!turn.lingering()) return false;
    e.state = static_cast<u32>(ExportState::lingering);
    if (e.listed) return true;
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
    return true;
}

/// An export that nobody refers to: to its owner, also while that is being taken back, or away with it if that is dead
/// or elsewhere.
void give_back(u32 index) {
    Export& e = export_at(index);
    const u32 keeper = keeper_of(e.owner);
    if (keeper == 0) return free_export(index);
    Inbox& owner = share_client(keeper).inbox;
    e.state = static_cast<u32>(ExportState::returned);  // found, but held by nobody
    e.next_returned = owner.first_returned;
    owner.first_returned = index;
}

/// The group's last reference is gone: its root's record and its extents go.
bool release_parts(Turn& turn, u32 client, u32 group) {
    Export& e = export_at(group);
    remove_root(client, group);
    side_at(group).born = 0;  // whoever remembers the group finds that it is no more
    e.writer = 0;
    u32 extent = side_at(group).next_extent;
    side_at(group).next_extent = NO_RECORD;
    while (extent != NO_RECORD) {
        Export& part = export_at(extent);
        const u32 next = side_at(extent).next_extent;
        part.group = NO_RECORD;
        side_at(extent).next_extent = NO_RECORD;
        if (part.object != 0 && !forget_number(turn, extent)) return false;
        --share_client(client).extents;
        give_back(extent);
        AEP_SHARE_CRASH_POINT("share: extent released");
        extent = next;
    }
    --share_client(client).groups;
    return true;
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

bool dispose(Turn& turn, u32 client, u32 index) {
    const Export& e = export_at(index);
    if (e.pins != 0) return true;
    if (e.node_ref != NodeRef::none) return linger(turn, index);
    if (is_group(index) && !release_parts(turn, client, index)) return false;
    give_back(index);
    return true;
}

bool is_freed_by(u32 client, u32 index) {
    const Export& e = export_at(index);
    return e.owner.load() == client && e.group.load() == NO_RECORD &&
           e.node_ref.load() == NodeRef::none && e.pins.load() == 0;
}

void add_locks_to_dispose(u32 client, u32 index, LockList& list, bool frees) {
    const Export& whole = export_at(index);
    const auto add_part = [&](u32 at, bool at_once) {
        const Export& e = export_at(at);
        const u32 keeper = keeper_of(e.owner.load());
        if (keeper > context().max_clients) return;  // a record that is none any more
        // It is removed, or returned to its owner.
        if (keeper == 0) list.add_client(0);
        if (keeper == 0 || at_once)
            list.add_stripe(e.address.load());
        else
            list.add_inbox(keeper);
    };
    add_part(index, frees && is_freed_by(client, index));
    if (whole.group.load() != index) return;
    if (const u32 root = whole.root.load(); is_record(root))
        list.add_stripe(export_at(root).address.load());
    u32 extent = side_at(index).next_extent.load();
    for (u32 n = 0; n < MAX_EXTENTS && is_record(extent);
         ++n, extent = side_at(extent).next_extent.load())
        add_part(extent, false);
}

Locked remove_returned(Turn& turn, u32 client, u64& address) {
    ShareClient& own = share_client(client);
    const bool comes = own.taken_back == NO_RECORD;
    if (comes && !turn.inbox(client)) return Locked::given_up;
    const u32 object = comes ? own.inbox.first_returned : own.taken_back;
    if (object == NO_RECORD) return Locked::nothing;
    address = export_at(object).address.load();
    // Its own lock is nobody's: nobody refers to it, and nobody finds it.
    if (!turn.stripe(address)) return Locked::given_up;
    if (comes) own.inbox.first_returned = NO_RECORD;  // those behind it come with it
    own.taken_back = export_at(object).next_returned;
    free_export(object);
    return Locked::yes;
}

}  // namespace aep
