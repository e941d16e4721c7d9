// Purpose: the named points of the sharing operations.
// Who calls it: the sharing operations, tools/torture.
// Crash rule: see dsm-core/base/crash_point.hpp.
#pragma once

#include "dsm-core/base/crash_point.hpp"

namespace aep {

inline constexpr const char* SHARE_CRASH_POINTS[] = {
    "share: export made", "share: message laid down", "share: message taken",
    "share: holder made", "share: reference dropped", "share: export removed",
    "share: group made",  "share: extent added",      "share: root set",
    "share: writer set",  "share: extent released",
};

}  // namespace aep

#define AEP_SHARE_CRASH_POINT(name) AEP_CRASH_POINT(::aep::SHARE_CRASH_POINTS, name)
