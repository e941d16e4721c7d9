// Purpose: see references.hpp.
// Who calls it: the sharing operations.
// Crash rule: inside an operation, which completes or is undone.
#include "dsm-core/sharing/references.hpp"

#include "dsm-core/sharing/crash_points.hpp"
#include "dsm-core/sharing/supply.hpp"

namespace aep {

using detail::is_branch, detail::way_of, detail::DEEPEST;

namespace {

/// Where more than so many references of a client meet, a branch comes between.
constexpr u32 LONGEST_CHAIN = 4;
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
void add_branch(u32 client, const Place& place) {
    const u32 branch = new_holder_record(client);
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
        recycle_holder_record(client, branch & ~IS_BRANCH);
    }
}

}  // namespace

u32 hold_anew(u32 client, u32 object, u32 spare) {
    const u64 address = export_at(object).address.load();
    Place place = place_of(client, address);
    u32 met = 0;
    for (u32 i = *place.link; i != NO_RECORD; i = holder_at(i).next) ++met;
    if (met >= LONGEST_CHAIN && place.depth < DEEPEST) {
        add_branch(client, place);
        place = place_of(client, address);
    }
    const u32 index = new_holder_record(client);
    write_unreached(holder_at(index), {.address = address,
                                       .object = object,
                                       .count = 1,
                                       .next = *place.link,
                                       .spare = spare,
                                       .client = client});
    *place.link = index;
    ++share_client(client).objects_held;
    AEP_SHARE_CRASH_POINT("share: holder made");
    return index;
}

void free_holder(u32 client, u32 holder) {
    const Holder& h = holder_at(holder);
    Export& e = export_at(h.object);
    if (e.writer == client) e.writer = 0;
    if (e.group == h.object) holder_at(holder).object = NO_RECORD;  // see find_holder_of_other()
    const u64 address = h.address;
    Logged<u32>* const first = place_of(client, address).link;
    Logged<u32>* link = first;
    while (*link != holder) link = &holder_at(*link).next;
    *link = h.next;
    recycle_holder_record(client, holder);
    --share_client(client).objects_held;
    if (*first == NO_RECORD) prune(client, address);
}

bool get_more_to_spare(Turn& turn, u32 holder) {
    Holder& h = holder_at(holder);
    if (!turn.object(h.object)) return false;
    Export& e = export_at(h.object);
    const u32 more = e.group == h.object ? 1 : SPARE;
    e.references += more;
    if (more != 1) h.spare = more - 1;
    return true;
}

bool give_some_back(Turn& turn, u32 holder) {
    Holder& h = holder_at(holder);
    if (!turn.object(h.object)) return false;
    const u32 less = h.spare == 0 ? 1 : SPARE;
    export_at(h.object).references -= less;
    if (less != 1) h.spare -= less - 1;
    return true;
}

bool move_reference(Turn& turn, u32 client, u32 holder, u64& left) {
    Holder& h = holder_at(holder);
    Export& e = export_at(h.object);
    const bool last = h.count == 1;
    const u32 spare = last ? u32{h.spare} : 0;
    const bool group = e.group.load() == h.object;  // that does not change as long as it is held
    if ((group || spare != 0) && !turn.object(h.object)) return false;
    if (spare != 0) e.references -= spare;
    if (last) {
        if (group) left = e.address;
        free_holder(client, holder);
    } else {
        --h.count;
    }
    AEP_SHARE_CRASH_POINT("share: reference moved");
    return true;
}

namespace {

/// Another client's holder of the export, with that one's lock or without: the way may be changed meanwhile and lead anywhere,
/// but it ends, and what it finds is that. (A holder that is freed refers to no group any more.) NO_RECORD: none was found.
u32 find_holder_of_other(u32 client, u32 object) {
    constexpr u32 LONGEST_LOOK = 64;
    const u64 hash = hash_of(export_at(object).address);
    const u32 used = sharing().holders_used.load();
    u32 at = share_client(client).first_reference.load();
    for (u32 depth = 0; is_branch(at) && (at & ~IS_BRANCH) <= used && depth < DEEPEST; ++depth)
        at = branch_at(at).ways[way_of(hash, depth)].load();
    for (u32 n = 0; n < LONGEST_LOOK && at != NO_RECORD && at <= used; ++n) {
        const Holder& h = holder_at(at);
        if (h.object.load() == object && h.client.load() == client) return at;
        at = h.next.load();
    }
    return NO_RECORD;
}

}  // namespace

u64 spare_of_others(u32 client, u32 object) {
    u64 spare = 0;
    for (u32 i = 1; i <= context().max_clients; ++i) {
        if (i == client) continue;
        if (const u32 holder = find_holder_of_other(i, object); holder != NO_RECORD)
            spare += holder_at(holder).spare.load();
    }
    return spare;
}

u64 references_of(u32 client, u32 group) {
    const u32 holder = find_holder_of_other(client, group);
    return holder == NO_RECORD ? 0 : holder_at(holder).count.load();
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

}  // namespace aep
