// Purpose: a client's references: a tree of its own, by the objects' addresses; and how many of an object's references each
//          client has to spare.
// Who calls it: the sharing operations, under the client's lock (turn.hpp).
// Crash rule: inside an operation, which completes or is undone.
//
// An export's count says how many references there are, and how many more its holders have to spare: what a client does next takes
// from those and adds to them. So a client that sends an object again and again, or drops it and is sent it, has the export's line
// to itself once in SPARE times. Of groups nobody has any to spare: their count is looked at without the lock.
#pragma once

#include "dsm-core/sharing/turn.hpp"

namespace aep {

/// So many references at once a client gets of an export, and gives back.
inline constexpr u32 SPARE = 128;

namespace detail {

/// As many branches one after the other as the hash has bits for.
inline constexpr u32 DEEPEST = 20;
inline constexpr u32 WAY_BITS = 3;
static_assert(Branch::WAYS == 1 << WAY_BITS && DEEPEST * WAY_BITS < 64);

inline bool is_branch(u32 link) { return (link & IS_BRANCH) != 0; }
inline u32 way_of(u64 hash, u32 depth) {
    return static_cast<u32>(hash << depth * WAY_BITS >> (64 - WAY_BITS));
}

}  // namespace detail

/// The client's references to the export at that address, not its root's; NO_RECORD: none. Under the client's lock. Cost:
/// three bits of the address' hash a branch, then a few records.
[[gnu::always_inline]] inline u32 find_holder_at(u32 client, u64 address) {
    u32 at = share_client(client).first_reference;
    for (u32 depth = 0; AEP_UNLIKELY(detail::is_branch(at)) && depth < detail::DEEPEST; ++depth)
        at = branch_at(at).ways[detail::way_of(hash_of(address), depth)];
    while (at != NO_RECORD && holder_at(at).address != address) at = holder_at(at).next;
    return at;
}
/// The client's references to the export; NO_RECORD: none.
[[gnu::always_inline]] inline u32 find_holder(u32 client, u32 object) {
    return find_holder_at(client, export_at(object).address.load());
}
/// The client's first reference to an export, which that counts already, and `spare` ones more. Its holder. Needs a supply.
u32 hold_anew(u32 client, u32 object, u32 spare);
/// The client holds that no more. Who holds a group no more does not write it either: under the export's lock, too.
void free_holder(u32 client, u32 holder);
/// One of the client's holders; NO_RECORD: it holds nothing.
u32 any_holder(u32 client);

/// References that the export counts for the holder.
inline u32 weight_of(const Holder& holder) { return holder.count + holder.spare; }

/// With none to spare: the export counts one more, and some to spare. Takes its lock. False: given up.
[[nodiscard]] bool get_more_to_spare(Turn& turn, u32 holder);
/// One that has gone is counted no more, nor some of those to spare. As above.
[[nodiscard]] bool give_some_back(Turn& turn, u32 holder);

/// A reference that the holder's client gives away, or keeps as one more. False: given up.
[[gnu::always_inline, nodiscard]] inline bool take_reference(Turn& turn, u32 holder) {
    Holder& h = holder_at(holder);
    if (AEP_UNLIKELY(h.spare == 0)) return get_more_to_spare(turn, holder);
    --h.spare;
    return true;
}
/// One of several references that the client has goes. False: given up.
[[gnu::always_inline, nodiscard]] inline bool drop_one_of_several(Turn& turn, u32 holder) {
    Holder& h = holder_at(holder);
    --h.count;
    // As long as it holds the object that stays a group, or none.
    const bool group = export_at(h.object).group.load() == h.object;
    if (AEP_UNLIKELY(group || h.spare >= 2 * SPARE)) return give_some_back(turn, holder);
    ++h.spare;
    return true;
}

/// One of the client's references is a message's from here on; with the last one goes what it has to spare. `left`: the group that the client
/// holds no more. Takes the export's lock if its count changes, or who holds a group. False: given up.
[[nodiscard]] bool move_reference(Turn& turn, u32 client, u32 holder, u64& left);

/// What other clients have to spare of the export: exact if they do nothing with it. Under its lock. Cost: a search a client.
u64 spare_of_others(u32 client, u32 object);
/// The references that another client has to the group, or some of them: under the group's lock alone. Cost: a search.
u64 references_of(u32 client, u32 group);

}  // namespace aep
