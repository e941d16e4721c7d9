// Purpose: the named points of a domain's operations, between two stores of each.
// Who calls it: the heap's sources, tools/torture.
// Crash rule: see dsm-core/base/crash_point.hpp. A thread killed at any of these leaves the domain
// in
//             the middle of a change; a completer finishes it.
#pragma once

#include "dsm-core/base/crash_point.hpp"

namespace aep {

inline constexpr const char* HEAP_CRASH_POINTS[] = {
    "arena: part of a run claimed",  // masks say taken, its head has no tag yet
    "arena: run claimed",            // tagged, the lock still held
    "arena: tag cleared",            // a run is being given back
    "arena: part of a run given",    //
    "arena: chunk added",            // one of several
    "arena: purge begun",            // its slices are withdrawn
    "arena: purge ended",            // they are back, the lock still held
    "arena: chunk detached",         // no longer held, not yet in other hands
    "arena: object grown",           //
    "page: made",                    // described and tagged, on no list
    "page: listed",                  // complete
    "page: released",                // off its list, its run not yet given back
    "page: extended",                // it has more blocks, its queue does not know yet
    "heap: full page filed",         // between the queue and the full list
    "heap: remote list taken",       // its pages are in nobody's list
    "heap: page collected",          // remote frees taken in, its list not yet right
    "heap: page taken back",         // off its list by another thread, not yet given back
    "heap: acquired",                // live, its thread does not know it yet
    "heap: idle pages released",     // about to be abandoned
    "heap: abandoned",               // listed
    "remote: flag set",              // a page says that it is queued, and is on no list
    "remote: queued",                //
    "large: born",                   // counted, not yet tagged
    "large: freed",                  // no longer live, its run not yet given back
    "large: shrunk",                 // shorter, its tail not yet given back
    "free: refiling",                // a block came back, its page's list not yet right
};

}  // namespace aep

#define AEP_HEAP_CRASH_POINT(name) AEP_CRASH_POINT(::aep::HEAP_CRASH_POINTS, name)
