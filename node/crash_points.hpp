// Purpose: the list of the places where the kill tests end a daemon.
// Who calls it: node, tests/node/crash_points.cpp.
// Crash rule: at each of these places a kill leaves a context that the next daemon goes on with.
#pragma once

#include "dsm-core/base/crash_point.hpp"

namespace aep {

inline constexpr const char* NODE_CRASH_POINTS[] = {
    "open: node taken",           // an entry of the pool is ours, the context has no name yet
    "open: context named",        // complete, nobody serves it yet
    "admit: locks taken",         // an entry that says free has its locks
    "admit: entry written",       // it says attaching, its domain is not made
    "admit: domain made",         // complete, the client has no descriptor yet
    "operation: slot taken",      // the host's slot has an owner, its sequence is even
    "operation: written",         // it holds all that the operation needs, its sequence is even
    "operation: begun",           // provider none: odd, nothing is done
    "operation: performed",       // even, the reply is not read
    "operation: slot freed",      // read
    "recover: dead",              // nothing done
    "recover: poisoned",          // the header says so, the slot is as it was
    "recover: one slot freed",    // others of the client are still used
    "recover: announced",         // all slots are free, the entry says recovering
    "recover: metadata cleared",  // one chunk's metadata is clear, the chunk is still the client's
    "recover: one chunk",         // one chunk is in the cache
    "recover: all chunks",        // none is the client's, its domain is as it was
    "recover: domain emptied",    // the entry still says recovering
    "decay: announced",           // a chunk of the cache says returning
    "decay: punched",             // its memory is gone, the pool says that it is ours
    "decay: free in the pool",    // the context still says returning
};

/// Of a host whose context is one of several nodes on a pool.
inline constexpr const char* MEMBER_CRASH_POINTS[] = {
    "join: live",               // the node is in use, nobody knows by whom
    "nodes: one is dead",       // nothing done
    "nodes: one is recovered",  // it is free
    "nodes: left",              // ours is free, the context is still there
};

/// Of an operation of the host's with a capture, between "operation: written" and "performed".
inline constexpr const char* CAPTURE_CRASH_POINTS[] = {
    "capture: stack written",  // as of a thread that has entered; the capture is an old one
    "capture: written",        // of the sequence that comes next; the slot's is still even
    "capture: in force",       // odd: whoever completes the slot performs the operation
};

/// When an operation that is left open is undone.
inline constexpr const char* ROLLBACK_CRASH_POINTS[] = {
    "rollback: undone",          // the lock is free, all is as it was; the sequence is odd
    "rollback: lanes settled",   // what it began between nodes has happened or not
    "rollback: nothing pinned",  // and the node's tables say the same
    "rollback: debts paid",      // who was to be woken is awake
};

}  // namespace aep

#define AEP_NODE_CRASH_POINT(name) AEP_CRASH_POINT(::aep::NODE_CRASH_POINTS, name)
#define AEP_CAPTURE_CRASH_POINT(name) AEP_CRASH_POINT(::aep::CAPTURE_CRASH_POINTS, name)
#define AEP_MEMBER_CRASH_POINT(name) AEP_CRASH_POINT(::aep::MEMBER_CRASH_POINTS, name)
#define AEP_ROLLBACK_CRASH_POINT(name) AEP_CRASH_POINT(::aep::ROLLBACK_CRASH_POINTS, name)
