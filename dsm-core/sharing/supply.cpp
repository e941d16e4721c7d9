// Purpose: see supply.hpp.
// Who calls it: the sharing operations.
// Crash rule: inside an operation, which completes or is undone.
#include "dsm-core/sharing/supply.hpp"

#include "dsm-core/sharing/crash_points.hpp"

namespace aep {
namespace {

/// Records that a client gets at once: whole lines, that no other client has a part of.
constexpr u32 BATCH = 64;

/// Free ones that others had, else such as were never used. False: there are none. `recycle`: puts one that was never used to
/// the free ones.
template <class NextList, class Recycle>
bool refill(Supply& own, Logged<u32>& lists, Logged<u32>& used, u32 present, NextList&& next_list,
            Recycle&& recycle) {
    if (own.free == NO_RECORD && lists != NO_RECORD) {
        own.free = lists;
        lists = static_cast<u32>(next_list(own.free));
        return true;
    }
    const u32 first = used + 1;
    if (first >= present) return false;
    for (; own.next != own.end; ++own.next) recycle(own.next);  // too few
    u32 end = (first / BATCH + 1) * BATCH;
    if (end > present) end = present;
    own.next = first;
    own.end = end;
    used = end - 1;
    return true;
}

u32 at_hand(const Supply& own, u32 second) {
    const u32 free = own.free == NO_RECORD ? 0 : second == NO_RECORD ? 1 : 2;
    return free + (own.end - own.next);
}
u32 exports_at_hand(const Supply& own) {
    return at_hand(own, own.free == NO_RECORD ? NO_RECORD : u32{export_at(own.free).next});
}
u32 holders_at_hand(const Supply& own) {
    return at_hand(own, own.free == NO_RECORD ? NO_RECORD : u32{holder_at(own.free).next});
}

}  // namespace

u32 new_holder_record(u32 client) {
    Supply& own = share_client(client).holder_records;
    const u32 index = own.free;
    if (index == NO_RECORD) {
        ++own.next;
        return own.next - 1;
    }
    holder_at(index).next.keep();  // all that is read of a free record
    own.free = holder_at(index).next;
    return index;
}
void recycle_holder_record(u32 client, u32 index) {
    Supply& own = share_client(client).holder_records;
    holder_at(index).next = own.free;
    own.free = index;
}

u32 new_export(u32 client) {
    Supply& own = share_client(client).export_records;
    const bool fresh = own.free == NO_RECORD;
    const u32 index = fresh ? own.next : own.free;
    Export& e = export_at(index);
    e.state.keep();  // with `next`, all that is read of a free record
    if (fresh) {
        ++own.next;
    } else {
        e.next.keep();
        own.free = e.next;
    }
    return index;
}

void recycle_export(u32 client, u32 index) {
    Supply& own = share_client(client).export_records;
    Export& e = export_at(index);
    e.state = static_cast<u32>(ExportState::free);
    e.next = own.free;
    own.free = index;
}

Status supply(Turn& turn, u32 client, u32 exports, bool to_hold) {
    ShareClient& own = share_client(client);
    const u32 holders = to_hold ? 2 : 0;  // one of them for a branch
    const auto has_all = [&] {
        return exports_at_hand(own.export_records) >= exports &&
               holders_at_hand(own.holder_records) >= holders;
    };
    if (AEP_LIKELY(has_all())) return Status::ok;
    ShareHeader& s = sharing();
    if (!turn.records()) return Status::poisoned;
    bool more = true;
    while (more && exports_at_hand(own.export_records) < exports) {
        more = refill(
            own.export_records, s.export_lists, s.exports_used, s.exports_present,
            [](u32 list) -> u32 { return export_at(list).next_returned; },
            [&](u32 index) { recycle_export(client, index); });
    }
    while (more && holders_at_hand(own.holder_records) < holders) {
        more = refill(
            own.holder_records, s.holder_lists, s.holders_used, s.holders_present,
            [](u32 list) -> u64 { return holder_at(list).address; },
            [&](u32 index) { recycle_holder_record(client, index); });
    }
    turn.let_go_of_last();
    AEP_SHARE_CRASH_POINT("share: supply taken");
    return has_all() ? Status::ok : Status::need_records;
}

void give_supply_up(Turn& turn, u32 client) {
    ShareClient& own = share_client(client);
    if (own.export_records.free == NO_RECORD && own.holder_records.free == NO_RECORD) return;
    ShareHeader& s = sharing();
    if (!turn.records()) return;
    if (const u32 list = own.export_records.free; list != NO_RECORD) {
        export_at(list).next_returned = s.export_lists;
        s.export_lists = list;
        own.export_records.free = NO_RECORD;
    }
    if (const u32 list = own.holder_records.free; list != NO_RECORD) {
        holder_at(list).address = s.holder_lists;
        s.holder_lists = list;
        own.holder_records.free = NO_RECORD;
    }
    turn.let_go_of_last();
}

}  // namespace aep
