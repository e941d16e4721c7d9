// Purpose: the node's entry in the pool's node table: taken with a lock that shuts everybody out,
//          then kept by shared locks, one of the host and one of each client.
// Who calls it: whoever opens a context.
// Crash rule: until the lock is shared it is the host's alone and goes with it; afterwards the node
//             is dead when the last of its clients is, too.
#pragma once

#include <string>

#include "node/membership.hpp"
#include "node/node_pool.hpp"

namespace aep {

/// Takes an entry, named so, for the member that the context is (null: none), after reclaiming it
/// where its node is dead; the pool's owner from then on. Throws NodeError (ENOSPC: all are in use).
Owner take_entry(NodePool& pool, const std::string& name, const Membership* member);

/// Goes on as the node that the context is. False: it was reclaimed, or is being reclaimed.
bool share_entry(NodePool& pool, const std::string& name, Owner owner);

}  // namespace aep
