// Purpose: the list of the places where the kill test ends a process that works on a pool.
// Who calls it: dsm-core/pool, the pool sources in shim/, tests/unit/pool_crash_points.cpp.
// Crash rule: at each of these places a kill leaves a pool from which every chunk comes back.
#pragma once

#include "dsm-core/base/crash_point.hpp"

namespace aep {

inline constexpr const char* POOL_CRASH_POINTS[] = {
    "create: file made",        // without a name, or with a temporary one
    "create: header written",   // complete, not yet visible
    "create: named",            // visible, the creator has not opened it
    "node: locked",             // lock taken, entry still free
    "node: described",          // identity written, entry still free
    "node: live",               // entry says live, no life token yet
    "node: token mapped",       // complete
    "claim: one chunk of run",  // a run is being claimed, not all of it is
    "claim: whole run",         // claimed, the process does not know it yet
    "rollback: one chunk",      // a run could not be completed, one chunk has been given back
    "release: punched",         // the memory is gone, the words still say owned
    "release: one chunk",       // one word of the run is free
    "reclaim: locked",          // a dead node's lock is held
    "reclaim: announced",       // its entry says reclaiming
    "reclaim: punched",         // one chunk of it is clean, the word still says owned
    "reclaim: one chunk",       // one word is free
    "reclaim: all chunks",      // no word names the node, its entry says reclaiming
    "reclaim: entry free",      // done, the lock still held
    "freeze: token inherited",  // children will keep the node alive
    "freeze: one run",          // one run of chunks is private now
    "freeze: all runs",         // before the fork itself
    "fork: child",              // in the child, before it maps the pool again
    "grow: locked",             // nothing has changed
    "grow: memory there",       // the file is longer, the pool is not
    "grow: told",               // done, the lock still held
    "attach again: mapped",     // the child maps the pool, owns nothing
};

}  // namespace aep

#define AEP_POOL_CRASH_POINT(name) AEP_CRASH_POINT(::aep::POOL_CRASH_POINTS, name)
