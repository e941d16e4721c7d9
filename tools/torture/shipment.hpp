// Purpose: the torture's data structures: one group with a list, a tree and standard containers in
//          it, sent whole by its root, walked and verified by whoever receives it.
// Who calls it: the victim.
// Crash rule: its sender and its receivers are made to be killed.
#pragma once

#include <cstdint>

#include "include/aep/dsm.h"

namespace aep::torture {

/// Makes one of some 50 to 300 objects, by `seed`, sends it to up to two of `peers` (0: nobody),
/// and gives up the right to write. Where memory, or room for messages, runs out, less is sent.
void send_shipment(std::uint64_t seed, const dsm_id (&peers)[2]);

/// Whether that root is a shipment's. `bytes`: of the root.
bool is_shipment(const void* root, std::size_t bytes);

/// Walks everything in it. Null: all is as its sender made it; else what is not.
const char* verify_shipment(const void* root);

}  // namespace aep::torture
