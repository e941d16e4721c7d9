// Purpose: see records.hpp.
// Who calls it: the sharing operations.
// Crash rule: inside an operation, which completes or is undone.
#include "dsm-core/sharing/records.hpp"

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/crash_points.hpp"

namespace aep {
namespace {

void unlink_from_chain(u32 index) {
    Logged<u32>* link = &chain_of(export_at(index).address);
    while (*link != index) link = &export_at(*link).next;
    *link = export_at(index).next;
}

enum class Count { one_more, one_less, one_orphan_less };

/// One more export, or one less, in each chunk that the object touches. Those that it fills have no
/// other. Only chunks of orphans can be kept for their exports: recovery keeps chunks when all
/// exports of the client are orphans.
void count_in_chunks(u64 address, u64 bytes, Count how) {
    const bool more = how == Count::one_more;
    const bool may_be_kept = how == Count::one_orphan_less;
    const ChunkSpan span = chunks_of(address, bytes);
    const u32 last = span.end - 1;
    const auto change = [&](Logged<u32>& count) {
        if (more) {
            ++count;
        } else {
            --count;
            if (may_be_kept && count == 0) undo_log().mark_freed();
        }
    };
    change(chunk_exports(span.first));
    if (last == span.first) return;
    if (last - span.first > 1) {
        fill_logged(&chunk_exports(span.first + 1), last - span.first - 1, more ? 0 : 1, more);
        if (may_be_kept) undo_log().mark_freed();
    }
    change(chunk_exports(last));
}

}  // namespace

bool is_open(ShareId id) {
    if (!is_inbox(id.inbox())) return false;
    const Inbox& in = inbox_at(id.inbox());
    return in.open.load() != 0 && id_of(id.inbox(), in.generation.load()).bits == id.bits;
}

u32 client_of(ShareId id) {
    const u32 client = is_open(id) ? inbox_at(id.inbox()).client.load() : 0;
    return client <= context().max_clients ? client : 0;
}

// ---- records

bool is_record(u32 index) {
    return index != NO_RECORD && index < MAX_EXPORTS && index <= sharing().exports_used.load();
}

// ---- exports

u32 find_export(u64 address) {
    u32 index = chain_of(address);
    while (index != NO_RECORD && export_at(index).address != address) index = export_at(index).next;
    if (index == NO_RECORD) return NO_RECORD;
    const Export& e = export_at(index);
    // What is no root never becomes one as long as it is in a chain.
    return e.state.load() == static_cast<u32>(ExportState::root) ? e.group.load() : index;
}

namespace {

void link_to_owner(u32 client, u32 index) {
    ShareClient& owner = share_client(client);
    if (owner.first_export != NO_RECORD) side_at(owner.first_export).previous_of_owner = index;
    owner.first_export = index;
    ++owner.exports;
}

void unlink_from_owner(u32 index) {
    const ExportSide& e = side_at(index);
    ShareClient& owner = share_client(export_at(index).owner);
    if (e.previous_of_owner != NO_RECORD)
        side_at(e.previous_of_owner).next_of_owner = e.next_of_owner;
    else
        owner.first_export = e.next_of_owner;
    if (e.next_of_owner != NO_RECORD)
        side_at(e.next_of_owner).previous_of_owner = e.previous_of_owner;
    --owner.exports;
}

}  // namespace

u32 make_export(u32 client, u64 address, u64 bytes, u32 references) {
    const u32 index = new_export(client);
    Logged<u32>& chain = chain_of(address);
    write_unreached<ExportFields>(export_at(index), {.address = address,
                                                     .bytes = bytes,
                                                     .state = static_cast<u32>(ExportState::live),
                                                     .owner = client,
                                                     .references = references,
                                                     .next = chain});
    write_unreached(side_at(index), {.next_of_owner = share_client(client).first_export});
    chain = index;
    link_to_owner(client, index);
    count_in_chunks(address, bytes, Count::one_more);
    AEP_SHARE_CRASH_POINT("share: export made");
    return index;
}

void name_export(u32 index, u64 address, u64 bytes) {
    Export& e = export_at(index);
    if (e.address != 0) unlink_from_chain(index);
    Logged<u32>& chain = chain_of(address);
    e.address = address;
    e.bytes = bytes;
    e.next = chain;
    chain = index;
}

bool forget_number(Turn& turn, u32 index) {
    Export& e = export_at(index);
    if (e.object != 0) {
        if (!turn.numbers()) return false;
        export_of_object(e.object - 1) = NO_RECORD;
    }
    e.object = 0;
    e.node_ref = NodeRef::none;
    return true;
}

void make_orphan(u32 index) {
    unlink_from_owner(index);
    export_at(index).owner = 0;
    ++share_client(0).exports;
}

void free_export(u32 index) {
    const Export& e = export_at(index);
    const u32 owner = e.owner;
    const u32 keeper = keeper_of(owner);
    if (keeper != 0)
        unlink_from_owner(index);
    else
        --share_client(0).exports;
    if (owner == OWNER_ELSEWHERE)
        --share_client(0).foreign;
    else
        count_in_chunks(e.address, e.bytes, owner == 0 ? Count::one_orphan_less : Count::one_less);
    if (e.address != 0) unlink_from_chain(index);
    recycle_export(keeper, index);
    AEP_SHARE_CRASH_POINT("share: export removed");
}

bool take_references(u32 index, u32 count) {
    Export& e = export_at(index);
    e.references -= count;
    AEP_SHARE_CRASH_POINT("share: reference dropped");
    return e.references == 0;
}

u64 begin_group(u32 client, u32 index) {
    static_assert(MAX_DOMAINS <= 1 << 12);
    ShareClient& maker = share_client(client);
    const u64 number = ++maker.groups_made << 12 | client;
    export_at(index).group = index;
    // It tells it from others at the same address and in the same record, and from all that there ever were.
    side_at(index).born = number;
    ++maker.groups;
    return number;
}

void add_root(u32 client, u32 group, u64 address, u64 bytes) {
    u32 root = export_at(group).root;
    if (root == NO_RECORD) {
        root = new_export(client);
        write_unreached<ExportFields>(
            export_at(root), {.state = static_cast<u32>(ExportState::root), .group = group});
    }
    name_export(root, address, bytes);
    export_at(group).root = root;  // readers find the record without the lock
    AEP_SHARE_CRASH_POINT("share: root set");
}

void remove_root(u32 client, u32 group) {
    Export& e = export_at(group);
    if (e.root == NO_RECORD) return;
    unlink_from_chain(e.root);
    recycle_export(client, e.root);
    e.root = NO_RECORD;
}

/// Chunks that it fills have no export so far: count_in_chunks() relies on that.
bool is_memory_of(u32 client, u64 address, u64 bytes) {
    if (!in_heap_window(address) || bytes == 0 || bytes > HEAP_WINDOW - (address - HEAP_BASE))
        return false;
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        const bool filled = c != span.first && c + 1 != span.end;
        if (c >= context().chunk_count ||
            chunk_owner(c).load(std::memory_order_relaxed) != client ||
            (filled && chunk_exports(c) != 0))
            return false;
    }
    return true;
}

Status find_held_or_own(Turn& turn, u32 client, u64 address, u64 bytes, bool to_hold, u32& holder) {
    holder = find_holder_at(client, address);
    if (AEP_LIKELY(holder != NO_RECORD)) return Status::ok;
    const Status supplied = supply(turn, client, 1, to_hold);
    if (supplied == Status::poisoned || !turn.stripe(address)) return Status::poisoned;
    if (const u32 object = find_export(address); object != NO_RECORD) {
        holder = find_holder(client, object);  // by its group's root, perhaps
        return holder != NO_RECORD ? Status::ok : Status::not_held;
    }
    return is_memory_of(client, address, bytes) ? supplied : Status::not_held;
}

Status find_held(Turn& turn, u32 client, u64 address, u64 bytes, u32& holder) {
    const Status status = find_held_or_own(turn, client, address, bytes, true, holder);
    if (status == Status::ok && AEP_UNLIKELY(holder == NO_RECORD))
        holder = export_own_memory(client, address, bytes, SPARE);
    return status;
}

u32 export_own_memory(u32 client, u64 address, u64 bytes, u32 spare) {
    return hold_anew(client, make_export(client, address, bytes, 1 + spare), spare);
}

ShareCounts count_shares() {
    ShareCounts all;
    u32 groups = 0, extents = 0;  // each client's may be less than 0
    for (u32 i = 0; i <= context().max_clients; ++i) {
        const ShareClient& c = share_client(i);
        all.exports += c.exports.load();
        all.holders += c.objects_held.load();
        groups += c.groups.load();
        extents += c.extents.load();
        all.sent += c.sent;
        all.received += c.received;
    }
    all.groups = groups;
    all.extents = extents;
    all.orphans = share_client(0).exports.load() - share_client(0).foreign.load();
    return all;
}

}  // namespace aep
