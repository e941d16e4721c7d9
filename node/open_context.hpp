// Purpose: opens the context that a host is to serve: goes on with the one that is there, or makes
//          a new one.
// Who calls it: the node host, once.
// Crash rule: a new context gets its name when it is complete, after its node's entry is taken; a
//             kill in between leaves a dead node, which any other reclaims.
#pragma once

#include "node/node_options.hpp"
#include "node/node_pool.hpp"
#include "node/pool_member.hpp"
#include "node/served_context.hpp"

namespace aep {

/// Opens and maps the context and its pool, as the node that it is. The serving lock is held.
/// Whether an earlier host's context was found. Throws NodeError.
bool open_context(const NodeOptions& options, NodePool& pool, PoolMember& member,
                  ServedContext& served);

}  // namespace aep
