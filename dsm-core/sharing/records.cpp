// Purpose: see records.hpp.
// Who calls it: the sharing operations.
// Crash rule: inside an operation, which completes.
#include "dsm-core/sharing/records.hpp"

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/group_ops.hpp"

namespace aep {
namespace {

u32 new_holder() {
    ShareHeader& s = sharing();
    ++s.live_holders;
    if (s.free_holders == NO_RECORD) return ++s.holders_used;
    const u32 index = s.free_holders;
    s.free_holders = holder_at(index).next;
    return index;
}

void unlink_from_bucket(u32 index) {
    u32* link = &export_bucket(export_at(index).address);
    while (*link != index) link = &export_at(*link).next;
    *link = export_at(index).next;
}

}  // namespace

void wake(std::atomic<u32>& sequence, const std::atomic<u32>& waiters) {
    // seq_cst: a waiter raises `waiters` and then reads the sequence; one of us sees the other.
    sequence.fetch_add(1, std::memory_order_seq_cst);
    if (waiters.load(std::memory_order_seq_cst) != 0) {
        detail::futex(&sequence, detail::FUTEX_WAKE, ~0u >> 1);
    }
}

bool is_open(ShareId id) {
    if (id.client() == 0 || id.client() > context().max_clients) return false;
    const ShareClient& c = share_client(id.client());
    return c.open != 0 && id_of(id.client()).bits == id.bits;
}

// ---- records

bool records_left(u32 exports, u32 holders) {
    const ShareHeader& s = sharing();
    return (exports == 0 || s.free_exports != NO_RECORD ||
            s.exports_used + 1 < s.exports_present) &&
           (holders == 0 || s.free_holders != NO_RECORD || s.holders_used + 1 < s.holders_present);
}

// ---- exports

u32 find_export(u64 address) {
    u32 index = export_bucket(address);
    while (index != NO_RECORD && export_at(index).address != address) index = export_at(index).next;
    if (index == NO_RECORD) return NO_RECORD;
    const Export& e = export_at(index);
    return e.state == static_cast<u32>(ExportState::root) ? e.group : index;
}

u32 new_export() {
    ShareHeader& s = sharing();
    if (s.free_exports == NO_RECORD) return ++s.exports_used;
    const u32 index = s.free_exports;
    s.free_exports = export_at(index).next;
    return index;
}

void recycle_export(u32 index) {
    if (export_at(index).address != 0) unlink_from_bucket(index);
    export_at(index) = {};
    export_at(index).next = sharing().free_exports;
    sharing().free_exports = index;
}

void unlink_from_owner(u32 index) {
    Export& e = export_at(index);
    if (e.previous_of_owner != NO_RECORD) {
        export_at(e.previous_of_owner).next_of_owner = e.next_of_owner;
    } else {
        share_client(e.owner).first_export = e.next_of_owner;
    }
    if (e.next_of_owner != NO_RECORD) {
        export_at(e.next_of_owner).previous_of_owner = e.previous_of_owner;
    }
}

u32 make_export(u32 client, u64 address, u64 bytes) {
    const u32 index = new_export();
    ++sharing().live_exports;
    ShareClient& owner = share_client(client);
    u32& bucket = export_bucket(address);
    export_at(index) = {.address = address,
                        .bytes = bytes,
                        .state = static_cast<u32>(ExportState::live),
                        .owner = client,
                        .references = 0,
                        .first_holder = NO_RECORD,
                        .next = bucket,
                        .next_of_owner = owner.first_export,
                        .previous_of_owner = NO_RECORD,
                        .next_returned = NO_RECORD,
                        .group = NO_RECORD,
                        .writer = 0,
                        .root = NO_RECORD,
                        .next_extent = NO_RECORD,
                        .object = 0,
                        .pins = 0,
                        .node_ref = NodeRef::none,
                        .listed = false,
                        .next_lingering = NO_RECORD};
    bucket = index;
    if (owner.first_export != NO_RECORD) export_at(owner.first_export).previous_of_owner = index;
    owner.first_export = index;
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        std::atomic<u32>& count = chunk_exports(c);  // changed under the lock only
        count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    AEP_SHARE_CRASH_POINT("share: export made");
    return index;
}

u32 make_foreign_export(u32 object) {
    const u32 index = new_export();
    ++sharing().live_exports;
    Export& e = export_at(index);
    e = {};
    e.state = static_cast<u32>(ExportState::live);
    e.owner = OWNER_ELSEWHERE;
    e.object = object + 1;
    export_of_object(object) = index;
    return index;
}

void name_foreign_export(u32 index, u64 address, u64 bytes) {
    Export& e = export_at(index);
    u32& bucket = export_bucket(address);
    e.address = address;
    e.bytes = bytes;
    e.next = bucket;
    bucket = index;
    AEP_AWAY_CRASH_POINT("away: foreign export made");
}

void forget_number(u32 index) {
    Export& e = export_at(index);
    if (e.object != 0) export_of_object(e.object - 1) = NO_RECORD;
    e.object = 0;
    e.node_ref = NodeRef::none;
}

void free_export(u32 index) {
    const Export& e = export_at(index);
    if (e.owner != OWNER_ELSEWHERE) {
        if (e.owner != 0) {
            unlink_from_owner(index);
        } else {
            --sharing().orphans;
        }
        const ChunkSpan span = chunks_of(e.address, e.bytes);
        for (u32 c = span.first; c < span.end; ++c) {
            std::atomic<u32>& count = chunk_exports(c);
            const u32 left = count.load(std::memory_order_relaxed) - 1;
            count.store(left, std::memory_order_relaxed);
            if (left != 0) continue;
            // seq_cst: recovery marks a chunk as kept and then reads the count; one of us sees the
            // other and gives the chunk to the cache.
            std::atomic_thread_fence(std::memory_order_seq_cst);
            give_kept_chunk(c);
        }
    }
    recycle_export(index);
    --sharing().live_exports;
    AEP_SHARE_CRASH_POINT("share: export removed");
}

bool take_references(u32 index, u32 count) {
    Export& e = export_at(index);
    e.references -= count;
    AEP_SHARE_CRASH_POINT("share: reference dropped");
    return e.references == 0;
}

Lingering& list_of(u32 index) {
    const bool visits = export_at(index).owner == OWNER_ELSEWHERE && !is_group(index);
    return visits ? sharing().visiting : sharing().waiting;
}

namespace {

void linger(u32 index) {
    Export& e = export_at(index);
    e.state = static_cast<u32>(ExportState::lingering);
    if (e.listed) return;
    Lingering& list = list_of(index);
    e.listed = true;
    e.next_lingering = NO_RECORD;
    if (list.last != NO_RECORD) {
        export_at(list.last).next_lingering = index;
    } else {
        list.first = index;
    }
    list.last = index;
    list.count.fetch_add(1, std::memory_order_relaxed);
    list.bytes.fetch_add(e.bytes, std::memory_order_relaxed);
}

}  // namespace

u32 next_lingering(Lingering& list) {
    const u32 index = list.first;
    if (index == NO_RECORD) return NO_RECORD;
    Export& e = export_at(index);
    list.first = e.next_lingering;
    if (list.first == NO_RECORD) list.last = NO_RECORD;
    e.next_lingering = NO_RECORD;
    e.listed = false;
    list.count.fetch_sub(1, std::memory_order_relaxed);
    list.bytes.fetch_sub(e.bytes, std::memory_order_relaxed);
    return index;
}

void give_back(u32 index) {
    Export& e = export_at(index);
    if (e.owner == 0 || e.owner == OWNER_ELSEWHERE || share_client(e.owner).open == 0) {
        return free_export(index);
    }
    ShareClient& owner = share_client(e.owner);
    e.state = static_cast<u32>(ExportState::returned);  // found, but held by nobody
    e.next_returned = owner.first_returned;
    owner.first_returned = index;
}

void dispose(u32 index) {
    const Export& e = export_at(index);
    if (e.pins != 0) return;
    if (e.node_ref != NodeRef::none) return linger(index);
    if (is_group(index)) release_parts(index);
    give_back(index);
}

// ---- holders

u32 find_holder(u32 client, u32 object) {
    u32 index = export_at(object).first_holder;
    while (index != NO_RECORD && holder_at(index).client != client) index = holder_at(index).next;
    return index;
}

void hold(u32 client, u32 object) {
    if (const u32 found = find_holder(client, object); found != NO_RECORD) {
        ++holder_at(found).count;
        return;
    }
    const u32 index = new_holder();
    ShareClient& c = share_client(client);
    Export& e = export_at(object);
    holder_at(index) = {.client = client,
                        .object = object,
                        .count = 1,
                        .next = e.first_holder,
                        .next_of_client = c.first_holder,
                        .previous_of_client = NO_RECORD};
    e.first_holder = index;
    if (c.first_holder != NO_RECORD) holder_at(c.first_holder).previous_of_client = index;
    c.first_holder = index;
    AEP_SHARE_CRASH_POINT("share: holder made");
}

void free_holder(u32 index) {
    Holder& h = holder_at(index);
    Export& e = export_at(h.object);
    if (e.writer == h.client) e.writer = 0;
    u32* link = &e.first_holder;
    while (*link != index) link = &holder_at(*link).next;
    *link = h.next;
    if (h.previous_of_client != NO_RECORD) {
        holder_at(h.previous_of_client).next_of_client = h.next_of_client;
    } else {
        share_client(h.client).first_holder = h.next_of_client;
    }
    if (h.next_of_client != NO_RECORD) {
        holder_at(h.next_of_client).previous_of_client = h.previous_of_client;
    }
    h = {};
    h.next = sharing().free_holders;
    sharing().free_holders = index;
    --sharing().live_holders;
}

bool is_memory_of(u32 client, u64 address, u64 bytes) {
    if (!in_heap_window(address) || bytes == 0 || bytes > HEAP_WINDOW - (address - HEAP_BASE)) {
        return false;
    }
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        if (c >= context().chunk_count ||
            chunk_owner(c).load(std::memory_order_relaxed) != client) {
            return false;
        }
    }
    return true;
}

Status find_held(u32 client, u64 address, u64 bytes, u32& object) {
    object = find_export(address);
    if (object != NO_RECORD) {
        return find_holder(client, object) != NO_RECORD ? Status::ok : Status::not_held;
    }
    if (!is_memory_of(client, address, bytes)) return Status::not_held;
    if (!records_left(1, 1)) return Status::need_records;
    object = make_export(client, address, bytes);
    hold(client, object);
    export_at(object).references = 1;
    return Status::ok;
}

}  // namespace aep
