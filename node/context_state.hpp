// Purpose: whether the context is poisoned or fenced, and why; and how it becomes poisoned.
// Who calls it: the node host and its parts.
// Crash rule: why comes before that: a host that is killed in between has only written words that
//             nobody reads, and the next one finds the operation open again.
#pragma once

#include <string>

#include "dsm-core/context/format.hpp"
#include "node/log.hpp"

namespace aep {

bool is_poisoned();
/// Whether other nodes have declared this one dead.
bool is_fenced();
/// "operation 3 of client 2 (name, pid 17) was left open in slot 5"; empty when it is not poisoned.
std::string poison_text();

/// What is open in the slot can neither be completed nor undone. Whoever waits for what its thread
/// holds goes on. The first slot is the one that is told of. Safe from several threads.
void poison(u32 slot, const Log& log);

}  // namespace aep
