// Purpose: the named points of the node operations.
// Who calls it: node_ops.cpp, tools/torture.
// Crash rule: see dsm-core/base/crash_point.hpp.
#pragma once

#include "dsm-core/base/crash_point.hpp"

namespace aep {

inline constexpr const char* NODE_CRASH_POINTS[] = {
    "node: taken from the cache", "node: marked as claiming",   "node: claimed in the pool",
    "node: the client's",         "node: returned to the pool", "node: nobody's",
    "node: run complete",
};

}  // namespace aep

#define AEP_NODE_CRASH_POINT(name) AEP_CRASH_POINT(::aep::NODE_CRASH_POINTS, name)
