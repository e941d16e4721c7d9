// Purpose: what becomes of an export when the last reference of this node to it is gone: it goes
//          back to its owner, away, or it lingers; and which locks that takes.
// Who calls it: the sharing operations, inside an operation.
// Crash rule: inside an operation, which completes or is undone.
#pragma once

#include "dsm-core/sharing/records.hpp"

namespace aep {

/// An export whose last reference of this node is gone: given back, a group's parts first; or,
/// while the node itself has a reference, onto a list of those that linger. While an operation is
/// at work with it nothing happens: that one disposes of it afterwards. With the locks of lock_to_release().
/// False: given up.
[[nodiscard]] bool dispose(Turn& turn, u32 client, u32 index);

/// Takes the export off the list that is on it the longest; it may be in use again. NO_RECORD: none
/// is on it. Under the lock of lingering.
u32 next_lingering(Lingering& list);

/// Whether the client itself frees the object, its own, when nobody refers to it any more. With its lock; else that is a guess.
bool is_freed_by(u32 client, u32 index);

/// The locks that it takes to dispose of the export, besides its own and the client's, which `frees` what is_freed_by() it.
/// Without its lock that is a guess.
void add_locks_to_dispose(u32 client, u32 index, LockList& list, bool frees);

enum class Locked { yes, nothing, given_up };

/// One of the client's own objects that nobody refers to goes off its list of returned ones, of those that it has taken back already or
/// takes back all at once. Under the client's lock, and that of nobody if it is gone; if there is none, with its inbox from here on.
Locked remove_returned(Turn& turn, u32 client, u64& address);

/// Takes the locks under which so many references may be taken away from an export, and it may be disposed of if there is
/// none left. `wanted`: which other locks are needed, all of them; it grows. `find(index, count)`: says which, and how many, under
/// the locks of clients and inboxes; it is asked again whenever locks had to be let go of. False: there is none, and those are
/// held. `frees`: as above.
template <class Find>
Locked lock_to_release(Turn& turn, u32 client, LockList& wanted, bool frees, Find&& find) {
    for (;; turn.let_go()) {
        if (!turn.clients(wanted) || !turn.inboxes(wanted)) return Locked::given_up;
        u32 index = NO_RECORD, count = 0;
        if (!find(index, count)) return Locked::nothing;
        const Export& e = export_at(index);
        if (e.references.load() != count) {  // others have some: it stays
            if (!turn.stripes(wanted) || !turn.object(index)) return Locked::given_up;
            if (e.references != count) return Locked::yes;
            continue;  // they dropped theirs meanwhile
        }
        LockList needed = wanted;
        add_locks_to_dispose(client, index, needed, frees);
        if (!wanted.has_clients_of(needed) ||
            (wanted.has_inboxes() && !wanted.has_inboxes_of(needed))) {
            wanted = needed;
            continue;
        }
        if (!wanted.has_inboxes() && !turn.inboxes(needed)) return Locked::given_up;
        if (!turn.stripes(needed) || !turn.object(index)) return Locked::given_up;
        LockList now = wanted;
        add_locks_to_dispose(client, index, now, frees);
        if (needed.has_clients_of(now) && needed.has_inboxes_of(now) && needed.has_stripes_of(now))
            return Locked::yes;
        wanted = now;
    }
}

}  // namespace aep
