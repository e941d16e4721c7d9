// Purpose: records of sharing that a client has at hand, so that what it makes and frees is no other's business.
// Who calls it: the sharing operations, with the locks that each function names (turn.hpp).
// Crash rule: inside an operation, which completes or is undone. What a client gets at hand it has from then on.
#pragma once

#include "dsm-core/sharing/turn.hpp"

namespace aep {

/// Under the client's lock, before any that comes later: it gets so many exports at hand, and records for one more
/// object that it holds. need_records: there are none; poisoned.
Status supply(Turn& turn, u32 client, u32 exports, bool to_hold);
/// What a client that is gone had at hand is others'. Under its lock.
void give_supply_up(Turn& turn, u32 client);

/// A record that is nobody's, from the client's supply. It is memory that nobody reaches until it
/// is linked somewhere (write_unreached).
u32 new_export(u32 client);
/// The record is the client's to use; it is in no chain and on no list. It is not made anew before the
/// next commit: of what it says only that it is free is logged then.
void recycle_export(u32 client, u32 index);
/// A record for a holder or a branch, from the client's supply; and back.
u32 new_holder_record(u32 client);
void recycle_holder_record(u32 client, u32 index);

}  // namespace aep
