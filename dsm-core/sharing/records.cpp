// Purpose: see records.hpp.
// Who calls it: the sharing operations.
// Crash rule: inside an operation, which completes or is undone.
#include "dsm-core/sharing/records.hpp"

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/crash_points.hpp"

namespace aep {
namespace {

/// Where more than so many references of a client meet, a branch comes between.
constexpr u32 LONGEST_CHAIN = 4;
/// As many branches one after the other as the hash has bits for.
constexpr u32 DEEPEST = 20;
constexpr u32 WAY_BITS = 3;
static_assert(Branch::WAYS == 1 << WAY_BITS && DEEPEST * WAY_BITS < 64);

/// A record for a holder or a branch.
u32 new_holder_record() {
    ShareHeader& s = sharing();
    if (s.free_holders == NO_RECORD) return ++s.holders_used;
    const u32 index = s.free_holders;
    holder_at(index).next.keep();  // all that is read of a free record
    s.free_holders = holder_at(index).next;
    return index;
}
void recycle_holder_record(u32 index) {
    holder_at(index).next = sharing().free_holders;
    sharing().free_holders = index;
}

bool is_branch(u32 link) { return (link & IS_BRANCH) != 0; }
u32 way_of(u64 hash, u32 depth) {
    return static_cast<u32>(hash << depth * WAY_BITS >> (64 - WAY_BITS));
}

/// The end of a way through a client's tree: the link that leads to holders, or to none.
struct Place {
    Logged<u32>* link;
    u32 depth = 0;                // branches that were passed
    Logged<u32>* last = nullptr;  // the link that leads to the last one of these
};
Place place_of(u32 client, u64 address) {
    Place place{&share_client(client).first_reference};
    const u64 hash = hash_of(address);
    for (u32 at = *place.link; is_branch(at) && place.depth < DEEPEST; at = *place.link) {
        place.last = place.link;
        place.link = &branch_at(at).ways[way_of(hash, place.depth++)];
    }
    return place;
}

/// The holders at that place get a branch of their own.
void add_branch(const Place& place) {
    const u32 branch = new_holder_record();
    u32 ways[Branch::WAYS] = {};
    for (u32 i = *place.link, next; i != NO_RECORD; i = next) {
        next = holder_at(i).next;
        u32& way = ways[way_of(hash_of(holder_at(i).address), place.depth)];
        holder_at(i).next = way;
        way = i;
    }
    Branch made{};
    for (u32 i = 0; i < Branch::WAYS; ++i) made.ways[i].put(ways[i]);
    write_unreached(branch_at(branch), made);
    *place.link = branch | IS_BRANCH;
    AEP_SHARE_CRASH_POINT("share: branch made");
}

/// Branches on the way to that address that lead nowhere any more go.
void prune(u32 client, u64 address) {
    for (;;) {
        const Place place = place_of(client, address);
        if (*place.link != NO_RECORD || place.last == nullptr) return;
        const u32 branch = *place.last;
        for (const Logged<u32>& way : branch_at(branch).ways)
            if (way != NO_RECORD) return;
        *place.last = NO_RECORD;
        recycle_holder_record(branch & ~IS_BRANCH);
    }
}

void unlink_from_bucket(u32 index) {
    Logged<u32>* link = &export_bucket(export_at(index).address);
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

/// Of the chunks whose counts the log tells of, those that no export lies in any more, and that are
/// kept for them, go to the cache. Not before the exports have gone for good: the next moment the
/// chunk is another client's. What a kill leaves kept in here, recovery finds.
void SharingLock::give_freed_chunks(u32 length) {
    UndoLog& log = undo_log();
    const u32 oldest = log.freed - 1;
    log.freed = 0;
    // seq_cst: recovery marks a chunk as kept and then reads the count; one of us sees the other
    // and gives the chunk to the cache.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uptr first = reinterpret_cast<uptr>(&chunk_exports(0));
    const u32 chunks = context().chunk_count;
    for (u32 i = oldest; i < length; ++i) {
        const UndoEntry& entry = log.entries[i];
        const uptr at = (entry.address() - first) / sizeof(u32);
        if (entry.address() < first || at >= chunks) continue;
        const u32 count = entry.kind() == UndoEntry::FILL ? entry.count() : 1;
        for (u32 c = static_cast<u32>(at); c < at + count && c < chunks; ++c)
            if (chunk_exports(c) == 0) give_kept_chunk(c);
    }
}

void wake(SleepWords words) {
    // seq_cst: a waiter raises `waiters` and then reads the sequence; one of us sees the other.
    words.sequence.fetch_add(1, std::memory_order_seq_cst);
    if (words.waiters.load(std::memory_order_seq_cst) != 0)
        detail::futex(&words.sequence, detail::FUTEX_WAKE, ~0u >> 1);
}

bool is_open(ShareId id) {
    if (id.client() == 0 || id.client() > context().max_clients) return false;
    const ShareClient& c = share_client(id.client());
    return c.open.load() != 0 && id_of(id.client(), c.generation.load()).bits == id.bits;
}

// ---- records

bool is_record(u32 index) {
    return index != NO_RECORD && index < MAX_EXPORTS && index <= sharing().exports_used;
}

bool records_left(u32 exports, bool to_hold) {
    const ShareHeader& s = sharing();
    if (exports != 0 && s.free_exports == NO_RECORD && s.exports_used + 1 >= s.exports_present)
        return false;
    // One for the holder, and one for a branch.
    if (!to_hold || s.holders_used + 2 < s.holders_present) return true;
    const u32 first = s.free_holders;
    const u32 free = first == NO_RECORD ? 0 : holder_at(first).next == NO_RECORD ? 1 : 2;
    return free == 2 || s.holders_used + (2 - free) < s.holders_present;
}

// ---- exports

u32 find_export(u64 address) {
    u32 index = export_bucket(address);
    while (index != NO_RECORD && export_at(index).address != address) index = export_at(index).next;
    if (index == NO_RECORD) return NO_RECORD;
    const Export& e = export_at(index);
    return e.state == static_cast<u32>(ExportState::root) ? u32{e.group} : index;
}

u32 new_export() {
    ShareHeader& s = sharing();
    if (s.free_exports == NO_RECORD) return ++s.exports_used;
    const u32 index = s.free_exports;
    Export& e = export_at(index);
    e.next.keep();  // all that is read of a free record
    e.state.keep();
    s.free_exports = e.next;
    return index;
}

void recycle_export(u32 index) {
    Export& e = export_at(index);
    if (e.address != 0) unlink_from_bucket(index);
    e.state = static_cast<u32>(ExportState::free);
    e.next = sharing().free_exports;
    sharing().free_exports = index;
}

void unlink_from_owner(u32 index) {
    const ExportSide& e = side_at(index);
    if (e.previous_of_owner != NO_RECORD)
        side_at(e.previous_of_owner).next_of_owner = e.next_of_owner;
    else
        share_client(export_at(index).owner).first_export = e.next_of_owner;
    if (e.next_of_owner != NO_RECORD)
        side_at(e.next_of_owner).previous_of_owner = e.previous_of_owner;
}

u32 make_export(u32 client, u64 address, u64 bytes) {
    const u32 index = new_export();
    ++sharing().live_exports;
    ShareClient& owner = share_client(client);
    Logged<u32>& bucket = export_bucket(address);
    write_unreached(export_at(index), {.address = address,
                                       .bytes = bytes,
                                       .state = static_cast<u32>(ExportState::live),
                                       .owner = client,
                                       .next = bucket});
    write_unreached(side_at(index), {.next_of_owner = owner.first_export});
    bucket = index;
    if (owner.first_export != NO_RECORD) side_at(owner.first_export).previous_of_owner = index;
    owner.first_export = index;
    count_in_chunks(address, bytes, Count::one_more);
    AEP_SHARE_CRASH_POINT("share: export made");
    return index;
}

u32 make_foreign_export(u32 object) {
    const u32 index = new_export();
    ++sharing().live_exports;
    write_unreached(export_at(index), {.state = static_cast<u32>(ExportState::live),
                                       .owner = OWNER_ELSEWHERE,
                                       .object = object + 1});
    write_unreached(side_at(index), {});
    export_of_object(object) = index;
    return index;
}

void name_export(u32 index, u64 address, u64 bytes) {
    Export& e = export_at(index);
    if (e.address != 0) unlink_from_bucket(index);
    Logged<u32>& bucket = export_bucket(address);
    e.address = address;
    e.bytes = bytes;
    e.next = bucket;
    bucket = index;
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
        const bool orphan = e.owner == 0;
        if (!orphan)
            unlink_from_owner(index);
        else
            --sharing().orphans;
        count_in_chunks(e.address, e.bytes, orphan ? Count::one_orphan_less : Count::one_less);
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

u64 begin_group(u32 index) {
    Export& e = export_at(index);
    u64 number = ++sharing().groups_made;
    if (static_cast<u32>(number) == 0) number = ++sharing().groups_made;
    e.group = index;
    side_at(index).born = static_cast<u32>(number);
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

void remove_root(u32 group) {
    Export& e = export_at(group);
    if (e.root == NO_RECORD) return;
    recycle_export(e.root);
    e.root = NO_RECORD;
}

// ---- holders

u32 find_holder_at(u32 client, u64 address) {
    u32 index = *place_of(client, address).link;
    while (index != NO_RECORD && holder_at(index).address != address) index = holder_at(index).next;
    return index;
}

u32 hold(u32 client, u32 object) {
    const u64 address = export_at(object).address;
    Place place = place_of(client, address);
    u32 met = 0;
    for (u32 i = *place.link; i != NO_RECORD; i = holder_at(i).next, ++met) {
        if (holder_at(i).address != address) continue;
        ++holder_at(i).count;
        return i;
    }
    if (met >= LONGEST_CHAIN && place.depth < DEEPEST) {
        add_branch(place);
        place = place_of(client, address);
    }
    const u32 index = new_holder_record();
    write_unreached(holder_at(index),
                    {.address = address, .object = object, .count = 1, .next = *place.link});
    *place.link = index;
    ++share_client(client).objects_held;
    ++sharing().live_holders;
    AEP_SHARE_CRASH_POINT("share: holder made");
    return index;
}

void free_holder(u32 client, u32 holder) {
    const Holder& h = holder_at(holder);
    Export& e = export_at(h.object);
    if (e.writer == client) e.writer = 0;
    const u64 address = h.address;
    Logged<u32>* const first = place_of(client, address).link;
    Logged<u32>* link = first;
    while (*link != holder) link = &holder_at(*link).next;
    *link = h.next;
    recycle_holder_record(holder);
    --share_client(client).objects_held;
    --sharing().live_holders;
    if (*first == NO_RECORD) prune(client, address);
}

u32 any_holder(u32 client) {
    u32 at = share_client(client).first_reference;
    for (u32 depth = 0; is_branch(at) && depth < DEEPEST; ++depth) {
        const Branch& branch = branch_at(at);
        u32 way = 0;
        while (way + 1 < Branch::WAYS && branch.ways[way] == NO_RECORD) ++way;
        at = branch.ways[way];
    }
    return at;
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

Status find_held(u32 client, u64 address, u64 bytes, u32& holder) {
    holder = find_holder_at(client, address);
    if (holder != NO_RECORD) return Status::ok;
    if (const u32 object = find_export(address); object != NO_RECORD) {
        holder = find_holder(client, object);  // by its group's root, perhaps
        return holder != NO_RECORD ? Status::ok : Status::not_held;
    }
    if (!is_memory_of(client, address, bytes)) return Status::not_held;
    if (!records_left(1, true)) return Status::need_records;
    const u32 object = make_export(client, address, bytes);
    holder = hold(client, object);
    export_at(object).references = 1;
    return Status::ok;
}

}  // namespace aep
