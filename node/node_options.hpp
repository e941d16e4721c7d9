// Purpose: how a node host is to serve: which context, with which pool and limits.
// Who calls it: the daemon and tests fill it in, the node host reads it.
// Crash rule: no state.
#pragma once

#include <optional>
#include <string>

#include "node/membership.hpp"
#include "node/paths.hpp"

namespace aep {

struct NodeOptions {
    ContextPaths paths;
    std::string image;                 // the image's file
    std::string pool;                  // empty: the context's own, or the one it was made with
    u64 pool_bytes = 0;                // of a new pool; 0: default
    PoolTerms terms;                   // of it; one that is there must be as they say
    std::optional<u64> context_limit;  // bytes of chunks; 0: none; not given: as it was
    std::optional<u64> client_limit;
    u32 max_clients = 0;  // 0: 1023, or fewer if nodes of the pool have fewer
    u32 max_slots = 8192;
    u64 decay_ms = 500;       // how long a chunk stays unused in the cache
    MembershipOptions nodes;  // as which of the pool's nodes
    bool verify = false;      // walk the heap of a dead client before it is thrown away
};

}  // namespace aep
