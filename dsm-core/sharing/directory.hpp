// Purpose: what nodes tell each other of their clients: ids and names, in the pool.
// Who calls it: the sharing operations (share_ops.cpp, away.cpp); clients look names up.
// Crash rule: an entry says nothing while its node is not live, and a node that joins clears its
// own. An
//             operation that is killed in a claim completes.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// Claims a name among all nodes for a client of this one. False: another has it, or two want it at
/// the same moment and the other's node comes first. Under the lock of sharing; announce() ends the
/// claim. Cost: two flushes, and a look at all clients of all nodes.
bool claim_name(u32 client, const char* name);

/// Tells other nodes that the client takes part, or (`open` 0) that it does not any more.
void announce(u32 client);

/// Whether an entry of this node's client says that a name is being claimed: announce() was not
/// reached.
bool is_claiming(u32 client);

/// Whether that client of another node takes part.
bool is_reachable(const era::Tables& tables, ShareId id);

/// The client of another living node with that name; 0: none. Linear in the clients of all nodes.
inline ShareId find_elsewhere(const char* name) {
    const era::Tables t = era_tables();
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        if (node == context().era_node || !era::is_live(t, node)) continue;
        for (u32 i = 1; i < t.shape.clients; ++i) {
            const era::DirectoryEntry& entry = t.client(node, i);
            const u64 id = entry.id.load();
            if (id != 0 && same_name(entry.name, name)) return ShareId{id};
        }
    }
    return {};
}

}  // namespace aep
