// Purpose: the named points of the sharing operations.
// Who calls it: the sharing operations, tools/torture.
// Crash rule: see dsm-core/base/crash_point.hpp.
#pragma once

#include "dsm-core/base/crash_point.hpp"

namespace aep {

inline constexpr const char* SHARE_CRASH_POINTS[] = {
    "share: export made",         "share: message laid down",  "share: message taken",
    "share: holder made",         "share: reference dropped",  "share: export removed",
    "share: group made",          "share: extent added",       "share: root set",
    "share: writer set",          "share: extent released",    "share: branch made",
    "share: supply taken",        "share: inbox opened",       "share: inbox closed",
    "share: reference moved",     "share: returned one taken", "share: one of many sent",
    "share: one of many dropped", "share: topic opened",       "share: subscribed",
    "share: published",           "share: publication taken",  "share: topic closed",
};

/// Those of what crosses nodes: hit where a context is one of several on a pool.
inline constexpr const char* AWAY_CRASH_POINTS[] = {
    "away: number taken",        "away: created",       "away: message sent",
    "away: foreign export made", "away: message taken", "away: message dropped",
    "away: reference given up",
};

}  // namespace aep

#define AEP_SHARE_CRASH_POINT(name) AEP_CRASH_POINT(::aep::SHARE_CRASH_POINTS, name)
#define AEP_AWAY_CRASH_POINT(name) AEP_CRASH_POINT(::aep::AWAY_CRASH_POINTS, name)
