// Purpose: aep node drain, as a daemon answers it: a node of the pool is to leave it, or to stay after all.
// Who calls it: daemon/commands.cpp.
// Crash rule: see node/draining.hpp.
#pragma once

#include <nlohmann/json.hpp>

#include "node/host.hpp"

namespace aep {

/// {"command": "node-drain", "node": NUMBER, "wait": BOOL, "cancel": BOOL}: the answer;
/// `generation`: the life of the node that is meant.
nlohmann::ordered_json drain_node(const NodeHost& host, const nlohmann::ordered_json& request);

/// How far a node is, of which that is wished; null: it stays.
nlohmann::ordered_json draining_json(const era::Tables& tables, u32 node);

}  // namespace aep
