// Purpose: the steps that the sharing operations are made of: exports are found, made and removed.
// Who calls it: the sharing operations, with the locks that each function names (turn.hpp).
// Crash rule: inside an operation, which completes or is undone.
#pragma once

#include "dsm-core/sharing/references.hpp"
#include "dsm-core/sharing/supply.hpp"

namespace aep {

/// Whether that inbox is open. Without its lock: it was or it is.
bool is_open(ShareId id);
/// Whose that inbox is, if it is open; 0: nobody's of this node. As above.
u32 client_of(ShareId id);

/// Whether there is an export with that index, or was one.
bool is_record(u32 index);

inline bool is_group(u32 index) { return index != NO_RECORD && export_at(index).group == index; }

/// The export of an object by its address; NO_RECORD: it is none. Under the address' stripe.
u32 find_export(u64 address);
/// Makes one with so many references, in the client's heap. Under the client's lock and the address' stripe.
u32 make_export(u32 client, u64 address, u64 bytes, u32 references);
/// Its address is known, or is another one from now on. Under the stripes of both, and its lock.
void name_export(u32 index, u64 address, u64 bytes);
/// It has no number between nodes any more, nor a reference of the node. Under its lock. False: given up.
[[nodiscard]] bool forget_number(Turn& turn, u32 index);
/// Who owns it as far as locks go: client 0 owns orphans and other nodes' objects.
inline u32 keeper_of(u32 owner) { return owner == OWNER_ELSEWHERE ? 0 : owner; }
/// The export is gone; its memory is the business of whoever calls this. Under the locks of its owner, of its stripe if
/// it has an address, and its own if anybody refers to it.
void free_export(u32 index);
/// Makes the export a group, by that client. Returns its number, which is not 0 and no other group of the context ever has.
u64 begin_group(u32 client, u32 index);
/// Gives the group a root, in place of the one it has; needs one export at the client's hand. Under the stripes of both.
void add_root(u32 client, u32 group, u64 address, u64 bytes);
/// The group has no root any more. Under the root's stripe.
void remove_root(u32 client, u32 group);
/// It is client 0's: its owner is dead. Under the locks of both, and its own.
void make_orphan(u32 index);
/// Takes `count` references away. True: the last one is gone. Under its lock.
bool take_references(u32 index, u32 count);
/// Whether the bytes lie in chunks that are the client's. Under its lock.
bool is_memory_of(u32 client, u64 address, u64 bytes);
/// The holder of an object that the client has references to; NO_RECORD: it lies in the client's own heap and has not been sent so far,
/// its stripe is locked, and there is a supply for an export (`to_hold`: and to hold it). Nothing changes. Under the client's lock; takes
/// the stripe if the client does not hold it.
Status find_held_or_own(Turn& turn, u32 client, u64 address, u64 bytes, bool to_hold, u32& holder);
/// The same; own memory becomes an export, with the owner's reference. Nothing changes unless ok.
Status find_held(Turn& turn, u32 client, u64 address, u64 bytes, u32& holder);

/// Makes an export with the owner's reference; its holder, with `spare` ones more. Under the client's lock, with its supply, and the stripe.
u32 export_own_memory(u32 client, u64 address, u64 bytes, u32 spare);

/// All counts, summed over the clients. Without locks: of no one moment while operations are under way.
struct ShareCounts {
    u64 exports = 0, orphans = 0, holders = 0, groups = 0, extents = 0, sent = 0, received = 0;
};
ShareCounts count_shares();

}  // namespace aep
