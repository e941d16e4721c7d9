// Purpose: aep node drain: a node leaves the pool without taking anything from anybody, while people look on.
// Who calls it: cli/main.cpp.
// Crash rule: the wish stands in the pool: what this command only shows goes on when it has ended.
#pragma once

#include "dsm-core/base/types.hpp"
#include "tools/cli/daemon_client.hpp"

namespace aep {

struct DrainOptions {
    u32 node = 0;
    double within_s = 60;
    bool wait = false;    // until other nodes have given up its objects
    bool cancel = false;  // it stays
};

/// The exit status: EXIT_WRONG: it is refused, or not done in time; then it goes on, and what keeps it is said.
int drain(const Target& target, const DrainOptions& options);

}  // namespace aep
