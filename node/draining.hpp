// Purpose: a node that is to leave the pool: takes no new clients, and goes when those that it has
//          have ended, and, if that is wished, when other nodes have given up its objects. What it
//          says of that is in its entry of the pool, for all nodes.
// Who calls it: the node host's sweep and admission (of the node itself), any node's daemon (aep
//          node drain), who shows nodes.
// Crash rule: one word says that it is wished, of one life of the node: a daemon that is started
//             again goes on, whoever asked may be gone, and a node that dies is recovered like any
//             other.
#pragma once

#include "dsm-core/era/format.hpp"

namespace aep {

/// What the pool says of it. Any node may have written it.
struct Draining {
    bool wished = false;  // in the node's present life
    // Until other nodes have given up its objects; else they keep them, in its chunks.
    bool waits = false;
    bool said = false;  // its daemon has said how far it is
    u64 clients = 0;    // that it has yet, as its daemon said last
    u64 objects = 0;    // of its own that other nodes hold, as far as it knows
};
Draining draining_of(const era::Tables& tables, u32 node);

/// Wishes that a living node leaves, or that it stays. Repeatable.
void wish_to_drain(const era::Tables& tables, u32 node, bool waits);
void wish_to_stay(const era::Tables& tables, u32 node);

/// By the node's daemon: how far it is. True: nothing keeps it any more.
bool tell_draining(const era::Tables& tables, u32 node, u64 clients, u64 objects);

}  // namespace aep
